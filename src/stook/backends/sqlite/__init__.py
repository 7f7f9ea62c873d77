"""The standard library's SQLite: records, and the log of pushed rows.

What keeps its state in a SQLite file may live here, all of it through `database.Database`, the one place that
opens, locks, checks and closes such a file. What a record or a payload means may not be known here.
"""
