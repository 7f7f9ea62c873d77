"""HAProxy's file as text: who may call, how calls are spread, what is tried again.

It is a file of its own because it is pure: settings and gateways in, text out. The balancer beside it writes the text. It
must never let a call be made twice that may do something twice: only reads are sent to another gateway once they were sent
to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stook.core.errors import InvalidSettings
from stook.core.ports.balancer import Gateway

BACKEND: Final = "gateways"
KEY_HEADER: Final = "X-Stook-Key"
ALGORITHMS: Final = {
    "roundrobin": "balance roundrobin",
    "leastconn": "balance leastconn",
    "random": "balance random",
    "source": "balance source",
    "consistent": f"balance hdr({KEY_HEADER})",
}
# A gateway that is gone refuses connections, and calls go to another at once: checks need not be quick. They ask whether
# the process answers, not whether its stores do: all gateways share those, and would all be taken away together.
CHECK: Final = "check inter 1s fall 3 rise 1"
QUEUE_WAIT_S: Final = 2
CALL_BYTES_AGAIN_MAX: Final = 32_768  # a call is sent again from memory; one that is larger is not
READS: Final = "/get-online-features /predict/ /v2/ /health /ready /metrics /openapi.json /objects/"
_BUSY: Final = '{"error":{"code":"busy","message":"no gateway can take the call now","hint":"repeat it after the time in Retry-After"}}'


@dataclass(frozen=True)
class Front:
    """How the balancer faces its clients: where it listens, how it spreads, where it is told what to do."""

    bind: str
    balance: str
    socket: str


def render(front: Front, gateways: Sequence[Gateway]) -> str:
    """The whole file. Gateways that drain are left out: they take no new calls. Raises InvalidSettings."""
    if front.balance not in ALGORITHMS:
        raise InvalidSettings(f"balance is {front.balance!r}", hint=f"one of {', '.join(ALGORITHMS)}")
    servers = "".join(
        f"    server {gateway.name} {server_words(gateway)}\n"
        for gateway in sorted(gateways, key=lambda gateway: gateway.name)
        if not gateway.draining
    )
    return f"""# Written by `stook cluster balancer`, and again whenever a gateway comes or goes: changes by hand are lost.
global
    stats socket {front.socket} mode 600 level admin
    tune.bufsize {CALL_BYTES_AGAIN_MAX}
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 120s
    timeout queue {QUEUE_WAIT_S}s
    timeout check 3s
    timeout http-keep-alive 60s
    timeout http-request 30s
    retries 3
    option redispatch 1
frontend clients
    bind {front.bind}
    default_backend {BACKEND}
backend {BACKEND}
    {ALGORITHMS[front.balance]}
    hash-type consistent
    hash-balance-factor 150
    option httpchk
    http-check send meth GET uri /health ver HTTP/1.1 hdr Host stook
    http-check expect status 200
    option http-buffer-request
    retry-on conn-failure empty-response
    acl may_be_repeated path_beg {READS}
    http-request disable-l7-retry unless may_be_repeated
    http-error status 503 content-type application/json string '{_BUSY}' hdr Retry-After 1
{servers}"""


def server_words(gateway: Gateway) -> str:
    """A server's address and all its options: one added at run time takes none from defaults."""
    host = f"[{gateway.host}]" if ":" in gateway.host else gateway.host
    return f"{host}:{gateway.port} {CHECK} weight {gateway.weight} maxconn {gateway.calls_max}"
