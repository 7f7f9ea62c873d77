"""The proof, public: what shows that an engine or an implementation keeps its word.

Contract suites that every backend passes, and naive oracles that judge fast code, may live here; so that whoever
writes a backend can run them too. Tests of one module of ours may not: they live in `tests/`. The product never
imports this room.
"""
