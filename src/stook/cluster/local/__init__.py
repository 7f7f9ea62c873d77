"""A cluster on one machine: what its servers are told, as text and commands.

Descriptions of servers may live here, a module a kind, and how to ask one how it is. Starting, writing and deciding when
may not (`app`). It imports `core` only.
"""
