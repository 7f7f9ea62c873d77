"""The one tree of errors that stook raises.

It is a file of its own so that every room, backend and face shares one vocabulary of failure. Every room
raises from it; only the faces in `stook.edge` translate it (to an exit code or an HTTP status). It must never
import anything, and no class here may be raised without a message that names the thing, the place and the mend.

The tree branches by what the reader should do::

    StookError
    ├── CallerError          fix the call
    │   ├── InvalidDefinition     a definition, or the file it stands in, is wrong
    │   ├── IncompatibleChange    the definition is fine but would break what is stored
    │   ├── InvalidArgument       a value passed to a call is wrong
    │   ├── InvalidSettings       stook.toml is wrong
    │   ├── NotAProject           the folder holds no stook.toml
    │   ├── UnknownFeature        a view or feature nobody defined
    │   ├── UnknownObject         any other name nobody defined
    │   ├── SchemaMismatch        data does not have the declared columns or types
    │   ├── SourceUnreadable      a source is absent, empty or malformed
    │   ├── TooLarge              a body or batch is over its limit
    │   ├── TooSlow               a body came in too slowly
    │   ├── Unauthorized          the token is missing or wrong
    │   ├── PickleRefused         loading code was not allowed
    │   ├── NotSupported          the engine declares that it cannot do this
    │   ├── FenceLost             a later holder of the lock has written
    │   └── NotRemote             only an embedded platform can do this
    ├── TryAgain             wait `retry_after_s`, then repeat the same call
    │   ├── EngineUnavailable     an engine does not answer
    │   ├── Conflict              somebody else changed it first
    │   ├── Busy                  somebody else holds it now, or load is too high
    │   ├── SessionLost           the session with the coordination store is over
    │   ├── OutcomeUnknown        a write was sent and no answer came: look first
    │   └── DiskFull              no space; nothing stored was harmed
    └── Fault                ours, or the machine's: report it
        ├── CorruptStore          stored bytes do not read back
        └── NewerStore            the store was written by a newer stook
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN_MAX = 80
REASON_LENGTH_MAX = 300
SUGGESTIONS_MAX = 3
SUGGEST_AMONG_MAX = 2_000  # names of a request's own may be as many as its bytes
SUGGEST_FOR_CHARACTERS_MAX = 512  # longer text is no misspelt name, and comparing it costs memory a character


class StookError(Exception):
    """The root. `message` says what and where, `hint` says the mend, `code` is the same over every door."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class CallerError(StookError):
    """The call, or a file it names, is wrong; repeating it unchanged fails again."""

    code = "invalid_call"


class InvalidDefinition(CallerError):
    """A definition is wrong in itself, or the file that holds it cannot be read."""

    code = "invalid_definition"


class IncompatibleChange(CallerError):
    """A change would break stored data, or did break what a release reads; the hint says how to proceed."""

    code = "incompatible_change"


class InvalidArgument(CallerError):
    """A value passed to a call is out of its bounds or of the wrong kind."""

    code = "invalid_argument"


class InvalidSettings(CallerError):
    """`stook.toml` names an unknown field or a value out of bounds."""

    code = "invalid_settings"


class NotAProject(CallerError):
    """The folder holds no `stook.toml`."""

    code = "not_a_project"


class UnknownFeature(CallerError):
    """No such view, feature or service; the hint names near ones."""

    code = "unknown_feature"


class UnknownObject(CallerError):
    """No such object of the kind asked for; the hint names near ones."""

    code = "unknown_object"


class SchemaMismatch(CallerError):
    """Data lacks a column, or a column's values cannot be kept exactly in the declared type."""

    code = "schema_mismatch"


class SourceUnreadable(CallerError):
    """A source's file is absent, empty or malformed, or its query fails."""

    code = "source_unreadable"


class TooLarge(CallerError):
    """A body, batch or nesting depth is over its limit."""

    code = "too_large"


class TooSlow(CallerError):
    """A request's body came in too slowly, or stopped coming."""

    code = "too_slow"


class Unauthorized(CallerError):
    """The server wants a token, and the call carries none or another."""

    code = "unauthorized"


class PickleRefused(CallerError):
    """The artefact is a pickle, which runs code when loaded, and `allow_pickle=True` was not said."""

    code = "pickle_refused"


class NotSupported(CallerError):
    """The chosen engine declares that it lacks this ability."""

    code = "not_supported"


class FenceLost(CallerError):
    """The write carries the token of a lock that a later holder has written under; it must not be repeated."""

    code = "fence_lost"


class NotRemote(CallerError):
    """Only an embedded platform can do this; the hint names the command to run beside the project."""

    code = "not_remote"


class TryAgain(StookError):
    """Nothing is wrong with the call; repeat it after `retry_after_s` seconds."""

    code = "try_again"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class EngineUnavailable(TryAgain):
    """An engine does not answer; what is stored is not in doubt."""

    code = "engine_unavailable"


class Conflict(TryAgain):
    """Somebody else changed the same thing first; read it again and repeat."""

    code = "conflict"


class Busy(TryAgain):
    """Somebody else holds what this call needs, or too much is asked at once."""

    code = "busy"


class SessionLost(TryAgain):
    """The session with the coordination store is over, and what it held is free; begin a new one first."""

    code = "session_lost"


class OutcomeUnknown(TryAgain):
    """A write was sent and no answer came: it is applied once or not at all. Look which, before repeating it."""

    code = "outcome_unknown"


class DiskFull(TryAgain):
    """The disk holding the store has no space left; nothing already stored was harmed."""

    code = "disk_full"


class Fault(StookError):
    """Not the caller's doing."""

    code = "fault"


class CorruptStore(Fault):
    """Stored bytes do not read back as they were written."""

    code = "corrupt_store"


class NewerStore(Fault):
    """The store was written by a newer stook than this one."""

    code = "newer_store"


def shown(value: object) -> str:
    """A value as Python writes it, for a message: cut where it is long.

    >>> shown("a"), len(shown("a" * 1000))
    ("'a'", 80)
    """
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."


def first_line(error: BaseException) -> str:
    """Another library's error, for a message of ours: its first line, shortened; its class where it says nothing.

    >>> first_line(ValueError("no such thing\\n  at line 3"))
    'no such thing'
    """
    if isinstance(error, OverflowError):  # it speaks of C's types
        return "a number is too large"
    return str(error).partition("\n")[0][:REASON_LENGTH_MAX] or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint naming what is close to `name`, or what there is when nothing is close.

    >>> did_you_mean("driver_stat", ["driver_stats", "customer"])
    "did you mean 'driver_stats'?"
    >>> did_you_mean("x", [])
    'nothing is defined yet: run `stook apply`'
    """
    names = sorted(set(known))
    if not names:
        return "nothing is defined yet: run `stook apply`"
    short = len(name) <= SUGGEST_FOR_CHARACTERS_MAX and len(names) <= SUGGEST_AMONG_MAX
    close = get_close_matches(name, names, n=SUGGESTIONS_MAX, cutoff=0.6) if short else []
    if close:
        return f"did you mean {' or '.join(repr(n) for n in close)}?"
    return f"there is: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
