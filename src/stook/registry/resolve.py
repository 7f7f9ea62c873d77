"""From what a caller asks for to what is read: references, views, projections and services, resolved.

It is a file of its own because online reads, historical reads and models must all resolve alike. Platform verbs
call it with a catalogue. It must never read a store, and it is pure: the same catalogue and features give the
same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stook.core.definitions import FeatureService, FeatureView, Projection
from stook.core.errors import InvalidArgument, UnknownFeature, did_you_mean
from stook.core.names import full_name, parse_reference
from stook.core.plans import ReadPlan, ViewRead
from stook.core.specs import Column, ServiceSpec
from stook.registry.catalogue import Catalogue

Features = str | FeatureService | ServiceSpec | FeatureView | Projection | Sequence["str | FeatureView | Projection"]
FEATURES_MAX = 10_000


def resolve_features(catalogue: Catalogue, features: Features, *, full_feature_names: bool = False) -> ReadPlan:
    """What to read for `features`: `view:feature` references, views, projections, or a service (object or name).

    Features of one projection are read together; the answer keeps the order asked. Short names are answered, full
    ones with `full_feature_names` or where two views share a short name. Raises UnknownFeature with near names,
    InvalidArgument (nothing asked, the same feature twice, one key column with two types, one name for two columns).
    """
    projections = _projections(catalogue, features)
    asked: list[tuple[str, str, str]] = []  # alias, feature, view
    for projection in projections:
        view = catalogue.view(projection.view)
        known = [c.name for c in view.features]
        for name in projection.features or known:
            if name not in known:
                raise UnknownFeature(
                    f"feature view {view.name!r} has no feature {name!r}", hint=did_you_mean(name, known)
                )
            asked.append((projection.alias, name, view.name))
    if not asked or len(asked) > FEATURES_MAX:
        raise InvalidArgument(f"{len(asked)} features were asked for", hint=f"ask for 1 to {FEATURES_MAX}")
    names = _answer_names(asked, full_feature_names)
    reads = _reads(catalogue, projections, asked, names)
    keys = _request_keys(reads)
    _check_apart(names, [key.name for key in keys])
    return ReadPlan(reads, keys, tuple(names), catalogue.stamp)


def expand(catalogue: Catalogue, features: Features) -> tuple[Projection, ...]:
    """The projections that `features` ask for, each naming its features one by one. Raises as `resolve_features`."""
    return tuple(
        p if p.features else replace(p, features=tuple(c.name for c in catalogue.view(p.view).features))
        for p in _projections(catalogue, features)
    )


def _projections(catalogue: Catalogue, features: Features) -> list[Projection]:
    if isinstance(features, str):
        if ":" not in features:
            return list(catalogue.service(features).projections)
        features = [features]
    if isinstance(features, FeatureService):
        stored = catalogue.services.get(features.name)
        return list(stored.projections if stored is not None else features.features)
    if isinstance(features, ServiceSpec):
        return list(features.projections)
    if isinstance(features, FeatureView | Projection):
        features = [features]
    if not isinstance(features, Sequence):
        raise InvalidArgument(f"features is {features!r}", hint='give ["view:feature", ...], views, or a service')
    projections = []
    for item in features:
        if isinstance(item, FeatureView):
            projections.append(item.projection)
        elif isinstance(item, Projection):
            projections.append(item)
        else:
            reference = parse_reference(item)
            projections.append(Projection(reference.view, (reference.feature,)))
    return projections


def _answer_names(asked: list[tuple[str, str, str]], full: bool) -> list[str]:
    full_names = [full_name(alias, feature) for alias, feature, _ in asked]
    repeated = sorted({n for n in full_names if full_names.count(n) > 1}) if len(set(full_names)) < len(asked) else []
    if repeated:
        raise InvalidArgument(f"asked for twice: {', '.join(repeated)}", hint="ask once, or use view.with_name()")
    if full:
        return full_names
    counts: dict[str, int] = {}
    for _, feature, _ in asked:
        counts[feature] = counts.get(feature, 0) + 1
    return [feature if counts[feature] == 1 else name for (_, feature, _), name in zip(asked, full_names, strict=True)]


def _check_apart(names: list[str], keys: list[str]) -> None:
    """Refuses an answer of which two columns would have one name: one would hide the other."""
    taken = set(keys)
    for name in names:
        if name in taken:
            what = "a join key of another view" if name in keys else "another feature's full name"
            raise InvalidArgument(
                f"feature {name!r} is named like {what}",
                hint="use full_feature_names=True" if name in keys else "ask for them apart",
            )
        taken.add(name)


def _reads(
    catalogue: Catalogue, projections: list[Projection], asked: list[tuple[str, str, str]], names: list[str]
) -> tuple[ViewRead, ...]:
    """One read per (view, alias, join-key map): features asked one by one are read together."""
    outputs: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[tuple[str, str]]] = {}
    position = 0
    for projection in projections:
        view = catalogue.view(projection.view)
        count = len(projection.features or view.features)
        for key, _ in projection.join_key_map:
            if key not in view.key_names:
                raise InvalidArgument(
                    f"feature view {view.name!r} has no join key {key!r}", hint=did_you_mean(key, view.key_names)
                )
        group = outputs.setdefault((view.name, projection.alias, projection.join_key_map), [])
        for (_, feature, _), name in zip(
            asked[position : position + count], names[position : position + count], strict=True
        ):
            group.append((feature, name))
        position += count
    return tuple(
        ViewRead(
            view=catalogue.view(view),
            keys=tuple((key, dict(mapping).get(key, key)) for key in catalogue.view(view).key_names),
            outputs=tuple(group),
        )
        for (view, _, mapping), group in outputs.items()
    )


def _request_keys(reads: tuple[ViewRead, ...]) -> tuple[Column, ...]:
    """The request's key columns in order of first use, each with the one type that all views agree on."""
    keys: dict[str, Column] = {}
    for read in reads:
        for (_, name), column in zip(read.keys, read.view.keys, strict=True):
            before = keys.setdefault(name, Column(name, column.dtype))
            if before.dtype != column.dtype:
                raise InvalidArgument(
                    f"join key {name!r} is {before.dtype} in one view and {column.dtype} in {read.view.name!r}",
                    hint="give the entities the same type, or map one with with_join_key_map()",
                )
    return tuple(keys.values())
