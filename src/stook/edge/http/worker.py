"""One worker process: watches its server, then answers behind the shared port.

It is a file of its own because it runs as a program (`python -m stook.edge.http.worker`), started by `server` with
its settings on standard input. It says one line of JSON on standard output when it answers, or why it cannot.
It must never outlive the server: when standard input ends, so does it, at once, also while engines still load.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

import msgspec

from stook.core.errors import StookError
from stook.edge.http.orders import WorkerOrder, WorkerReport


def main() -> None:
    """Serves until told to end. Exit code 1 when the project cannot be opened."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server tells us to end
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerOrder)
    threading.Thread(target=_end_with_server, daemon=True).start()
    report = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints must not fill the server's pipe
    from stook.edge.http.answering import answer  # start-up time: engines load while the thread above watches

    try:
        answer(order, lambda: _say(report, WorkerReport(True)))
    except StookError as error:
        _say(report, WorkerReport(False, error.code, error.message, error.hint))
        sys.exit(1)


def _end_with_server() -> None:
    while os.read(sys.stdin.fileno(), 1 << 16):  # not through the buffer, whose lock would hinder a normal end
        pass
    os._exit(1)  # the server is gone: nobody may answer in its name


def _say(report: int, what: WorkerReport) -> None:
    os.write(report, msgspec.json.encode(what) + b"\n")


if __name__ == "__main__":
    main()
