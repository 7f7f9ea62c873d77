"""The steps of the store's layout, taken by Alembic in order.

A step that is released never changes. Steps expand first (new tables, new columns that may be null) and contract in a
later release, so that processes of the release before can go on while a newer one opens the store.
"""
