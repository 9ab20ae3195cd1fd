"""A telephone behind the trunk: a real SIP user agent that calls, and a phone for its media."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.media import SrtpKey
from signaling.errors import RemoteError
from signaling.sip import events as sip
from signaling.sip import negotiation
from signaling.sip.digest import Credentials
from signaling.sip.sdp import SessionDescription
from signaling.sip.trunks import Trunks
from signaling.sip.user_agent import UserAgent
from tests.simulation.phone import Connection, Phone
from tests.simulation.script import CallerPlan
from tests.simulation.wire import RELAY, Pipe

if TYPE_CHECKING:
    from tests.simulation.world import World

CREDENTIALS = Credentials("carrier", "a password of the trunk")
NUMBER = "+4930555{index:03d}"
_CONNECT_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Message:
    """One SIP message on one of a caller's connections."""

    connection: int
    data: bytes

    def __len__(self) -> int:
        return len(self.data)


class Caller:
    """One caller; it calls one call at a time, and may call again."""

    def __init__(self, world: World, plan: CallerPlan, index: int, hertz: int) -> None:
        self.plan = plan
        self.name = plan.name
        self.number = NUMBER.format(index=index)
        rng = random.Random(f"{world.seed} {plan.name}")
        self.phone = Phone(plan.name, hertz, (f"10.1.0.{index + 1}", 20_000), world.schedule, world.wire, rng)
        self.agent = UserAgent(
            sip.UserAgentSettings(product="Simulated telephone"), Trunks(()), entropy=rng.randbytes, rng=rng
        )
        self.outcomes: list[str] = []
        """How its calls ended, as it saw it."""
        signalling = world.script.signalling
        if plan.transport == "tls":  # TCP mends what the network does
            signalling = world.reliable(signalling)
        seed = f"{world.seed} {plan.name} signalling"
        self._up: Pipe[Message] = Pipe(world.schedule, signalling, f"{seed} up", self._reaches_relay)
        self._down: Pipe[Message] = Pipe(world.schedule, signalling, f"{seed} down", self._receive)
        self._world = world
        self._rng = rng
        self._connection = 0
        self._alive: set[int] = set()
        self._call: sip.CallId | None = None
        self._offer: SessionDescription | None = None
        self._answer: SessionDescription | None = None

    # ---- what the script asks for

    def dial(self) -> None:
        plan = self.plan
        local = negotiation.LocalMedia(
            self.phone.address,
            encodings=("PCMU", "PCMA") if plan.encoding == "PCMU" else ("PCMA", "PCMU"),
            suites=("AES_CM_128_HMAC_SHA1_32",) if plan.suite.endswith("32") else ("AES_CM_128_HMAC_SHA1_80",),
        )
        self._offer = negotiation.make_offer(local, entropy=self._rng.randbytes)
        invite = sip.Invite(
            target="sip:+4930555999@relay.example",
            caller=f"sip:{self.number}@carrier.example",
            offer=self._offer.encode(),
            transport=plan.transport,
            host=RELAY[0],
            port=5061,
            credentials=CREDENTIALS if self._world.script.trunk_proves_itself else None,
        )
        self._call = self.agent.invite(invite, self._now)
        self.drain()

    def hang_up(self) -> None:
        """CANCEL or BYE, as the call's state demands."""
        if self._call is not None:
            self.agent.hang_up(self._call, self._now)
            self._over("hung up here")
            self.drain()

    # ---- signalling

    def flow_at_relay(self, connection: int) -> sip.Flow:
        local, remote = self._addresses(connection)
        return sip.Flow(self._flow_id(connection), self.plan.transport, remote, local)

    def send_down(self, connection: int, data: bytes) -> None:
        """The relay sends on one of this caller's connections."""
        if connection in self._alive:
            self._down.send(Message(connection, data))

    def connections_broke(self) -> None:
        """The relay's process is gone, and its connections with it."""
        if self.plan.transport != "udp":
            broken, self._alive = self._alive, set()
            for connection in sorted(broken):
                self.agent.flow_closed(self._flow_id(connection), self._now)
            self.drain()

    def handle_timer(self) -> None:
        self.agent.handle_timer(self._now)
        self.drain()

    def drain(self) -> None:
        """Carry out what the user agent wants."""
        while effects := self.agent.poll():
            for effect in effects:
                self._carry_out(effect)
        self._world.schedule.arm(self.agent, self.handle_timer)

    def _carry_out(self, effect: sip.Effect) -> None:
        match effect:
            case sip.SendMessage(flow_id=flow_id, data=data):
                self._up.send(Message(int(flow_id.rpartition("/")[2]), data))
            case sip.OpenFlow(request_id=request_id):
                self._world.schedule.after(_CONNECT_SECONDS, lambda: self._open_flow(request_id))
            case sip.CloseFlow():
                pass
            case _:
                self._take(effect)

    def _take(self, event: sip.UserAgentEvent) -> None:
        self._world.note(self.name, type(event).__name__)
        match event:
            case sip.CallAnswered():
                self._answered()
            case sip.CallRefused(status=status):
                self._over(f"refused {status}")
            case sip.CallEnded(by=by):
                self._over(f"ended by {by}")
            case sip.SessionOffered(call=call):
                self.agent.refuse_offer(call, 488, self._now)
            case _:
                pass

    def answer_leaves(self, answer: SessionDescription) -> None:
        """The relay's answer is on its way: from now on media may come, and the checkers' tap must open them."""
        assert self._offer is not None
        if answer == self._answer:
            return  # repeated
        self._answer = answer
        try:
            settled = negotiation.accept_answer(self._offer, answer).media
        except RemoteError as error:
            self._world.complain(f"{self.name} cannot take the relay's answer: {error}")
            return
        assert settled.send_key is not None
        assert settled.receive_key is not None
        if settled.remote != RELAY or settled.encoding != self.plan.encoding:
            self._world.complain(f"{self.name} was answered {settled.encoding} at {settled.remote}")
        self.phone.connect(
            Connection(
                settled.encoding,
                settled.payload_type,
                SrtpKey(settled.send_key.suite, settled.send_key.master),
                SrtpKey(settled.receive_key.suite, settled.receive_key.master),
            )
        )

    def _answered(self) -> None:
        self.phone.last_heard = self._now
        self.phone.speak()
        self._watch()

    def _watch(self) -> None:
        """Give up a call in which nothing is heard any more."""
        limit = self.plan.gives_up_after_s
        if limit is None or self._call is None or not self.phone.speaking:
            return
        if self._now - self.phone.last_heard >= limit:
            self._world.note(self.name, "hears nothing")
            self.hang_up()
        else:
            self._world.schedule.after(0.25, self._watch)

    def _over(self, how: str) -> None:
        if self._call is not None:
            self.outcomes.append(how)
        self._call = None
        self.phone.fall_silent()

    # ---- connections

    def _open_flow(self, request_id: str) -> None:
        if self._world.relay is None and self.plan.transport != "udp":
            self.agent.flow_failed(request_id, self._now)
        else:
            self._connection += 1
            self._alive.add(self._connection)
            local, remote = self._addresses(self._connection)
            flow = sip.Flow(self._flow_id(self._connection), self.plan.transport, local, remote)
            self.agent.flow_opened(request_id, flow, self._now)
        self.drain()

    def _reaches_relay(self, message: Message) -> None:
        if message.connection in self._alive:
            self._world.sip_arrives(self, message)

    def _receive(self, message: Message) -> None:
        if message.connection in self._alive:
            local, remote = self._addresses(message.connection)
            flow = sip.Flow(self._flow_id(message.connection), self.plan.transport, local, remote)
            self.agent.receive(message.data, flow, self._now)
            self.drain()

    def _addresses(self, connection: int) -> tuple[sip.Address, sip.Address]:
        return (self.phone.address[0], 5060 + connection), (RELAY[0], 5061)

    def _flow_id(self, connection: int) -> sip.FlowId:
        return sip.FlowId(f"{self.name}/{connection}")

    @property
    def _now(self) -> float:
        return self._world.schedule.now
