"""What Alembic runs to take the steps: on the connection that it is handed, within the schema that it is handed.

It is a file of its own because Alembic looks for it beside the steps, and runs it as a script. Alembic alone calls it.
It must never connect anywhere, nor read a settings file.
"""

from __future__ import annotations

from alembic import context

given = context.config.attributes
context.configure(
    connection=given["connection"],
    version_table=given["layout_table"],
    version_table_schema=given["schema"],
)
with context.begin_transaction():
    context.run_migrations()
