"""Trained models as bytes, and back.

It is a file of its own because what may be stored and loaded safely is decided here and nowhere else: LightGBM
models as LightGBM's own text, scikit-learn models through skops with a closed list of types, and anything else
as a pickle, which runs code when loaded and so must be allowed by name on both ends. Training packages, the
predictor cache loads. It must never unpickle without `allow_pickle`, nor trust a type by the prefix of its name.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
import platform
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from stook.core.errors import CorruptStore, InvalidArgument, NotSupported, PickleRefused, first_line
from stook.models import predictors
from stook.models.trusted import TRUSTED_TYPES

if TYPE_CHECKING:
    from types import ModuleType

    from stook.core.ports.blobs import Blobs
    from stook.core.specs import JsonObject
    from stook.models.predictors import Predictor

Format = Literal["lightgbm-text", "skops", "cloudpickle"]
FORMATS: Final = ("lightgbm-text", "skops", "cloudpickle")
OUTPUTS: Final = ("predict", "predict_proba")
TYPES_SHOWN_MAX: Final = 5
_PICKLE_HINT: Final = "say allow_pickle=True where you trust it (training, and again where it is served)"
PICKLE_ERRORS: Final = (pickle.PicklingError, TypeError, ValueError, AttributeError, RecursionError)
READ_ERRORS: Final = (
    pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError,
)  # fmt: skip
_by_value = threading.Lock()


@dataclass(frozen=True)
class Package:
    """A model as bytes, with what loading it needs.

    `requirements` maps libraries to their numbers when it was made. `outputs` are the methods it answers
    (`predict`, `predict_proba`). `details` are facts that the bytes do not hold, such as a classifier's classes.
    """

    format: Format
    data: bytes = field(repr=False)
    requirements: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("predict",)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Artefact:
    """A stored package: where its bytes are, their SHA-256, and the rest of the package."""

    key: str
    sha256: str
    size_bytes: int
    package: Package

    def to_spec(self) -> JsonObject:
        """JSON form, without the bytes."""
        return {
            "key": self.key,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "format": self.package.format,
            "requirements": dict(self.package.requirements),
            "outputs": list(self.package.outputs),
            "details": dict(self.package.details),
        }

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> Artefact:
        """The inverse of `to_spec`; the package holds no bytes."""
        package = Package(
            spec["format"], b"", dict(spec["requirements"]), tuple(spec["outputs"]), dict(spec["details"])
        )
        return Artefact(spec["key"], spec["sha256"], spec["size_bytes"], package)


def store(blobs: Blobs, run: str, package: Package) -> Artefact:
    """Puts the package's bytes under `runs/<run>/<sha256>`. Repeating it is harmless. Raises DiskFull, EngineUnavailable."""
    sha256 = hashlib.sha256(package.data).hexdigest()
    key = f"runs/{run}/{sha256}"
    blobs.put(key, package.data)
    return Artefact(key, sha256, len(package.data), package)


def fetch(blobs: Blobs, artefact: Artefact) -> Package:
    """The package with its bytes. Raises CorruptStore when they are not those that were stored, UnknownObject when gone."""
    data = blobs.get(artefact.key)
    found = hashlib.sha256(data).hexdigest()
    if found != artefact.sha256:
        raise CorruptStore(
            f"artefact {artefact.key!r} has SHA-256 {found}, not {artefact.sha256}",
            hint="restore the blob from a backup, or train and release again",
        )
    plain = artefact.package
    return Package(plain.format, data, plain.requirements, plain.outputs, plain.details)


def package(model: object, *, allow_pickle: bool = False, script: str | None = None) -> Package:
    """The model as bytes, in the safest format that holds it.

    A `lightgbm.Booster` or an estimator of LightGBM's scikit-learn API becomes LightGBM's text, cut at the best
    iteration (which is what it predicts with), plus the classes; parameters that change prediction itself, such
    as `pred_early_stop`, are not kept. Any other scikit-learn estimator goes through skops. The rest is pickled
    by cloudpickle when `allow_pickle`; what the module named `script` (where `fit` stands) defines is then pickled
    by value. Raises PickleRefused, NotSupported for a missing library, InvalidArgument for what is no model.
    """
    lightgbm, sklearn = sys.modules.get("lightgbm"), sys.modules.get("sklearn.base")
    if lightgbm is not None and isinstance(model, lightgbm.Booster):
        return _lightgbm_text(model, {"api": "booster"}, ("predict",))
    if lightgbm is not None and isinstance(model, lightgbm.LGBMModel):
        return _lightgbm_estimator(model, lightgbm)
    if sklearn is not None and isinstance(model, sklearn.BaseEstimator):
        return _estimator(model, allow_pickle=allow_pickle, script=script)
    if model is None:
        raise InvalidArgument("fit returned None, not a model", hint="end it with `return model`")
    if not callable(model) and not callable(getattr(model, "predict", None)):
        raise InvalidArgument(
            f"fit returned a {type(model).__name__}, which neither has predict() nor can be called",
            hint="return a LightGBM or scikit-learn model, or a callable that takes an Arrow table",
        )
    if not allow_pickle:
        raise PickleRefused(
            f"a {_type_name(model)} can only be stored as a pickle, which runs code when loaded", hint=_PICKLE_HINT
        )
    return _pickle(model, script)


def load(package: Package, *, output: str = "predict", allow_pickle: bool = False) -> Predictor:
    """The packaged model, ready to answer by its method `output`.

    Raises PickleRefused for a pickle without `allow_pickle`, NotSupported when a library is missing or differs
    in major or minor number from the one that a skops or pickle package was made with (LightGBM's text is read by
    any), CorruptStore when the bytes are no model.
    """
    check_output(package, output)
    if package.format == "cloudpickle" and not allow_pickle:
        raise PickleRefused("the model is stored as a pickle, which runs code when loaded", hint=_PICKLE_HINT)
    check_requirements(package.format, package.requirements)
    match package.format:
        case "lightgbm-text":
            return predictors.load_lightgbm(package.data, package.details, output)
        case "skops":
            return predictors.EstimatorPredictor(_load_skops(package.data), output)
        case "cloudpickle":
            return predictors.of_object(_unpickle(package.data), output)
    raise NotSupported(f"artefact format {package.format!r} is unknown", hint="was it made by a newer stook?")


def check_output(package: Package, output: str) -> None:
    """Raises InvalidArgument when the model has no method of that name."""
    if output not in package.outputs:
        raise InvalidArgument(
            f"the model has no output {output!r}",
            hint=f"it has {' and '.join(package.outputs)}"
            + ("; a Booster's predict answers the score itself" if package.format == "lightgbm-text" else ""),
        )


def check_requirements(stored_as: Format, requirements: Mapping[str, str]) -> None:
    """Raises NotSupported when loading under the installed libraries could fail or answer differently."""
    for library, wanted in requirements.items():
        found = platform.python_version() if library == "python" else installed(library)
        if found is None:
            raise NotSupported(
                f"the model needs {library}, which is not installed", hint=f'pip install "{library}=={wanted}"'
            )
        exact = stored_as != "lightgbm-text" and library not in ("skops", "cloudpickle", "numpy")
        if exact and found.split(".")[:2] != wanted.split(".")[:2]:
            series = ".".join(wanted.split(".")[:2])
            mend = f"run it under Python {series}" if library == "python" else f'pip install "{library}=={series}.*"'
            raise NotSupported(
                f"the model was made with {library} {wanted}, here is {found}, which may load it wrongly",
                hint=f"{mend}, or train and release again",
            )


def installed(library: str) -> str | None:
    """The installed library's number; None when it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(*libraries: str) -> dict[str, str]:
    found = {library: installed(library) for library in libraries}
    return {library: number for library, number in found.items() if number is not None}


def _type_name(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _lightgbm_text(booster: Any, details: dict[str, Any], outputs: tuple[str, ...]) -> Package:
    if booster.num_trees() == 0 and booster.num_feature() == 0:
        raise InvalidArgument("the LightGBM model is empty", hint="train it before returning it")
    return Package("lightgbm-text", booster.model_to_string().encode(), _numbers("lightgbm"), outputs, details)


def _lightgbm_estimator(model: Any, lightgbm: ModuleType) -> Package:
    if not model.__sklearn_is_fitted__():
        raise InvalidArgument(f"the {type(model).__name__} is not fitted", hint="call its fit() before returning it")
    if not isinstance(model, lightgbm.LGBMClassifier) or callable(model.objective_):
        return _lightgbm_text(model.booster_, {"api": "booster"}, ("predict",))
    classes = model.classes_.tolist()
    if not all(isinstance(c, bool | int | float | str) for c in classes):
        raise InvalidArgument(
            f"the classes {classes[:5]} are not plain", hint="use text, integers or booleans as labels"
        )
    return _lightgbm_text(model.booster_, {"api": "classifier", "classes": classes}, OUTPUTS)


def _estimator(model: Any, *, allow_pickle: bool, script: str | None) -> Package:
    try:
        import skops.io as skops  # optional driver: only scikit-learn models need it
        from skops.io.exceptions import UnsupportedTypeException  # optional driver: with the line above
    except ImportError:
        if allow_pickle:
            return _pickle(model, script)
        raise NotSupported(
            "scikit-learn models are stored by skops, which is not installed", hint="pip install skops"
        ) from None
    try:
        data = skops.dumps(model)
        unknown = sorted(set(skops.get_untrusted_types(data=data)) - TRUSTED_TYPES)
        reason = f"holds {', '.join(unknown[:TYPES_SHOWN_MAX])}, not known to be safe" if unknown else ""
    except (UnsupportedTypeException, TypeError, ValueError, AttributeError) as error:
        reason = f"cannot be written by skops: {first_line(error)}"
    if not reason:
        return Package("skops", data, _numbers("scikit-learn", "skops", "numpy"), predictors.methods(model))
    if not allow_pickle:
        raise PickleRefused(
            f"the {type(model).__name__} {reason}; it can only be stored as a pickle", hint=_PICKLE_HINT
        )
    return _pickle(model, script)


def _pickle(model: Any, script: str | None) -> Package:
    try:
        import cloudpickle  # optional driver: only pickled models need it
    except ImportError:
        raise NotSupported(
            "pickled models need cloudpickle, which is not installed", hint="pip install cloudpickle"
        ) from None
    with _own_code_by_value(cloudpickle, script):
        try:
            data = cloudpickle.dumps(model)
        except PICKLE_ERRORS as error:
            raise InvalidArgument(
                f"the {_type_name(model)} cannot be pickled: {first_line(error)}",
                hint="keep connections, locks and open files out of the model",
            ) from error
    top = type(model).__module__.partition(".")[0]
    library = {"sklearn": "scikit-learn"}.get(top, top)
    numbers = {"python": platform.python_version(), **_numbers("cloudpickle", library)}
    if isinstance(model, _estimator_types()):
        numbers |= _numbers("scikit-learn")
    return Package("cloudpickle", data, numbers, predictors.methods(model))


def _estimator_types() -> tuple[type, ...]:
    sklearn = sys.modules.get("sklearn.base")
    return () if sklearn is None else (sklearn.BaseEstimator,)


@contextmanager
def _own_code_by_value(cloudpickle: ModuleType, script: str | None) -> Iterator[None]:
    """Pickles what the user's script defines by value: where the model is served the script cannot be imported."""
    module = sys.modules.get(script) if script else None
    if module is None or script == "__main__":  # cloudpickle pickles __main__ by value anyway
        yield
        return
    with _by_value:  # the registry is one for the process: training in two threads must not undo each other
        cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def _load_skops(data: bytes) -> Any:
    try:
        import skops.io as skops  # optional driver: only scikit-learn models need it
    except ImportError:
        raise NotSupported("the model needs skops, which is not installed", hint="pip install skops") from None
    return _reading(lambda: _load_trusted(skops, data), "skops")


def _load_trusted(skops: ModuleType, data: bytes) -> Any:
    found = set(skops.get_untrusted_types(data=data))
    if unknown := sorted(found - TRUSTED_TYPES):
        raise PickleRefused(
            f"the skops artefact names types not known to be safe: {', '.join(unknown[:TYPES_SHOWN_MAX])}",
            hint="it was not packaged by this stook; train and release it again",
        )
    return skops.loads(data, trusted=sorted(found))


def _unpickle(data: bytes) -> Any:
    try:
        import cloudpickle  # optional driver: only pickled models need it
    except ImportError:
        raise NotSupported(
            "the model needs cloudpickle, which is not installed", hint="pip install cloudpickle"
        ) from None
    return _reading(lambda: cloudpickle.loads(data), "pickle")


def _reading(read: Callable[[], Any], what: str) -> Any:
    try:
        return read()
    except ImportError as error:
        raise NotSupported(
            f"the model names {error.name or error}, which cannot be imported here",
            hint="install it where the model is served, or define the model's code in the file of its fit function",
        ) from error
    except READ_ERRORS as error:
        raise CorruptStore(
            f"the {what} artefact does not read back: {first_line(error)}",
            hint="train and release it again under the libraries installed here",
        ) from error
