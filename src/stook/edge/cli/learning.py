"""Commands about models: train, release, deploy, predict, rollback.

They are a file of their own so that a command loads only its like. `main` loads it by name. It must only
translate.
"""

from __future__ import annotations

import json
from typing import Any

import click

from stook.edge.cli.reading import CLOCK, ENTITIES, wanted
from stook.edge.cli.session import Session, as_rows, command, parse_entities

group = click.Group("learning")


def _pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    parsed = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint=option)
        parsed[name] = text
    return parsed


def _json_object(text: str | None, option: str) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from None
    if not isinstance(found, dict):
        raise click.BadParameter(f'it is no JSON object, such as {{"speed": 0.5}}: {text[:80]}', param_hint=option)
    return found


@command(group, "train")
@click.argument("name")
@click.option("--fit", required=True, metavar="FILE:FUNCTION", help="The function fit(data, params, run) -> model.")
@click.option("--dataset", required=True, help="The saved dataset to learn from.")
@click.option("--label", required=True, help="The column to predict.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A hyper-parameter.")
@click.option("--allow-pickle", is_flag=True, help="Let a model be stored as a pickle, which runs code when loaded.")
def train(
    session: Session, name: str, fit: str, dataset: str, label: str, params: tuple[str, ...], allow_pickle: bool
) -> None:
    """Train model NAME on a saved dataset and record the run."""
    from stook.app.code import load_function  # start-up time: only this command needs it
    from stook.app.texts import parse_parameter  # start-up time: Arrow loads with it

    with session.platform() as platform:
        function = load_function(fit, session.project)
        run = platform.train(
            name,
            function,
            data=platform.dataset(dataset),
            label=label,
            params={param: parse_parameter(text) for param, text in _pairs(params, "-p").items()},
            allow_pickle=allow_pickle,
        )
    lines = [f"run {run.id}: {run.status}"] + [f"  {metric} {value:.6g}" for metric, value in run.metrics.items()]
    session.answer({"run": run.id, "status": run.status, "metrics": run.metrics}, "\n".join(lines))


@command(group, "release")
@click.argument("name")
@click.argument("run")
@click.option("-f", "--features", multiple=True, metavar="VIEW:FEATURE", help="Features to look up, or a service.")
@click.option("--output", default="predict", show_default=True, help="The model's method: predict or predict_proba.")
@click.option("--full-feature-names", is_flag=True, help="The inputs are named view__feature.")
def release(
    session: Session, name: str, run: str, features: tuple[str, ...], output: str, full_feature_names: bool
) -> None:
    """Make RUN's model an immutable release of model NAME."""
    with session.platform() as platform:
        made = platform.release(
            name, run, features=wanted(features) if features else None, output=output,
            full_feature_names=full_feature_names,
        )  # fmt: skip
    requested = [column.name for column in made.request_inputs]
    lines = [f"release {made.id}"] + ([f"  comes with the request: {', '.join(requested)}"] if requested else [])
    session.answer({"release": made.id, "request_inputs": requested}, "\n".join(lines))


@command(group, "deploy")
@click.argument("name")
@click.argument("release_id", metavar="RELEASE")
def deploy(session: Session, name: str, release_id: str) -> None:
    """Let deployment NAME answer with RELEASE."""
    with session.platform() as platform:
        state = platform.deploy(name, release_id)
    value = {"deployment": name, "release": state.release, "generation": state.generation}
    session.answer(value, f"{name} answers with {state.release}")


@command(group, "rollback")
@click.argument("name")
def rollback(session: Session, name: str) -> None:
    """Let deployment NAME answer with the release before."""
    with session.platform() as platform:
        state = platform.rollback(name)
    value = {"deployment": name, "release": state.release, "generation": state.generation}
    session.answer(value, f"{name} answers with {state.release}")


@command(group, "predict")
@click.argument("name")
@ENTITIES
@click.option(
    "-r",
    "--request",
    "requests",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input that is no feature, for all rows.",
)
@click.option("--request-json", metavar="JSON", help="The same as a JSON object, written as over HTTP.")
@click.option("--allow-pickle", is_flag=True, default=None, help="Let a release stored as a pickle answer.")
@CLOCK
def predict(
    session: Session,
    name: str,
    entities: tuple[str, ...],
    requests: tuple[str, ...],
    request_json: str | None,
    allow_pickle: bool | None,
    clock: str | None,
) -> None:
    """Ask deployment NAME for predictions."""
    from stook.app.texts import typed_columns, typed_request  # start-up time: Arrow loads with it
    from stook.core.jsoncolumns import request_from_json  # start-up time: with the line above

    spelled, texts = _json_object(request_json, "--request-json"), _pairs(requests, "-r")
    with session.platform(clock) as platform:
        keys, inputs = platform.prediction_keys(name), platform.prediction_inputs(name)
        typed = typed_columns(keys, parse_entities(entities)) if entities else None
        request = {**request_from_json(spelled, inputs, int64_text=True), **typed_request(inputs, texts)}
        result = platform.predict(name, entities=typed, request=request, allow_pickle=allow_pickle)
    if session.as_json:
        session.answer(result.to_dict(), "")
        return
    session.say(f"release {result.release}")
    columns = {"prediction": result.predictions}
    session.table(tuple(columns), as_rows(columns))
    rows = [
        (feature, values[row], result.statuses[feature][row], result.ages[feature][row])
        for feature, values in result.features.items()
        for row in range(len(values))
    ]
    session.table(("feature", "value", "status", "age (s)"), rows)
