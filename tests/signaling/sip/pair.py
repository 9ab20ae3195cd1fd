"""Two user agents, or one and a script, over an in-memory link with a virtual clock: lossy on demand, never real."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

from signaling.sip.events import (
    CloseFlow,
    Effect,
    Flow,
    FlowId,
    OpenFlow,
    SendMessage,
    Transport,
    UserAgentEvent,
    UserAgentSettings,
)
from signaling.sip.message import Request, Response, parse
from signaling.sip.negotiation import LocalMedia, answer, make_offer
from signaling.sip.sdp import SessionDescription
from signaling.sip.trunks import Trunk, Trunks
from signaling.sip.user_agent import UserAgent

LOOPBACK_TRUNK = Trunk("carrier", (ip_network("127.0.0.0/8"),), allow_udp=True, allow_tcp=True)
DELAY = 0.01


def entropy_of(seed: str) -> Callable[[int], bytes]:
    """Unguessable enough for a test, and the same every time."""
    count = 0

    def entropy(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(f"{seed}/{count}".encode()).digest(size)

    return entropy


def user_agent(name: str, trunks: Sequence[Trunk] = (LOOPBACK_TRUNK,), **settings: object) -> UserAgent:
    return UserAgent(
        UserAgentSettings(**settings),  # type: ignore[arg-type]
        Trunks(trunks),
        entropy=entropy_of(name),
        rng=random.Random(name),
    )


def offer_of(name: str = "caller", port: int = 4000, **local: object) -> SessionDescription:
    return make_offer(LocalMedia(("127.0.0.1", port), **local), entropy=entropy_of(name))  # type: ignore[arg-type]


def answer_to(offer: SessionDescription, name: str = "called", port: int = 5000) -> bytes:
    return answer(offer, LocalMedia(("127.0.0.1", port)), entropy=entropy_of(name)).answer.encode()


@dataclass
class End:
    """One user agent of a pair, and what came out of it."""

    agent: UserAgent
    flow: Flow
    events: list[UserAgentEvent] = field(default_factory=list)

    def last(self, kind: type) -> UserAgentEvent:
        return next(event for event in reversed(self.events) if isinstance(event, kind))


class Pair:
    """A caller and a called user agent. `drop(sender, message, n)` says whether the n-th message is lost."""

    def __init__(
        self,
        transport: Transport = "udp",
        *,
        drop: Callable[[str, Request | Response, int], bool] = lambda _sender, _message, _n: False,
        caller: UserAgent | None = None,
        called: UserAgent | None = None,
    ) -> None:
        a, b = ("127.0.0.1", 5060), ("127.0.0.2", 5060)
        self.ends = {
            "caller": End(caller or user_agent("caller"), Flow(FlowId("a"), transport, a, b)),
            "called": End(called or user_agent("called"), Flow(FlowId("b"), transport, b, a)),
        }
        self.caller, self.called = self.ends["caller"], self.ends["called"]
        for end in self.ends.values():
            # Tell the agent that the connection is there, as a keep-alive message would.
            end.agent._core.flows[end.flow.flow_id] = end.flow
        self.now = 0.0
        self.wire: list[tuple[float, str, Request | Response]] = []
        """Everything that was sent, lost or not: when, by whom, what."""
        self.react: dict[str, Callable[[UserAgentEvent, float], None]] = {}
        """What the program at an end does at once with an event."""
        self._drop = drop
        self._sent = {"caller": 0, "called": 0}
        self._link: list[tuple[float, int, str, bytes]] = []
        self._count = 0

    def drain(self) -> None:
        """Carry out all effects of both ends."""
        for name, end in self.ends.items():
            while effects := end.agent.poll():
                for effect in effects:
                    self._carry(name, end, effect)

    def run(self, until: float) -> None:
        """Let time pass, event by event."""
        self.drain()
        while (at := self._next()) is not None and at <= until:
            self.now = max(self.now, at)
            while self._link and self._link[0][0] <= self.now:
                _, _, name, data = heapq.heappop(self._link)
                end = self.ends[name]
                end.agent.receive(data, end.flow, self.now)
                self.drain()
            for end in self.ends.values():
                timer = end.agent.next_timer()
                if timer is not None and timer <= self.now:
                    end.agent.handle_timer(self.now)
            self.drain()
        self.now = until

    def sent(self, by: str, what: str) -> list[float]:
        """When an end sent messages of a method or status (`INVITE`, `200 INVITE`)."""
        return [at for at, name, message in self.wire if name == by and label(message) == what]

    def inject(self, to: str, message: Request | Response | bytes) -> None:
        """Give an end a message that the other end did not send."""
        end = self.ends[to]
        end.agent.receive(message if isinstance(message, bytes) else bytes(message), end.flow, self.now)
        self.drain()

    def _next(self) -> float | None:
        times = [end.agent.next_timer() for end in self.ends.values()]
        times += [self._link[0][0]] if self._link else []
        return min((at for at in times if at is not None), default=None)

    def _carry(self, name: str, end: End, effect: Effect) -> None:
        if isinstance(effect, SendMessage):
            message = parse(effect.data)
            assert bytes(message) == effect.data
            self.wire.append((round(self.now, 3), name, message))
            self._sent[name] += 1
            if not self._drop(name, message, self._sent[name]):
                self._count += 1
                other = "called" if name == "caller" else "caller"
                heapq.heappush(self._link, (self.now + DELAY, self._count, other, effect.data))
        elif isinstance(effect, OpenFlow):
            end.agent.flow_opened(effect.request_id, end.flow, self.now)
        elif not isinstance(effect, CloseFlow):
            end.events.append(effect)
            if name in self.react:
                self.react[name](effect, self.now)


def label(message: Request | Response) -> str:
    """`INVITE`, or `200 INVITE` for a response."""
    if isinstance(message, Request):
        return message.method
    return f"{message.status} {message.cseq.method}"
