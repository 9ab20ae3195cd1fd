"""The four transaction machines as tables (RFC 3261 §17, RFC 6026).

A machine is a dictionary from (state, input) to a rule: the next state, what to do, and the timers to start. Entering
another state stops every timer that the rule does not keep. A pair that is not in the table means: nothing to do, which
is what the RFC asks for late, repeated and stray messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from signaling.sip.events import Flow, Timing
from signaling.sip.message import Request, Response

Input = Literal["start", "request", "ack", "1xx", "2xx", "failure", "error"]
"""`failure` is every final response from 300 on; `error` is a transport that cannot send."""
Timer = Literal["A", "B", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M"]
Action = Literal["send", "pass", "ack", "timeout", "error"]
"""Send the last message again or first; pass to the transaction user; acknowledge a failure; say why it died."""
Kind = Literal["invite client", "client", "invite server", "server"]


class State(Enum):
    """States of all four machines."""

    INITIAL = "initial"
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a machine does with an input."""

    state: State
    actions: tuple[Action, ...] = ()
    start: tuple[Timer, ...] = ()
    keep: tuple[Timer, ...] = ()


_INITIAL, _CALLING, _TRYING, _PROCEEDING = State.INITIAL, State.CALLING, State.TRYING, State.PROCEEDING
_COMPLETED, _CONFIRMED, _ACCEPTED, _TERMINATED = State.COMPLETED, State.CONFIRMED, State.ACCEPTED, State.TERMINATED

Table = dict[tuple[State, Input | Timer], Rule]

INVITE_CLIENT: Table = {  # RFC 3261 figure 5, RFC 6026 figure 3
    (_INITIAL, "start"): Rule(_CALLING, ("send",), ("A", "B")),
    (_CALLING, "A"): Rule(_CALLING, ("send",), ("A",)),
    (_CALLING, "B"): Rule(_TERMINATED, ("timeout",)),
    (_CALLING, "error"): Rule(_TERMINATED, ("error",)),
    (_CALLING, "1xx"): Rule(_PROCEEDING, ("pass",)),
    (_CALLING, "2xx"): Rule(_ACCEPTED, ("pass",), ("M",)),
    (_CALLING, "failure"): Rule(_COMPLETED, ("ack", "pass"), ("D",)),
    (_PROCEEDING, "1xx"): Rule(_PROCEEDING, ("pass",)),
    (_PROCEEDING, "2xx"): Rule(_ACCEPTED, ("pass",), ("M",)),
    (_PROCEEDING, "failure"): Rule(_COMPLETED, ("ack", "pass"), ("D",)),
    (_PROCEEDING, "error"): Rule(_TERMINATED, ("error",)),
    (_COMPLETED, "failure"): Rule(_COMPLETED, ("ack",)),
    (_COMPLETED, "D"): Rule(_TERMINATED),
    (_COMPLETED, "error"): Rule(_TERMINATED),
    (_ACCEPTED, "2xx"): Rule(_ACCEPTED, ("pass",)),
    (_ACCEPTED, "M"): Rule(_TERMINATED),
}

CLIENT: Table = {  # RFC 3261 figure 6
    (_INITIAL, "start"): Rule(_TRYING, ("send",), ("E", "F")),
    (_TRYING, "E"): Rule(_TRYING, ("send",), ("E",)),
    (_TRYING, "F"): Rule(_TERMINATED, ("timeout",)),
    (_TRYING, "error"): Rule(_TERMINATED, ("error",)),
    (_TRYING, "1xx"): Rule(_PROCEEDING, ("pass",), keep=("E", "F")),
    (_TRYING, "2xx"): Rule(_COMPLETED, ("pass",), ("K",)),
    (_TRYING, "failure"): Rule(_COMPLETED, ("pass",), ("K",)),
    (_PROCEEDING, "E"): Rule(_PROCEEDING, ("send",), ("E",)),
    (_PROCEEDING, "F"): Rule(_TERMINATED, ("timeout",)),
    (_PROCEEDING, "error"): Rule(_TERMINATED, ("error",)),
    (_PROCEEDING, "1xx"): Rule(_PROCEEDING, ("pass",)),
    (_PROCEEDING, "2xx"): Rule(_COMPLETED, ("pass",), ("K",)),
    (_PROCEEDING, "failure"): Rule(_COMPLETED, ("pass",), ("K",)),
    (_COMPLETED, "K"): Rule(_TERMINATED),
}

INVITE_SERVER: Table = {  # RFC 3261 figure 7, RFC 6026 figure 5
    (_INITIAL, "start"): Rule(_PROCEEDING),
    (_PROCEEDING, "request"): Rule(_PROCEEDING, ("send",)),
    (_PROCEEDING, "1xx"): Rule(_PROCEEDING, ("send",)),
    (_PROCEEDING, "2xx"): Rule(_ACCEPTED, ("send",), ("L",)),
    (_PROCEEDING, "failure"): Rule(_COMPLETED, ("send",), ("G", "H")),
    (_PROCEEDING, "error"): Rule(_TERMINATED, ("error",)),
    (_COMPLETED, "request"): Rule(_COMPLETED, ("send",)),
    (_COMPLETED, "ack"): Rule(_CONFIRMED, (), ("I",)),
    (_COMPLETED, "G"): Rule(_COMPLETED, ("send",), ("G",)),
    (_COMPLETED, "H"): Rule(_TERMINATED, ("timeout",)),
    (_COMPLETED, "error"): Rule(_TERMINATED, ("error",)),
    (_CONFIRMED, "I"): Rule(_TERMINATED),
    # The user repeats its 2xx itself (RFC 3261 §13.3.1.4); the machine only absorbs repeated INVITEs.
    (_ACCEPTED, "2xx"): Rule(_ACCEPTED, ("send",)),
    (_ACCEPTED, "error"): Rule(_ACCEPTED, ("error",)),
    (_ACCEPTED, "L"): Rule(_TERMINATED),
}

SERVER: Table = {  # RFC 3261 figure 8
    (_INITIAL, "start"): Rule(_TRYING),
    (_TRYING, "1xx"): Rule(_PROCEEDING, ("send",)),
    (_TRYING, "2xx"): Rule(_COMPLETED, ("send",), ("J",)),
    (_TRYING, "failure"): Rule(_COMPLETED, ("send",), ("J",)),
    (_TRYING, "error"): Rule(_TERMINATED, ("error",)),
    (_PROCEEDING, "request"): Rule(_PROCEEDING, ("send",)),
    (_PROCEEDING, "1xx"): Rule(_PROCEEDING, ("send",)),
    (_PROCEEDING, "2xx"): Rule(_COMPLETED, ("send",), ("J",)),
    (_PROCEEDING, "failure"): Rule(_COMPLETED, ("send",), ("J",)),
    (_PROCEEDING, "error"): Rule(_TERMINATED, ("error",)),
    (_COMPLETED, "request"): Rule(_COMPLETED, ("send",)),
    (_COMPLETED, "error"): Rule(_TERMINATED, ("error",)),
    (_COMPLETED, "J"): Rule(_TERMINATED),
}

TABLES: dict[Kind, Table] = {
    "invite client": INVITE_CLIENT,
    "client": CLIENT,
    "invite server": INVITE_SERVER,
    "server": SERVER,
}
_RETRANSMIT = {"A", "E", "G"}
_ZERO_IF_RELIABLE = {"D", "I", "J", "K"}


class TransactionUser(Protocol):
    """Who a transaction works for."""

    def receive_response(self, transaction: Transaction, response: Response, now: float) -> None:
        """A client transaction got a response."""

    def transaction_failed(self, transaction: Transaction, why: Literal["timeout", "error"], now: float) -> None:
        """Nobody answered or acknowledged, or nothing could be sent."""


class Transaction:
    """One transaction: its machine, the message that it repeats, and when its timers fire.

    `timers` maps a running timer to its deadline. The owner carries out the actions that are returned.
    """

    __slots__ = ("_interval", "_timing", "flow", "kind", "label", "request", "response", "state", "timers", "user")

    def __init__(self, kind: Kind, request: Request, flow: Flow, timing: Timing) -> None:
        self.kind: Kind = kind
        self.user: TransactionUser | None = None
        self.label = ""
        """Whom the transaction is counted for: the name of a trunk."""
        self.request = request
        self.flow = flow
        self.response: Response | None = None
        """The last response: sent by a server, received by a client."""
        self.state = State.INITIAL
        self.timers: dict[Timer, float] = {}
        self._timing = timing
        self._interval = timing.t1

    def handle(self, what: Input | Timer, now: float) -> tuple[Action, ...]:
        """Take an input, or a timer that fired; gives what is to be done."""
        rule = TABLES[self.kind].get((self.state, what))
        if rule is None:
            return ()
        if rule.state is not self.state:
            self.timers = {name: at for name, at in self.timers.items() if name in rule.keep}
        self.state = rule.state
        for timer in rule.start:
            self._start(timer, now)
        return rule.actions

    def next_timer(self) -> float | None:
        """When the next timer fires."""
        return min(self.timers.values(), default=None)

    def handle_timers(self, now: float) -> list[Action]:
        """Fire what is due, the earliest first; gives what is to be done."""
        actions: list[Action] = []
        while self.timers:
            timer = min(self.timers, key=lambda name: self.timers[name])
            if self.timers[timer] > now:
                break
            del self.timers[timer]
            actions += self.handle(timer, now)
        return actions

    def _start(self, timer: Timer, now: float) -> None:
        if timer in _RETRANSMIT:
            if not self.flow.reliable:
                self.timers[timer] = now + self._next_interval(timer)
        else:
            self.timers[timer] = now + self._duration(timer)

    def _next_interval(self, timer: Timer) -> float:
        """T1, then twice as long each time; E and G stop growing at T2, and E is T2 once there was a 1xx."""
        timing = self._timing
        if timer == "E" and self.state is State.PROCEEDING:
            return timing.t2
        interval, self._interval = self._interval, self._interval * 2
        return interval if timer == "A" else min(interval, timing.t2)

    def _duration(self, timer: Timer) -> float:
        timing = self._timing
        if timer in _ZERO_IF_RELIABLE and self.flow.reliable:
            return 0.0
        return {"D": timing.d, "I": timing.t4, "K": timing.t4}.get(timer, 64 * timing.t1)
