"""The logical types of keys and features.

They are a file of their own because definitions must load without Arrow or NumPy, yet every room speaks of
the same types. Definitions use them; `core.arrow` gives each its Arrow form; codecs and engines switch on them.
They must never hold a value, a null rule or an engine's spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stook.core.errors import InvalidDefinition
from stook.core.names import check_case, check_field

DECIMAL_PRECISION_MAX = 38
VECTOR_LENGTH_MAX = 65_536
NESTING_DEPTH_MAX = 16


class DType:
    """A logical type. Equal types compare equal; `str()` gives the spelling used in messages and documents."""

    __slots__ = ()

    def to_spec(self) -> Any:
        """The JSON form, as stored in the registry."""
        raise NotImplementedError


@dataclass(frozen=True)
class Primitive(DType):
    """A type without parameters; the names exported below are its only instances."""

    name: str

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return PRIMITIVE_EXPORTS[self.name]

    def to_spec(self) -> Any:
        return self.name


@dataclass(frozen=True)
class Decimal(DType):
    """An exact decimal of `precision` digits, `scale` of them after the point; 1 <= precision <= 38."""

    precision: int
    scale: int

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= DECIMAL_PRECISION_MAX or not 0 <= self.scale <= self.precision:
            raise InvalidDefinition(
                f"Decimal({self.precision}, {self.scale}) is out of bounds",
                hint=f"1 <= precision <= {DECIMAL_PRECISION_MAX} and 0 <= scale <= precision",
            )

    def __str__(self) -> str:
        return f"decimal({self.precision}, {self.scale})"

    def to_spec(self) -> Any:
        return {"decimal": [self.precision, self.scale]}


@dataclass(frozen=True)
class Array(DType):
    """A list of any length; elements may be null."""

    element: DType

    def __post_init__(self) -> None:
        _check_nested("Array", self.element)

    def __str__(self) -> str:
        return f"array<{self.element}>"

    def to_spec(self) -> Any:
        return {"array": self.element.to_spec()}


@dataclass(frozen=True)
class Vector(DType):
    """A list of exactly `length` numbers, none of them null."""

    element: DType
    length: int

    def __post_init__(self) -> None:
        if self.element not in VECTOR_ELEMENTS:
            raise InvalidDefinition(
                f"Vector of {self.element} is not possible", hint="use Float32, Float64 or an integer type"
            )
        if not 1 <= self.length <= VECTOR_LENGTH_MAX:
            raise InvalidDefinition(f"Vector length {self.length} is out of bounds", hint=f"1 to {VECTOR_LENGTH_MAX}")

    def __str__(self) -> str:
        return f"vector<{self.element}, {self.length}>"

    def to_spec(self) -> Any:
        return {"vector": [self.element.to_spec(), self.length]}


@dataclass(frozen=True, init=False)
class Struct(DType):
    """Named fields in a fixed order: `Struct({"lat": Float64, "lon": Float64})`."""

    fields: tuple[tuple[str, DType], ...]

    def __init__(self, fields: Mapping[str, DType]) -> None:
        if not fields:
            raise InvalidDefinition("Struct needs at least one field", hint='Struct({"lat": Float64})')
        for dtype in fields.values():
            _check_nested("Struct", dtype)
        object.__setattr__(self, "fields", tuple(fields.items()))

    def __str__(self) -> str:
        return "struct<" + ", ".join(f"{n}: {t}" for n, t in self.fields) + ">"

    def to_spec(self) -> Any:
        return {"struct": [[n, t.to_spec()] for n, t in self.fields]}


@dataclass(frozen=True)
class Map(DType):
    """Key and value pairs in the order they were written; values may be null, keys not, and are single values."""

    key: DType
    value: DType

    def __post_init__(self) -> None:
        _check_nested("Map", self.key)
        _check_nested("Map", self.value)
        if not isinstance(self.key, MAP_KEYS):
            raise InvalidDefinition(f"Map with keys of {self.key} is not possible", hint="keys are single values")

    def __str__(self) -> str:
        return f"map<{self.key}, {self.value}>"

    def to_spec(self) -> Any:
        return {"map": [self.key.to_spec(), self.value.to_spec()]}


MAP_KEYS = (Primitive, Decimal)

Bool = Primitive("bool")
Int8 = Primitive("int8")
Int16 = Primitive("int16")
Int32 = Primitive("int32")
Int64 = Primitive("int64")
UInt8 = Primitive("uint8")
UInt16 = Primitive("uint16")
UInt32 = Primitive("uint32")
UInt64 = Primitive("uint64")
Float32 = Primitive("float32")
Float64 = Primitive("float64")
String = Primitive("string")
Bytes = Primitive("bytes")
Date = Primitive("date")
Time = Primitive("time")
Timestamp = Primitive("timestamp")

PRIMITIVES: dict[str, Primitive] = {
    p.name: p
    for p in (
        Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64,
        Float32, Float64, String, Bytes, Date, Time, Timestamp,
    )
}  # fmt: skip
PRIMITIVE_EXPORTS = {
    "bool": "Bool", "int8": "Int8", "int16": "Int16", "int32": "Int32", "int64": "Int64",
    "uint8": "UInt8", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
    "float32": "Float32", "float64": "Float64", "string": "String", "bytes": "Bytes",
    "date": "Date", "time": "Time", "timestamp": "Timestamp",
}  # fmt: skip
SIGNED = (Int8, Int16, Int32, Int64)
UNSIGNED = (UInt8, UInt16, UInt32, UInt64)
INTEGERS = (*SIGNED, *UNSIGNED)
FLOATS = (Float32, Float64)
VECTOR_ELEMENTS = (*FLOATS, *INTEGERS)
KEY_TYPES = (*INTEGERS, Bool, String, Bytes, Date, Timestamp)
INTEGER_BITS = {
    "int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64,
}  # fmt: skip


def _check_nested(outer: str, inner: object) -> None:
    if not isinstance(inner, DType):
        raise InvalidDefinition(f"{outer} of {inner!r} is not possible", hint="name a stook type such as Int64")
    if _depth(inner) >= NESTING_DEPTH_MAX:
        raise InvalidDefinition(f"{outer} is nested deeper than {NESTING_DEPTH_MAX} levels", hint="flatten it")


def _depth(dtype: DType) -> int:
    match dtype:
        case Array(element):
            return 1 + _depth(element)
        case Struct(fields):
            return 1 + max(_depth(t) for _, t in fields)
        case Map(key, value):
            return 1 + max(_depth(key), _depth(value))
        case _:
            return 1


def check_fields(where: str, dtype: DType) -> None:
    """Raises InvalidDefinition for a struct, at any depth, whose fields tables cannot keep: without a name, or told
    apart by case alone.

    It is asked where types are declared, not where they are built: what is stored must stay readable.

    >>> check_fields("feature 'x'", Array(Struct({"a": Int64})))
    """
    match dtype:
        case Array(element):
            check_fields(where, element)
        case Map(_, value):
            check_fields(where, value)
        case Struct(fields):
            check_case(where, (name for name, _ in fields))
            for name, inner in fields:
                check_field(f"{where}: field", name)
                check_fields(where, inner)


def from_spec(spec: Any) -> DType:
    """The type whose `to_spec()` is `spec`.

    Raises InvalidDefinition for anything else, as a newer stook or a damaged registry may hold.

    >>> from_spec({"array": "int64"})
    Array(element=Int64)
    """
    if isinstance(spec, str) and spec in PRIMITIVES:
        return PRIMITIVES[spec]
    if isinstance(spec, dict) and len(spec) == 1:
        ((kind, inner),) = spec.items()
        match kind:
            case "decimal":
                return Decimal(int(inner[0]), int(inner[1]))
            case "array":
                return Array(from_spec(inner))
            case "vector":
                return Vector(from_spec(inner[0]), int(inner[1]))
            case "struct":
                return Struct({n: from_spec(t) for n, t in inner})
            case "map":
                return Map(from_spec(inner[0]), from_spec(inner[1]))
    raise InvalidDefinition(f"unknown type {spec!r} in the registry", hint="was it written by a newer stook?")


def widens(old: DType, new: DType) -> bool:
    """Whether every value of `old` is exactly a value of `new`, so that stored rows stay readable.

    >>> widens(Int32, Int64), widens(Int64, Float64), widens(UInt32, Int64), widens(Float32, Float64)
    (True, False, True, True)
    """
    if old == new:
        return True
    if (old in SIGNED and new in SIGNED) or (old in UNSIGNED and new in UNSIGNED):
        return INTEGER_BITS[str(old)] < INTEGER_BITS[str(new)]
    if old in UNSIGNED and new in SIGNED:
        return INTEGER_BITS[str(old)] < INTEGER_BITS[str(new)]
    if old == Float32 and new == Float64:
        return True
    if old in INTEGERS and new in FLOATS:
        return INTEGER_BITS[str(old)] <= (16 if new == Float32 else 32)
    if isinstance(old, Decimal) and isinstance(new, Decimal):
        return new.scale >= old.scale and new.precision - new.scale >= old.precision - old.scale
    return False
