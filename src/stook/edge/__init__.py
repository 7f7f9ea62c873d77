"""The faces: HTTP, command line; each translates, and calls `app` and `core` only.

Parsing, rendering, status and exit codes may live here. A branch on business meaning is a mistake here.
"""
