"""The embedded online store, on LMDB.

What opens, lays out, reads or writes the LMDB environment lives here; the `lmdb` driver is imported nowhere else.
What a value holds beyond its header, or when a view is loaded and why, may not.
"""
