"""Which gateways take calls: every decision leads to the gateways there are, and no call is cut off before its time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stook.cluster.balance import DRAIN_S, Decision, apply, decide
from stook.core.ports.balancer import Act, Duty, Gateway, Server, Step

NAMES = ("a", "b", "c", "d")
gateways = st.lists(
    st.builds(
        Gateway,
        st.sampled_from(NAMES),
        st.just("h"),
        st.sampled_from((1, 2)),
        st.sampled_from((0, 50, 100)),
        st.booleans(),
    ),
    unique_by=lambda gateway: gateway.name,
)
servers = st.lists(
    st.builds(
        Server, st.sampled_from(NAMES), st.just("h"), st.sampled_from((1, 2)), st.sampled_from((50, 100)),
        st.sampled_from(Duty), st.booleans(), st.integers(0, 2),
    ),
    unique_by=lambda server: server.name,
)  # fmt: skip


@given(gateways, servers)
def test_decisions_lead_to_the_gateways_there_are(wanted: list[Gateway], found: list[Server]) -> None:
    leaving: dict[str, float] = {}
    now_s = 0.0
    for _ in range(12):
        decision = decide(wanted, found, leaving, now_s=now_s)
        for act in decision.acts:
            server = next((s for s in found if s.name == act.gateway.name), None)
            if act.step is Step.REST:
                assert server is not None
                since = leaving.get(server.name, now_s)
                assert server.calls == 0 or now_s - since >= DRAIN_S
            if act.step is Step.REMOVE:
                assert server is not None and server.duty is Duty.RESTING and server.calls == 0
        found, leaving = apply(found, decision.acts), dict(decision.leaving)
        found = [replace(s, calls=0) if s.duty is Duty.RESTING else s for s in found]
        found = [replace(s, healthy=True) if s.duty is Duty.READY else s for s in found]
        now_s += DRAIN_S
    if not wanted:
        assert all(server.healthy for server in found)
        return
    expected = {g.name: (g.port, g.weight) for g in wanted if not g.draining}
    assert {s.name: (s.port, s.weight) for s in found if s.duty is Duty.READY} == expected
    resting = {s.name for s in found if s.duty is not Duty.READY}
    assert resting <= {g.name for g in wanted if g.draining}
    assert decide(wanted, found, leaving, now_s=now_s).acts == ()


@given(servers)
def test_what_cannot_be_seen_is_not_gone(found: list[Server]) -> None:
    assert decide(None, found, {"a": 1.0}, now_s=9.0) == Decision((), {"a": 1.0})
    acts = decide([], found, {}, now_s=9.0).acts
    assert {act.gateway.name for act in acts} <= {server.name for server in found if not server.healthy}


def test_the_words_of_a_life() -> None:
    """A gateway comes, works, drains with a call at hand, and goes."""
    gateway = Gateway("a", "h", 1)
    assert decide([gateway], [], {}, now_s=0).acts == (Act(Step.ADD, gateway),)
    added = Server("a", "h", 1, 100, Duty.RESTING, False, 0)
    assert decide([gateway], [added], {}, now_s=0).acts == (Act(Step.READY, gateway),)
    ready = replace(added, duty=Duty.READY, healthy=True, calls=3)
    assert decide([gateway], [ready], {}, now_s=0).acts == ()
    draining = replace(gateway, draining=True)
    first = decide([draining], [ready], {}, now_s=5)
    assert [act.step for act in first.acts] == [Step.DRAIN]
    ending = replace(ready, duty=Duty.DRAINING)
    assert decide([draining], [ending], first.leaving, now_s=6).acts == ()
    assert [a.step for a in decide([draining], [ending], first.leaving, now_s=5 + DRAIN_S).acts] == [Step.REST]
    assert [a.step for a in decide([draining], [replace(ending, calls=0)], first.leaving, now_s=6).acts] == [Step.REST]
    resting = replace(ending, duty=Duty.RESTING, calls=0)
    assert decide([draining], [resting], {}, now_s=6).acts == ()
    other = Gateway("b", "h", 2)
    assert Act(Step.REMOVE, Gateway("a", "h", 1)) in decide([other], [resting], {}, now_s=6).acts


def test_one_that_moved_leaves_under_its_name_first() -> None:
    moved, before = Gateway("a", "h", 2), Server("a", "h", 1, 100, Duty.READY, True, 0)
    assert decide([moved], [before], {}, now_s=0).acts == (Act(Step.DRAIN, Gateway("a", "h", 1)),)
