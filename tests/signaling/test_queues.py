"""Who is served first, and by whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.errors import Exhausted, LocalError
from signaling.queues import Assignment, IdleAgent, Queues, QueueSettings


def queues(*names, waiting_max=10):
    return Queues([QueueSettings(name, waiting_max) for name in names or ("main",)])


def idle(user, since, *names):
    return IdleAgent(user, since, frozenset(names or ("main",)))


def test_first_come_first_served_by_the_agent_that_was_idle_longest():
    line = queues()
    line.join("main", "c1", 10.0)
    line.join("main", "c2", 11.0)
    line.join("main", "c3", 12.0)
    assert line.assign([idle("anna", 9.0), idle("ben", 5.0)]) == (
        Assignment("main", "c1", "ben"),
        Assignment("main", "c2", "anna"),
    )
    assert (line.waiting("main"), line.position("c3"), line.position("c1")) == (1, 0, None)


def test_those_who_came_at_the_same_moment_keep_their_order():
    line = queues()
    for contact in ("z", "a", "m"):
        line.join("main", contact, 1.0)
    agents = [idle("anna", 0.0), idle("ben", 0.0), idle("cleo", 0.0)]
    assert [(a.contact_id, a.user) for a in line.assign(agents)] == [("z", "anna"), ("a", "ben"), ("m", "cleo")]


def test_a_contact_that_nobody_took_goes_back_to_its_old_place():
    line = queues()
    line.join("main", "c1", 1.0)
    line.join("main", "c2", 2.0)
    assert line.assign([idle("anna", 0.0)]) == (Assignment("main", "c1", "anna"),)
    line.join("main", "c1", 1.0)
    assert (line.position("c1"), line.position("c2")) == (0, 1)


def test_agents_serve_their_own_queues_only_and_a_blocked_caller_blocks_nobody_else():
    line = queues("sales", "support")
    line.join("sales", "s1", 1.0)
    line.join("sales", "s2", 2.0)
    line.join("support", "h1", 3.0)
    assert line.assign([idle("anna", 0.0, "support")]) == (Assignment("support", "h1", "anna"),)
    assert line.assign([idle("ben", 5.0, "support", "sales")]) == (Assignment("sales", "s1", "ben"),)
    assert line.position("s2") == 0
    assert line.names == ("sales", "support")


def test_nobody_idle_or_nobody_waiting():
    line = queues()
    assert line.assign([idle("anna", 0.0)]) == ()
    line.join("main", "c1", 1.0)
    assert line.assign([]) == ()
    assert line.waiting("main") == 1


def test_a_full_queue_refuses_and_counts():
    line = queues(waiting_max=2)
    line.join("main", "c1", 1.0)
    line.join("main", "c2", 2.0)
    with pytest.raises(Exhausted, match="main is full"):
        line.join("main", "c3", 3.0)
    line.join("main", "c1", 4.0)  # it waits already: it moves, and is not one more
    assert line.position("c1") == 1
    assert line.refused == {"main": 1}
    assert line.leave("c2")
    line.join("main", "c3", 3.0)


def test_an_unknown_queue_and_a_contact_that_does_not_wait():
    line = queues()
    with pytest.raises(LocalError):
        line.join("other", "c1", 1.0)
    assert not line.leave("c1")
    assert line.position("c1") is None


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 5)), max_size=30),
    st.lists(st.tuples(st.integers(0, 9), st.sets(st.sampled_from("abc"), min_size=1)), max_size=6),
)
def test_nobody_is_overtaken_in_the_same_queue_and_nobody_is_given_twice(joins, agents):
    line = queues("a", "b", "c", waiting_max=100)
    arrived = {}
    for name, contact, at in joins:
        line.join(name, str(contact), float(at))
        arrived[str(contact)] = (name, float(at))
    free = [IdleAgent(f"u{i}", float(since), frozenset(names)) for i, (since, names) in enumerate(agents)]
    found = line.assign(free)
    assert len({a.contact_id for a in found}) == len({a.user for a in found}) == len(found)
    left = {c: place for c, place in arrived.items() if c not in {a.contact_id for a in found}}
    for each in found:
        assert arrived[each.contact_id][0] == each.queue
        later = [at for name, at in left.values() if name == each.queue]
        assert all(arrived[each.contact_id][1] <= at for at in later)
    unused = {a.user for a in free} - {a.user for a in found}
    assert not any(name in agent.queues for agent in free if agent.user in unused for name, _ in left.values())
    assert sum(line.waiting(name) for name in "abc") == len(left)
