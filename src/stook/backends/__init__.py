"""The engines behind the ports, one folder each.

A backend imports `core` and its own driver, nothing else of stook; nobody imports a backend: the app loads it by
entry point from the URL in `stook.toml`. What decides something about features may not live here.
"""
