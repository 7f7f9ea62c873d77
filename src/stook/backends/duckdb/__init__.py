"""The embedded offline engine: DuckDB behind the `Engine` port.

Admission rule: what turns plans into DuckDB SQL, finds and pins the files of a source, or reads DuckDB's answers,
may live here. Which rows a plan asks for is decided in `core.plans` and the rooms above; nothing here writes to a
store of ours, and no other module of stook knows DuckDB's SQL.
"""
