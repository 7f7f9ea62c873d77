"""A user's query as a relation, with its relative paths starting at the project's folder.

It is a file of its own because DuckDB resolves paths against the process's folder first, so that one definition
would read other files when started elsewhere. Describing and scanning a `SqlSource` call it. It must never change
what a query means: only names of files are touched, in DuckDB's own parse tree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb

from stook.core.errors import SourceUnreadable

GLOB_ESCAPES: Final = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})
_FILE: Final = re.compile(r"\.(parquet|csv|tsv|json|jsonl|ndjson)(\.gz|\.zst)?\Z", re.IGNORECASE)
_READERS: Final = re.compile(r"(read_\w+|parquet_\w+|sniff_csv|glob)\Z", re.IGNORECASE)
_ELSEWHERE: Final = re.compile(r"[/~]|\w+:")


def query_relation(cursor: duckdb.DuckDBPyConnection, query: str, root: Path) -> str:
    """The query as a FROM item. Raises SourceUnreadable where it is not one SELECT."""
    (serialized,) = _row(cursor, "SELECT json_serialize_sql(CAST(? AS VARCHAR))", query)
    tree = json.loads(serialized)
    if tree["error"] and tree["error_type"] == "parser":
        raise SourceUnreadable(
            f"the query cannot be parsed: {tree['error_message']}", hint="mend the SqlSource's query"
        )
    if tree["error"] or len(tree["statements"]) != 1:
        raise SourceUnreadable("the query is not one SELECT", hint="write a single SELECT statement")
    if _start_at(root, tree):
        (text,) = _row(cursor, "SELECT json_deserialize_sql(CAST(? AS JSON))", json.dumps(tree))
    else:
        text = duckdb.extract_statements(query)[0].query.strip().rstrip(";")
    return f"({text}\n)"  # the line break ends a comment


def _row(cursor: duckdb.DuckDBPyConnection, text: str, argument: str) -> tuple[str]:
    (found,) = cursor.sql(text, params=[argument]).fetchall()
    return found


def _start_at(root: Path, tree: Any) -> bool:
    """Makes the relative files named in a parse tree absolute, in place; whether there were any."""
    changed = False
    for node in _nodes(tree):
        if node.get("type") == "BASE_TABLE":
            path = ".".join(node["qualified_name"]["path"])
            if _FILE.search(path) and not _ELSEWHERE.match(path):
                absolute = _absolute(root, path)
                node |= {"table_name": absolute, "schema_name": "", "catalog_name": ""}
                node["qualified_name"]["path"] = [absolute]
                changed = True
        if node.get("type") == "TABLE_FUNCTION" and _READERS.match(node["function"]["function_name"]):
            for literal in _literals(node["function"]["arguments"][:1]):
                if not _ELSEWHERE.match(literal["text"]):
                    literal["text"] = _absolute(root, literal["text"])
                    changed = True
    return changed


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a parse tree."""
    if isinstance(tree, dict):
        yield tree
    for inner in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(inner)


def _literals(arguments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The text literals of a function's arguments, themselves or in a list."""
    found = []
    for argument in arguments:
        expression = argument["expression"]
        if expression.get("literal", {}).get("kind") == "STRING":
            found.append(expression["literal"])
        elif expression.get("function_name") == "list_value":
            found += _literals(expression["arguments"])
    return found


def _absolute(root: Path, path: str) -> str:
    return f"{str(root).translate(GLOB_ESCAPES)}/{path}"
