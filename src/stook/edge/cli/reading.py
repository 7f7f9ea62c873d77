"""Commands that read: get-online-features, get-historical-features, parity, bench.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must only
translate.
"""

from __future__ import annotations

import time
from typing import Any

import click

from stook.core.errors import InvalidArgument
from stook.edge.cli.session import Session, command, parse_entities

group = click.Group("reading")
FEATURES = click.option(
    "-f", "--features", multiple=True, required=True, metavar="VIEW:FEATURE", help="A feature, or a service's name."
)
ENTITIES = click.option(
    "-e",
    "--entity",
    "entities",
    multiple=True,
    metavar="KEY=VALUE",
    help="Join keys; repeat, or VALUE,VALUE; with a comma inside: KEY='\"a,b\"'.",
)
FULL = click.option("--full-feature-names", is_flag=True, help="Answer view__feature.")
CLOCK = click.option("--clock", metavar="TIME", help="Freeze the platform's clock.")


def wanted(features: tuple[str, ...]) -> Any:
    """References as a list; one word without a colon is a service."""
    if len(features) == 1 and ":" not in features[0]:
        return features[0]
    return [part for feature in features for part in feature.split(",")]


@command(group, "get-online-features")
@FEATURES
@ENTITIES
@FULL
@CLOCK
def get_online_features(
    session: Session, features: tuple[str, ...], entities: tuple[str, ...], full_feature_names: bool, clock: str | None
) -> None:
    """Read features as they are now, with status and age."""
    from stook.app.texts import typed_columns  # start-up time: Arrow loads with it

    with session.platform(clock) as platform:
        read = platform.prepare(wanted(features), full_feature_names=full_feature_names)
        result = read(typed_columns(read.plan.keys, parse_entities(entities)))
    values, statuses, ages = result.to_dict(), result.statuses, result.ages
    times = result.event_timestamps
    keys = [name for name, _, _ in result.keys]
    rows = [
        (*(values[k][i] for k in keys), f, values[f][i], statuses[f][i], ages[f][i], times[f][i])
        for i in range(len(result))
        for f in result.feature_names
    ]
    value = {"values": values, "statuses": statuses, "event_timestamps": times, "ages": ages}
    session.table((*keys, "feature", "value", "status", "age (s)", "event time"), rows, value)


@command(group, "get-historical-features")
@click.argument("entities")
@FEATURES
@click.option("-o", "--output", metavar="FILE", help="Write Parquet or CSV here.")
@click.option("--save", metavar="NAME", help="Save as a dataset with a manifest.")
@click.option("--timestamp-field", default="event_timestamp", show_default=True, help="The label-time column.")
@click.option("--as-known-at", metavar="TIME|COLUMN", help="Count only what was known by then.")
@FULL
def get_historical_features(
    session: Session,
    entities: str,
    features: tuple[str, ...],
    output: str | None,
    save: str | None,
    **options: Any,
) -> None:
    """Join features to the rows of ENTITIES (Parquet, CSV or JSON lines) as they were at each row's time."""
    from stook.app.files import read_table, write_table  # start-up time: only commands that read files need it

    if output is None and save is None:
        raise InvalidArgument("nothing says where the result goes", hint="give -o FILE or --save NAME")
    times = (options["timestamp_field"], options["as_known_at"])
    with session.platform() as platform:
        labels = read_table(entities, platform.label_keys(wanted(features)), filter(None, times))
        retrieval = platform.get_historical_features(labels, wanted(features), **options)
        table = retrieval.to_arrow()
        value: dict[str, Any] = {"rows": table.num_rows, "columns": table.column_names}
        lines = [f"{table.num_rows} rows, {table.num_columns} columns"]
        if save is not None:
            manifest = retrieval.save(save)
            value["dataset"] = manifest.to_spec()
            lines.append(f"saved as dataset {save}")
        if output is not None:
            write_table(table, output)
            value["output"] = output
            lines.append(f"wrote {output}")
    session.answer(value, "\n".join(lines))


@command(group, "parity")
@FEATURES
@ENTITIES
@click.option("--entities-file", metavar="FILE", help="Entities from a file instead of -e.")
@CLOCK
def parity(
    session: Session, features: tuple[str, ...], entities: tuple[str, ...], entities_file: str | None, clock: str | None
) -> None:
    """Compare online answers with the offline join now, value by value. Exit code 1 when any differ."""
    from stook.app.files import read_table  # start-up time: only commands that read files need it
    from stook.app.texts import typed_columns  # start-up time: Arrow loads with it

    with session.platform(clock) as platform:
        read = platform.prepare(wanted(features))
        if entities_file is not None:
            found = read_table(entities_file, read.plan.keys)
        else:
            found = typed_columns(read.plan.keys, parse_entities(entities))
        report = platform.parity(wanted(features), found)
    value = {
        "entities": report.entities,
        "values": report.values,
        "differing": report.differing,
        "differences": [vars(d) for d in report.differences],
    }
    session.answer(value, str(report))
    if not report:
        raise click.exceptions.Exit(1)


@command(group, "bench")
@FEATURES
@ENTITIES
@click.option("--reads", default=2_000, show_default=True, type=click.IntRange(10, 1_000_000), help="How many reads.")
def bench(session: Session, features: tuple[str, ...], entities: tuple[str, ...], reads: int) -> None:
    """Time prepared in-process reads of these features for these entities."""
    from stook.app.texts import typed_columns  # start-up time: Arrow loads with it

    with session.platform() as platform:
        read = platform.prepare(wanted(features))
        request = typed_columns(read.plan.keys, parse_entities(entities))
        read(request).to_dict()
        taken = []
        for _ in range(reads):
            started = time.perf_counter()
            read(request).to_dict()
            taken.append(time.perf_counter() - started)
    taken.sort()
    names = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    value = {name: round(taken[int(q * (reads - 1))] * 1e6, 1) for name, q in names.items()}
    session.answer(
        {"reads": reads, "us": value}, " ".join(f"{n} {us} us" for n, us in value.items()) + f" of {reads} reads"
    )
