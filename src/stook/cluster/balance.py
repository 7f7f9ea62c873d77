"""Which gateways take calls: from who is there and how the balancer stands, the next steps.

It is a file of its own because it is the one decision of balancing, and pure. The app's balancer verb calls it again and
again; what it decides depends on what is, never on what was done before. It must never rest a server that still has calls
while it may end them, nor take away servers that answer because nobody at all is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from stook.core.ports.balancer import Act, Duty, Gateway, Server, Step

DRAIN_S: Final = 30.0  # how long a server that left may take to end its calls


@dataclass(frozen=True)
class Decision:
    """What to do now, and when each server that is leaving began to, by name, for the next decision."""

    acts: tuple[Act, ...]
    leaving: Mapping[str, float]


def decide(
    gateways: Sequence[Gateway] | None, servers: Sequence[Server], leaving: Mapping[str, float], *, now_s: float
) -> Decision:
    """The next steps towards servers that are the gateways.

    `gateways`: who is there; None when that cannot be seen, and then nothing is changed. `now_s`: a monotonic time. A
    gateway that comes is added, then made ready. One that drains, or is gone, takes no more calls, ends those it has
    within DRAIN_S, rests, and (where it is gone) is removed. One that changed its address leaves under its name first.
    Steps that need an earlier one to have been done wait for the next decision.
    """
    if gateways is None:
        return Decision((), leaving)
    if not gateways:  # all sessions may have ended at once where the gateways still answer
        servers = [server for server in servers if not server.healthy]
    wanted = {gateway.name: gateway for gateway in gateways}
    acts: list[Act] = []
    still: dict[str, float] = {}
    for server in servers:
        gateway = wanted.get(server.name)
        here = gateway is not None and (gateway.host, gateway.port) == (server.host, server.port)
        if here and gateway is not None and not gateway.draining:
            acts += _keep(gateway, server)
            continue
        since = still[server.name] = leaving.get(server.name, now_s)
        acts += _leave(server, gone=not here, over=now_s - since >= DRAIN_S)
    there = {server.name for server in servers}
    acts += [Act(Step.ADD, g) for name, g in sorted(wanted.items()) if name not in there and not g.draining]
    return Decision(tuple(acts), still)


def _keep(gateway: Gateway, server: Server) -> list[Act]:
    acts = []
    if server.weight != gateway.weight:
        acts.append(Act(Step.WEIGH, gateway))
    if server.duty is not Duty.READY:
        acts.append(Act(Step.READY, gateway))
    return acts


def _leave(server: Server, *, gone: bool, over: bool) -> list[Act]:
    as_it_is = Gateway(server.name, server.host, server.port, server.weight)
    if server.duty is Duty.READY:
        return [Act(Step.DRAIN, as_it_is)]
    if server.duty is Duty.DRAINING and (server.calls == 0 or over):
        return [Act(Step.REST, as_it_is)]
    if server.duty is Duty.RESTING and gone and server.calls == 0:
        return [Act(Step.REMOVE, as_it_is)]
    return []


def apply(servers: Sequence[Server], acts: Sequence[Act]) -> list[Server]:
    """Servers as the acts leave them, new ones not yet healthy; for tests and for what is shown before it is done.

    >>> [server.duty for server in apply([], [Act(Step.ADD, Gateway("a", "h", 1))])]
    [<Duty.RESTING: 'resting'>]
    """
    by_name = {server.name: server for server in servers}
    duties = {Step.READY: Duty.READY, Step.DRAIN: Duty.DRAINING, Step.REST: Duty.RESTING}
    for act in acts:
        name, gateway = act.gateway.name, act.gateway
        if act.step is Step.ADD:
            by_name[name] = Server(name, gateway.host, gateway.port, gateway.weight, Duty.RESTING, False, 0)
        elif act.step is Step.REMOVE:
            del by_name[name]
        elif act.step is Step.WEIGH:
            by_name[name] = replace(by_name[name], weight=gateway.weight)
        else:
            by_name[name] = replace(by_name[name], duty=duties[act.step])
    return [by_name[name] for name in sorted(by_name)]
