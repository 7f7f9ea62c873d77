"""What is declared: definitions resolved, compared, stored with revisions, and found again by name.

Anything about *what is declared* may live here. Anything about data (rows, files, stores of values) may not: where
a type must be learned from a source, a function that describes sources is handed in.
"""
