"""The doors to the world.

A port is a Protocol of at most twelve methods whose docstrings state order, atomicity, idempotence and errors;
what an engine may lack is declared as an ability. Only ports and their value types live here; code that decides,
or that knows an engine, may not.
"""
