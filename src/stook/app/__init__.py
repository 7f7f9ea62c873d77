"""The hallway: settings in, a wired Platform out; the only place that loads backends.

Wiring, and verbs that call one room after another, may live here. Loops over data and policy may not: a verb that
needs them lacks a word in a room below.
"""

from __future__ import annotations

from stook.app.platform import Platform, open_platform
from stook.app.wiring import open_coordination

__all__ = ["Platform", "open_coordination", "open_platform"]
