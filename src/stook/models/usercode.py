"""How code of users may end, and what it said.

It is a file of its own because a model and a `fit` may raise anything: what ends a program, and what has no text. The
supervisors of training and predicting call it. It must never let a user's exception keep an error of ours from being told.
"""

from __future__ import annotations

import threading


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody at the terminal wants the program to end. Python tells the main thread alone, so that elsewhere
    it is the user's code that raised it, as `sys.exit()` in it is no reason for a server to end either."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def told(error: BaseException) -> str:
    """An exception of users' code as text that can be stored and sent: its class and what it says, in full.

    >>> told(ValueError("a\\nb")), told(KeyError()), told(ValueError("\\ud800"))
    ('ValueError: a\\nb', 'KeyError', 'ValueError: \\\\ud800')
    """
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as second:  # supervisor: __str__ is the user's, too
        if is_interrupt(second):
            raise
        text = f"(its text cannot be shown: {type(second).__name__})"
    whole = f"{name}: {text}" if text else name
    return whole.encode(errors="backslashreplace").decode()  # a lone surrogate is in no encoding
