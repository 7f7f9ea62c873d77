"""Typical bugs, planted one at a time: what is changed where, and the test that must notice.

It is a file of its own because the list is read by people, in the conformance report. `test_mutants` plants them. It
must never hold a change that a test is known to miss: such a bug needs a test first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A bug: `before` stands exactly once in the file (below `src/stook`) and becomes `after`.

    `test` is the one test that is run, as pytest's -k; `case` the case its world holds, where it is one.
    """

    bug: str
    file: str
    before: str
    after: str
    test: str
    case: str = ""


MUTANTS = (
    Mutant(
        "`<` for `<=` at the label time",
        "backends/duckdb/compile.py",
        '+ ["l.limit_us >= h.event_us"]',
        '+ ["l.limit_us > h.event_us"]',
        "embedded-parquet-at_label_time",
        "at_label_time",
    ),
    Mutant(
        "ttl counted from now",
        "backends/duckdb/compile.py",
        'f"WHERE l.label_us - h.event_us <= {ttl_us}"',
        'f"WHERE epoch_us(now()) - h.event_us <= {ttl_us}"',
        "embedded-parquet-ttl_from_label",
        "ttl_from_label",
    ),
    Mutant(
        "composite keys concatenated",
        "online/keys.py",
        '_TERMINATOR: Final = b"\\0\\0"',
        '_TERMINATOR: Final = b""',
        "embedded-parquet-key_text_pair",
        "key_text_pair",
    ),
    Mutant(
        "ties by file order alone",
        "backends/duckdb/compile.py",
        'SELECT {tied}, max({pack("knowledge_us", "arrival")}) AS top',
        'SELECT {tied}, max({pack("event_us", "arrival")}) AS top',
        "embedded-parquet-tie_by_created",
        "tie_by_created",
    ),
    Mutant(
        "only the first chunk of a pushed table",
        "ingest/accept.py",
        "    table = as_table(data, what, (*view.keys, *view.features))\n",
        "    table = as_table(data, what, (*view.keys, *view.features))\n"
        "    table = pa.Table.from_batches(table.to_batches()[:1], table.schema)\n",
        "embedded-push-order_kept",
        "order_kept",
    ),
    Mutant(
        "integers beside nulls through floats",
        "core/arrow.py",
        "    if held.type == target:\n",
        "    if dtype == dtypes.Int64 and held.null_count:\n"
        "        chunked = held = held.cast(pa.float64(), safe=False).cast(target, safe=False)\n"
        "    if held.type == target:\n",
        "embedded-parquet-type_int64_nulls",
        "type_int64_nulls",
    ),
    Mutant(
        "an older write wins",
        "core/rows.py",
        "return mine > other",
        "return True",
        "embedded-push-older_event_later_row",
        "older_event_later_row",
    ),
    Mutant(
        "a stale generation is read after a switch",
        "backends/lmdb/keyvalue.py",
        "    number, live, overlay_rows = records.unpack_space(found)\n",
        "    number, live, overlay_rows = records.unpack_space(found)\n"
        '    live = vars(_read).setdefault(f"{id(handles.env)} {number}", live)\n',
        "test_pushes_survive_a_switch_and_a_rollback and embedded",
    ),
    Mutant(
        "labels without a match are dropped",
        "offline/retrieval.py",
        "            table = table.append_column(name, joined.column(column))\n        return table\n",
        "            table = table.append_column(name, joined.column(column))\n        return table.drop_null()\n",
        "embedded-parquet-unknown_key",
        "unknown_key",
    ),
    Mutant(
        "rows come back in another order",
        "offline/retrieval.py",
        "            table = table.append_column(name, joined.column(column))\n        return table\n",
        "            table = table.append_column(name, joined.column(column))\n"
        "        return table.sort_by(table.column_names[0])\n",
        "embedded-parquet-order_kept",
        "order_kept",
    ),
    Mutant(
        "an expired value is served",
        "online/view_reader.py",
        "                if event_us < oldest_us:\n",
        "                if event_us < oldest_us - 1:\n",
        "embedded-parquet-ttl_boundary",
        "ttl_boundary",
    ),
    Mutant(
        "a null is said to be present",
        "online/view_reader.py",
        "_NULL_VALUE if cell is None and status == _PRESENT else status",
        "status",
        "embedded-parquet-five_statuses",
        "five_statuses",
    ),
    Mutant(
        "a deleted entity comes back",
        "ingest/entries.py",
        "    rows = table.replace_schema_metadata(None)",
        '    table = table.set_column(table.num_columns - 1, "__deleted", pa.array(np.zeros(table.num_rows, bool)))\n'
        "    rows = table.replace_schema_metadata(None)",
        "test_a_deleted_entity_stays_deleted and embedded",
    ),
    Mutant(
        "what was not known yet leaks",
        "backends/duckdb/compile.py",
        "FROM (SELECT * FROM {LABELS} WHERE known_us = label_us) AS l",
        "FROM (SELECT row_id, label_us + 36000000000 AS label_us, known_us, * EXCLUDE (row_id, label_us, known_us)"
        " FROM {LABELS} WHERE known_us = label_us) AS l",
        "embedded-parquet-created_after_label",
        "created_after_label",
    ),
    Mutant(
        "naive times are local times",
        "core/arrow.py",
        '    unit, raw = values.type.unit, values.cast(pa.int64())\n',
        "    if values.type.tz is None:\n"
        '        values = pc.assume_timezone(values, "Asia/Tokyo")\n'
        "    unit, raw = values.type.unit, values.cast(pa.int64())\n",
        "test_labels_of_every_zone_and_kind and embedded",
    ),
)  # fmt: skip
