"""The HTTP face: decode, one call on `Platform`, encode.

Routes, messages, limits and the server's processes may live here. What a request means may not: that is a verb of
`Platform`. This file imports nothing, so that a worker process can start from a module inside.
"""
