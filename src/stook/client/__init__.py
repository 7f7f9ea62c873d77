"""The same platform, remote: the verbs that answer over HTTP, with the same signatures, results and errors.

What speaks HTTP to a stook server may live here. It imports `core` only, and Arrow where that is installed, so that
`stook-client` stays small; what a verb means may not live here: the server knows.
"""

from __future__ import annotations

from stook.client.remote import Remote

__all__ = ["Remote"]
