"""An exchange without sockets: SIP events go in by hand, what it asks of the user agent and of the shell is kept."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from relay import media
from relay.calls.effects import (
    ContactFinished,
    ContactLogged,
    ExchangeEffect,
    ExchangeSettings,
    Identity,
    Notify,
    Queue,
    Submit,
)
from relay.calls.exchange import Exchange
from relay.calls.trunk_calls import TrunkCalls
from signaling.contact.contact import ContactSettings
from signaling.sip import events as sip
from signaling.sip import negotiation
from signaling.softphone import messages as m

HOST, PORT = "127.0.0.1", 40_000
IDENTITY = Identity("account", "instance")


@dataclass
class CallLog:
    """Keeps what is asked of the user agent, in order: (what, call)."""

    asked: list[tuple[str, sip.CallId]] = field(default_factory=list)
    answers: dict[sip.CallId, bytes] = field(default_factory=dict)

    def ring(self, call: sip.CallId, now: float) -> None:
        self.asked.append(("180", call))

    def answer(self, call: sip.CallId, sdp: bytes, now: float) -> None:
        self.asked.append(("200", call))
        self.answers[call] = sdp

    def reject(self, call: sip.CallId, status: int, now: float, reason: str = "") -> None:
        self.asked.append((str(status), call))

    def hang_up(self, call: sip.CallId, now: float, cause: str = "") -> None:
        self.asked.append(("BYE", call))

    def accept_offer(self, call: sip.CallId, sdp: bytes, now: float) -> None:
        self.asked.append(("accept", call))
        self.answers[call] = sdp

    def refuse_offer(self, call: sip.CallId, status: int, now: float, reason: str = "") -> None:
        self.asked.append((f"refuse {status}", call))


class ExchangeWorld:
    """The exchange, and hands to move it."""

    def __init__(self, *, seed: int = 1, **queue: object) -> None:
        self.random = random.Random(seed)
        self.control = CallLog()
        contact = ContactSettings(offer_seconds=20.0, after_work_seconds=30.0)
        settings = ExchangeSettings(
            queues=(Queue("main", contact=contact, **{"recorded": ("agent", "customer"), **queue}),),
            queue_of_trunk={"carrier": "main"},
        )
        calls = TrunkCalls(self.control, ((HOST, PORT),), {}, {}, self.random.randbytes)
        self.plane_is_behind = False
        self.exchange = Exchange(
            IDENTITY,
            settings,
            calls,
            entropy=self.random.randbytes,
            is_plane_behind=lambda: self.plane_is_behind,
        )
        self.now = 0.0
        self.effects: list[ExchangeEffect] = []

    def call(self, name: str = "call-1", *, offer: object = "default", trunk: str = "carrier") -> sip.CallId:
        call = sip.CallId(name)
        sdp = self.offer() if offer == "default" else offer
        self.sip(sip.IncomingCall(call, trunk, (HOST, 5061), "+4930111", "+4930222", sdp))
        return call

    def offer(self, *, port: int = 50_000, plain: bool = False):
        local = negotiation.LocalMedia((HOST, port), allow_plain_rtp=plain)
        return negotiation.make_offer(local, entropy=self.random.randbytes)

    def sip(self, event: sip.UserAgentEvent) -> None:
        self.exchange.sip_event(event, self.now)
        self.effects += self.exchange.effects()

    def plane(self, event: media.MediaEvent) -> None:
        self.exchange.media_event(event, self.now)
        self.effects += self.exchange.effects()

    def agent(self, user: str = "alice") -> str:
        """Log in with live media; returns the session id."""
        session = f"session-of-{user}"
        self.exchange.log_in(user, "agent", session, self.now)
        self.ready(session)
        self.ask(session, m.SetState("available"))
        return session

    def ready(self, session: str) -> media.LegId:
        leg_id = self.exchange.leg_connecting(session)
        key = media.SrtpKey("AEAD_AES_128_GCM", self.random.randbytes(28))
        codec = media.Codec("opus", 111)
        self.exchange.leg_ready(
            media.OpenLeg(leg_id, codec, 7, key, key, (HOST, PORT), (HOST, 60_000), latch=False), self.now
        )
        self.effects += self.exchange.effects()
        return leg_id

    def ask(self, session: str, request: m.Request) -> dict[str, object]:
        try:
            return self.exchange.request(session, request, self.now)
        finally:
            self.effects += self.exchange.effects()

    def act(self, session: str, action: m.ContactAction) -> dict[str, object]:
        return self.ask(session, m.ContactRequest(action, self.contact_id))

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.exchange.next_timer()) is not None and due <= until:
            self.now = due
            self.exchange.handle_timer(due)
            self.effects += self.exchange.effects()
        self.now = until

    @property
    def contact_id(self) -> str:
        return next(effect.contact_id for effect in self.effects if isinstance(effect, ContactLogged))

    def steps(self) -> list[media.Step]:
        return [effect.step for effect in self.effects if isinstance(effect, Submit)]

    def commands(self, kind: type) -> list:
        return [command for step in self.steps() for command in step.commands if isinstance(command, kind)]

    def told(self, session: str) -> list[m.Notification]:
        return [e.notification for e in self.effects if isinstance(e, Notify) and e.session_id == session]

    def finished(self) -> list[ContactFinished]:
        return [effect for effect in self.effects if isinstance(effect, ContactFinished)]
