"""Records in a SQL database through SQLAlchemy Core.

What any dialect does alike, and the one module of what dialects do differently, may live here; what decides about a
record's kind may not. PostgreSQL is the database that this is for; other dialects are kept possible, not promised.
"""
