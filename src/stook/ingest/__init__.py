"""Movement: from sources and pushes to history and the online store.

What moves data between two rooms may live here, and what decides what to move. It is the lowest room that sees
both offline and online; what only reads one of them may not live here.
"""
