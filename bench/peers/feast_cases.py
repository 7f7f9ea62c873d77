"""Asks Feast and stook the same hard questions and writes docs/beside-feast.md with both answers side by side.

    python bench/peers/feast_cases.py [--upgrade] [--only ID ...] [--stook-alone]

It is a file of its own because it is the command; the questions, the adapters and the wording are modules beside it.
People run it, with stook installed. Feast gets an environment of its own, `.peers/feast` in the repository. It must
never fail because a store raises: what was raised is its answer. It ends with 1 where stook is wrong or refuses what it should answer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cells
import environments
import offline_questions
import online_questions
import page
import type_questions
import verdicts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "beside-feast.md"
PROCESS_LIMIT_S = 1_800
STORES = {"feast": ("feast file", "feast duckdb"), "stook": ("stook",)}
Env = tuple[tuple[str, str], ...]


def questions() -> list[dict[str, Any]]:
    """All of them, in the page's order, with what they leave unsaid."""
    found = []
    for section, module in (("offline", offline_questions), ("types", type_questions), ("online", online_questions)):
        for question in module.QUESTIONS:
            parts = question.get("parts") or [{"env": {}, "steps": question["steps"]}]
            asks = [step for part in parts for step in part["steps"]]
            found.append({**question, "section": section, "parts": parts, "asks": asks})
    return found


def jobs_of(asked: Iterable[dict[str, Any]], stores: Iterable[str], scratch: str) -> Iterator[tuple[int, Env, Any]]:
    """(part, environment, job): parts of one question run in that order, on one folder."""
    for question in asked:
        for store in stores:
            for run, outer in enumerate(question.get("envs", [{}])):
                folder = f"{scratch}/{question['id']}-{store.replace(' ', '-')}-{run}"
                for number, part in enumerate(question["parts"]):
                    env = tuple(sorted({**outer, **part["env"]}.items()))
                    job = {
                        "id": f"{question['id']}/{store}/{run}/{number}",
                        "folder": folder,
                        "views": question["views"],
                        "steps": part["steps"],
                        "fresh": number == 0,
                        "offline": store.partition(" ")[2],
                    }
                    yield number, env, job


def ask(peer: str, asked: list[dict[str, Any]], scratch: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Answers by job id, and versions. One process per part and environment, another where one dies."""
    groups: dict[tuple[int, Env], list[Any]] = {}
    for number, env, job in jobs_of(asked, STORES[peer], scratch):
        groups.setdefault((number, env), []).append(job)
    answers: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for (_, env), pending in sorted(groups.items()):
        left = pending
        while left:
            shown = " ".join(f"{name}={value}" for name, value in env)
            print(f"asking {peer} {len(left)} times {shown}".rstrip(), flush=True)
            code = _run(peer, env, left, answers, versions)
            left = [job for job in left if job["id"] not in answers]
            if left:
                answers[left[0]["id"]] = [{"raised": f"the process ended with {code}"}]
                left = left[1:]
    return answers, versions


def _run(peer: str, env: Env, jobs: list[Any], answers: dict[str, Any], versions: dict[str, str]) -> int:
    """One process of a peer; fills `answers` as they come."""
    python = str(environments.FEAST_PYTHON) if peer == "feast" else sys.executable
    around = {**(environments.feast_surroundings() if peer == "feast" else os.environ), **dict(env)}
    process = subprocess.Popen(
        [python, str(HERE / f"ask_{peer}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=around,
        text=True,
    )
    limit = threading.Timer(PROCESS_LIMIT_S, process.kill)
    limit.start()
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(jobs))
        process.stdin.close()
        for line in process.stdout:
            answer = json.loads(line)
            if "versions" in answer:
                versions.update(answer["versions"])
            else:
                answers[answer["id"]] = answer["answers"]
                if len(answers) % 20 == 0:
                    print(f"  {len(answers)} answers", flush=True)
    limit.cancel()
    return process.returncode


def collect(asked: list[dict[str, Any]], answers: dict[str, Any], stores: Iterable[str]) -> None:
    """Gives each question its `answers` (one list per process it ran in) and `verdicts`, by store."""
    for question in asked:
        question["answers"], question["verdicts"] = {}, {}
        for store in stores:
            runs = []
            for run in range(len(question.get("envs", [{}]))):
                ids = [f"{question['id']}/{store}/{run}/{number}" for number in range(len(question["parts"]))]
                runs.append([answer for job in ids for answer in answers[job]])
            judged = [verdicts.judge(question, store, run) for run in runs]
            question["answers"][store] = runs
            question["verdicts"][store] = [verdicts.worst(column) for column in zip(*judged, strict=True)]


def main() -> int:
    """Asks, judges, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest Feast, where one is installed already")
    parser.add_argument("--only", nargs="*", default=[], help="ids of questions; the page is not written then")
    parser.add_argument("--stook-alone", action="store_true", help="ask stook alone; the page is not written then")
    given = parser.parse_args()
    peers = ["stook"] if given.stook_alone else list(STORES)
    stores = [store for peer in peers for store in STORES[peer]]
    if "feast" in peers:
        environments.prepare_feast(upgrade=given.upgrade)
    asked = [question for question in questions() if not given.only or question["id"] in given.only]
    scratch = cells.scratch()
    try:
        answers, versions = {}, {}
        for peer in peers:
            found, versions[peer] = ask(peer, asked, scratch)
            answers |= found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    collect(asked, answers, stores)
    if given.only:
        print(json.dumps({question["id"]: [question["answers"], question["verdicts"]] for question in asked}, indent=1))
    print(page.terminal(asked, stores))
    if not given.only and not given.stook_alone:
        PAGE.write_text(page.write(asked, versions), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
    bad = {verdicts.WRONG, verdicts.REFUSED}
    return int(any(bad & set(question["verdicts"]["stook"]) for question in asked))


if __name__ == "__main__":
    sys.exit(main())
