"""The hard cases as data: one format, asked of every backend, through every door.

A case says what stood in a view's history, what is asked of it, and what must come back; it says nothing of how rows
get in or answers get out. Cases, and what reads them without a process or a network, may live here. Servers, files of
one format and command lines may not: whoever runs the cases brings those.
"""
