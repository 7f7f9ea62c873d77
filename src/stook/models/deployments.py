"""Deployments: names that answer with a release, moved by compare-and-set.

It is a file of its own because it is the edge of the pure `models.rollout`: it reads a record, lets it decide,
and writes. The app calls it; servers read through `get_deployment` whenever the records' revision moves. It must never
change a release, nor repeat a rollback by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stook.core.errors import Conflict, CorruptStore, InvalidArgument, InvalidDefinition
from stook.core.names import check_name
from stook.core.ports.records import ABSENT, Put
from stook.models import rollout
from stook.models.releases import Release, get_release
from stook.models.rollout import Deployment
from stook.models.store import DEPLOYMENT, ModelStore, require

if TYPE_CHECKING:
    from stook.core.ports.records import Records

Check = Callable[[Release], object]


def get_deployment(records: Records, name: str) -> Deployment:
    """The deployment. Raises UnknownObject, naming near ones."""
    return Deployment.from_spec(require(records, DEPLOYMENT, name).spec)


def live_features(records: Records) -> dict[tuple[str, str], str]:
    """(view, feature) of everything that live releases look up, each with a deployment that does."""
    found = {}
    for record in records.list(DEPLOYMENT):
        lookup = get_release(records, Deployment.from_spec(record.spec).release).lookup
        for answer in lookup.answers if lookup is not None else ():
            found[answer.view, answer.feature] = record.name
    return found


def deploy(
    store: ModelStore, name: str, release_id: str, *, expected: int | None = None, check: Check | None = None
) -> Deployment:
    """Lets the deployment answer with the release, in one step; makes the deployment when there is none.

    `expected` is the generation it must stand at (0: it must not exist). `check` raises for a release that cannot
    answer, which is then not deployed. Deploying the release that already answers changes nothing. Raises UnknownObject
    for no such release, CorruptStore when its artefact is gone, Conflict when the generation is another or somebody else
    moved it meanwhile.
    """
    try:
        check_name("deployment", name)
    except InvalidDefinition as error:
        raise InvalidArgument(error.message, hint=error.hint) from None
    _check_release(store, release_id, check)
    record = store.records.get(DEPLOYMENT, name)
    state = None if record is None else Deployment.from_spec(record.spec)
    _check_generation(name, state, expected)
    moved = rollout.deploy(state, release_id, store.clock.now_us())
    if moved is not state:
        _write(store, name, moved, ABSENT if record is None else record.revision)
    return moved


def roll_back(store: ModelStore, name: str, *, expected: int | None = None, check: Check | None = None) -> Deployment:
    """Lets the release before answer again, in one compare-and-set; again: the one before that.

    A deploy after a rollback starts from there. Raises UnknownObject for no such deployment, InvalidArgument when
    there is no release before, and CorruptStore, Conflict and what `check` raises as `deploy` does: nothing is rolled
    back then.
    """
    record = require(store.records, DEPLOYMENT, name)
    state = Deployment.from_spec(record.spec)
    _check_generation(name, state, expected)
    try:
        moved = rollout.roll_back(state, store.clock.now_us())
    except InvalidArgument as error:
        raise InvalidArgument(f"deployment {name!r}: {error.message}", hint=error.hint) from None
    _check_release(store, moved.release, check)
    _write(store, name, moved, record.revision)
    return moved


def _check_release(store: ModelStore, release_id: str, check: Check | None) -> None:
    release = get_release(store.records, release_id)
    if not store.blobs.exists(release.artefact.key):
        raise CorruptStore(
            f"release {release_id!r} has lost its artefact {release.artefact.key!r}", hint="restore it from a backup"
        )
    if check is not None:
        check(release)


def _check_generation(name: str, state: Deployment | None, expected: int | None) -> None:
    found = 0 if state is None else state.generation
    if expected is not None and expected != found:
        raise Conflict(
            f"deployment {name!r} stands at generation {found}, not {expected}", hint="look again, then repeat"
        )


def _write(store: ModelStore, name: str, state: Deployment, revision: int) -> None:
    try:
        store.records.commit([Put(DEPLOYMENT, name, state.to_spec(), expected=revision)])
    except Conflict:
        raise Conflict(
            f"deployment {name!r} was moved by somebody else meanwhile", hint="look again, then repeat"
        ) from None
