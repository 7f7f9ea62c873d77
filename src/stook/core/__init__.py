"""The words and the doors: what every room speaks and calls.

A word used by three rooms, or a port to the world, may live here. Nothing here opens a file, a socket or a
thread, and nothing but `core.arrow` and `core.results_arrow` needs Arrow, so that `import stook` stays light.
"""
