"""Now: what an entity's features are at this moment, read and written through the `KeyValue` port.

What turns keys and features into stored bytes and back, and the read and write paths over those bytes, may live
here. History, sources, windows and joins may not (`offline`, `ingest`), nor anything that knows which engine
stands behind the port, nor looking names up (`registry`). It imports `core` only.
"""
