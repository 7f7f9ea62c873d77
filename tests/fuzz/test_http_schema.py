"""Fuzzing by the server's own description, and by right bodies made wrong. STOOK_TEST_FUZZ=10 tries ten times more.

Whatever is sent: no fault of the server, no word of its insides, and answers that are as the document says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from schemathesis import GenerationMode
from tests.servers import WAIT_S

from stook.edge.http.openapi import openapi

from . import bodies, served

pytestmark = pytest.mark.server

SEED = served.seed()
DOCUMENT = openapi()
OPERATIONS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]
REAL = {
    "deployment": [*served.FITS, "ranking", "late-1"],
    "kind": ["feature-view", "feature-service", "entity", "deployment", "release", "run", "dataset", "push-source"],
    "name": ["stats", "types", "driver", "ranking", "late", "late-1"],
    "view": ["stats", "types"],
    "push_source_name": ["typed"],
    "to": ["both", "online", "offline"],
}
schema = schemathesis.openapi.from_dict(DOCUMENT)


def examples(count: int) -> Any:
    """Settings of a test that tries so many times `factor`."""
    return settings(
        max_examples=max(1, int(count * served.factor())),
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[served.Running]:
    print(f"STOOK_TEST_SEED={SEED}")
    root = served.make_project(tmp_path_factory.mktemp("fuzz") / "demo", serve_lines="body_limit_mib = 1\n")
    with served.serving(root, workers=2) as running, served.unharmed(running):
        yield running


@pytest.fixture(scope="module")
def web(server: served.Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=WAIT_S) as client:
        yield client


def judge(answer: httpx.Response, method: str, path: str) -> None:
    """Asserts that an answer is a good one, and as the document says."""
    served.check_answer(answer)
    schema[path][method].validate_response(answer)


def filled(path: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        path = path.replace("{" + name + "}", quote(value, safe=""))
    return path


def parameters(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def may_be_wrong(method: str, path: str) -> bool:
    described = DOCUMENT["paths"][path][method.lower()]
    return bool(described.get("requestBody") or described.get("parameters"))


DRAWN = [
    *((*operation, GenerationMode.POSITIVE) for operation in OPERATIONS),
    *((*operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if may_be_wrong(*operation)),
]


@pytest.mark.parametrize(("method", "path", "mode"), DRAWN, ids=lambda part: getattr(part, "value", part))
def test_data_drawn_from_the_document(web: httpx.Client, method: str, path: str, mode: GenerationMode) -> None:
    operation = schema[path][method]

    @with_seed(SEED)
    @examples(8)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        for name in parameters(path):
            if data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(REAL[name]))
        answer = web.send(as_httpx(web, case))
        judge(answer, method, path)

    attempt()


def as_httpx(web: httpx.Client, case: Any) -> httpx.Request:
    """A generated case as a request of our client, which keeps one connection."""
    given_parts = case.as_transport_kwargs(base_url=str(web.base_url))
    parts = {name: given_parts.get(name) for name in ("params", "headers", "json", "cookies")}
    headers = parts["headers"] or {}
    parts["headers"] = {name: value for name, value in headers.items() if h11_takes(str(value))}
    data = given_parts.get("data")
    parts["content"] = data if data is None or isinstance(data, bytes) else str(data).encode("utf-8", "replace")
    return web.build_request(given_parts["method"], given_parts["url"], **parts)


def h11_takes(value: str) -> bool:
    """Whether the client would send such a header; raw sockets send the others, in a file of their own."""
    return value.isprintable() and value == value.strip() and value.isascii()


TRIES = {"/push": 300, "/get-online-features": 150, "/materialize": 25, "/materialize-incremental": 25}


@pytest.mark.parametrize("path", bodies.VALID)
def test_right_bodies_made_wrong(web: httpx.Client, path: str) -> None:
    statuses: Counter[int] = Counter()

    @with_seed(SEED)
    @examples(TRIES.get(path, 100))
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(bodies.VALID[path]).flatmap(bodies.spoiled))
        name = data.draw(st.sampled_from(list(served.FITS)), "deployment")
        headers = {"accept": served.ARROW} if data.draw(st.integers(0, 4)) == 0 else {}
        url = filled(path, {"deployment": name})
        answer = web.post(url, content=bodies.spell(body), headers=headers)
        statuses[answer.status_code] += 1
        judge(answer, "POST", path)

    attempt()
    assert statuses[200] and statuses[400] + statuses[422], f"it fuzzes nothing: {statuses}"


@pytest.mark.parametrize("path", bodies.VALID)
def test_right_bodies_are_right(web: httpx.Client, path: str) -> None:
    """What the fuzzer starts from reaches real code."""
    for body in bodies.VALID[path]:
        answered = []
        for name in served.FITS if "{deployment}" in path else [""]:
            answer = web.post(filled(path, {"deployment": name}), content=bodies.spell(body))
            judge(answer, "POST", path)
            answered.append(answer.status_code)
        assert 200 in answered, (body, answered, answer.text)


@pytest.mark.parametrize("path", bodies.VALID)
def test_right_bodies_with_bytes_changed(web: httpx.Client, path: str) -> None:
    @with_seed(SEED)
    @examples(40 if "materialize" not in path else 15)
    @given(st.sampled_from(bodies.VALID[path]), st.randoms(use_true_random=False), st.integers(1, 4))
    def attempt(body: Any, random: Any, changes: int) -> None:
        text = bytearray(json.dumps(body).encode())
        for _ in range(changes):
            at = random.randrange(len(text))
            text[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        judge(web.post(filled(path, {"deployment": "late"}), content=bytes(text)), "POST", path)

    attempt()


def test_arrow_bodies_with_bytes_changed(web: httpx.Client) -> None:
    streams = [served.arrow_bytes(table) for table in served.arrow_tables()]

    @with_seed(SEED)
    @examples(150)
    @given(st.sampled_from(streams), st.randoms(use_true_random=False), st.integers(0, 6), st.data())
    def attempt(stream: bytes, random: Any, changes: int, data: st.DataObject) -> None:
        body = bytearray(stream)
        for _ in range(changes):
            at = random.randrange(len(body))
            body[at] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)])
        if random.random() < 0.1:
            del body[random.randrange(len(body)) :]
        names = data.draw(st.sampled_from([{"view": "stats"}, {"view": "types"}, {"push_source_name": "typed"}, {}]))
        answer = web.post("/push", params=names, content=bytes(body), headers={"content-type": served.ARROW})
        judge(answer, "POST", "/push")

    attempt()


@pytest.mark.parametrize("path", [path for _, path in OPERATIONS if "{" in path])
def test_names_in_paths(web: httpx.Client, path: str) -> None:
    method = next(method for method, other in OPERATIONS if other == path)

    @with_seed(SEED)
    @examples(40)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        wild = st.one_of(st.sampled_from(bodies.WORDS), st.text(st.characters(codec="utf-8"), max_size=12))
        wild = wild.filter(lambda name: len(quote(name)) < 6_000)
        names = {name: data.draw(st.one_of(st.sampled_from(REAL[name]), wild)) for name in parameters(path)}
        body = {"content": b"{}"} if method == "POST" else {}
        answer = web.request(method, filled(path, names), **body)
        served.check_answer(answer)

    attempt()


def test_what_the_document_says_of_itself(web: httpx.Client, tmp_path: Path) -> None:
    del tmp_path
    assert web.get("/openapi.json").json() == json.loads(json.dumps(DOCUMENT))
