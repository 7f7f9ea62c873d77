"""The command line: words in, one call on the platform, text or JSON out.

Parsing, rendering and exit codes may live here. A branch on business meaning may not, and nothing heavier than
click may be imported before a command runs, so that `stook --help` stays quick.
"""
