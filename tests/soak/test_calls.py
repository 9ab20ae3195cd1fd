"""Hundreds of whole calls through the exchange, in all ways that they end, leave it as it was."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from relay import media
from signaling.sip import events as sip
from signaling.softphone import messages as m
from tests.relay.exchange_world import ExchangeWorld
from tests.soak.remains import reachable

pytestmark = pytest.mark.slow


class Calls(ExchangeWorld):
    """An exchange with two agents, and a memory of nothing but what a call needs."""

    def __init__(self) -> None:
        super().__init__(answer="with_agent")
        self.sessions = [self.agent(name) for name in ("alice", "bob")]
        self.number = 0

    def forget(self) -> None:
        self.effects.clear()
        self.control.asked.clear()
        self.control.answers.clear()

    def one(self, way: Callable[[Calls, sip.CallId], None]) -> None:
        """A call that goes one way, and the time until everybody is ready for another."""
        self.number += 1
        call = self.call(f"call-{self.number}")
        way(self, call)
        self.pass_time(200.0)
        for session in self.sessions:
            self.ask(session, m.SetState("available"))
        self.forget()

    def accepted(self, call: sip.CallId) -> str:
        """Answered by whom it was offered to."""
        session = next(
            one for one in self.sessions if any(isinstance(told, m.ContactRinging) for told in self.told(one))
        )
        self.act(session, "accept")
        self.sip(sip.CallConfirmed(call))
        return session

    def over(self, call: sip.CallId) -> None:
        self.sip(sip.CallEnded(call, "peer"))


def customer_hangs_up(world: Calls, call: sip.CallId) -> None:
    world.accepted(call)
    world.over(call)


def agent_hangs_up(world: Calls, call: sip.CallId) -> None:
    world.act(world.accepted(call), "hang_up")
    world.over(call)


def held_and_muted(world: Calls, call: sip.CallId) -> None:
    session = world.accepted(call)
    for action in ("hold", "mute", "unmute", "resume"):
        world.act(session, action)  # type: ignore[arg-type]
    world.plane(media.TelephoneEvent(media.LegId("nobody"), 5, 100))
    world.over(call)


def cancelled(world: Calls, call: sip.CallId) -> None:
    world.sip(sip.CallCancelled(call))


def nobody_answers(world: Calls, call: sip.CallId) -> None:
    world.pass_time(25.0)
    world.pass_time(25.0)
    world.over(call)


def agent_loses_media(world: Calls, call: sip.CallId) -> None:
    session = world.accepted(call)
    world.exchange.leg_lost(world.exchange.desks.session(session).leg_id, "consent expired", world.now)
    world.effects += world.exchange.effects()
    world.over(call)
    world.ready(session)


def no_audio_in_common(world: Calls, call: sip.CallId) -> None:
    world.over(call)
    world.number += 1
    world.call(f"call-{world.number}", offer=None)
    world.over(sip.CallId(f"call-{world.number}"))


WAYS = (
    customer_hangs_up,
    agent_hangs_up,
    held_and_muted,
    cancelled,
    nobody_answers,
    agent_loses_media,
    no_audio_in_common,
)


def _calls(world: Calls, count: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(count):
        world.one(WAYS[number % len(WAYS)] if number < len(WAYS) else rng.choice(WAYS))


def test_hundreds_of_calls_leave_the_exchange_as_it_was() -> None:
    world = Calls()
    _calls(world, 40, seed=1)
    before = reachable(world.exchange)
    _calls(world, 300, seed=2)
    exchange = world.exchange
    assert not exchange.contacts.all
    assert len(exchange.calls) == len(exchange.contacts._switchboard) == 0
    assert exchange.next_timer() is None
    assert [agent.contact_id for agent in exchange.agents.all] == [None, None]
    assert all(exchange.queues.waiting(name) == 0 for name in exchange.queues.names)
    grown = reachable(exchange) - before
    assert {name: count for name, count in grown.items() if count > 5} == {}
