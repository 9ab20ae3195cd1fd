"""The trunk side of contacts: SIP calls, what was negotiated for their audio, and the legs that carry it."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from relay import media
from signaling.errors import RemoteError
from signaling.sip import negotiation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from relay.media import Address, LegId, MediaCommand
    from signaling.contact.commands import EndCause
    from signaling.sip.events import CallId, IncomingCall, SessionOffered
    from signaling.sip.sdp import SessionDescription

FINAL_RESPONSES: dict[EndCause, int] = {
    "ended": 480,
    "queue_full": 486,
    "no_such_queue": 404,
    "waited_too_long": 480,
    "not_joined": 480,
}
"""What a caller that was not answered yet is told (RFC 3261 §21)."""


class CallControl(Protocol):
    """What is asked of the SIP user agent."""

    def ring(self, call: CallId, now: float) -> None:
        """Send 180."""
        ...

    def answer(self, call: CallId, sdp: bytes, now: float) -> None:
        """Send 200 with our description."""
        ...

    def reject(self, call: CallId, status: int, now: float, reason: str = "") -> None:
        """Send a final response that is not 2xx."""
        ...

    def hang_up(self, call: CallId, now: float, cause: str = "") -> None:
        """End the call however its state demands."""
        ...

    def accept_offer(self, call: CallId, sdp: bytes, now: float) -> None:
        """Answer a re-INVITE or UPDATE."""
        ...

    def refuse_offer(self, call: CallId, status: int, now: float, reason: str = "") -> None:
        """Refuse a re-INVITE or UPDATE: what held before holds on."""
        ...


@dataclass(slots=True)
class TrunkCall:
    """One call of a trunk."""

    call: CallId
    contact_id: str
    participant_id: str
    trunk: str
    signalling_host: str
    """Our end of the signalling."""
    local: negotiation.LocalMedia
    negotiated: negotiation.Negotiated
    leg_id: LegId | None = None
    answered: bool = False
    receives_since: float = math.inf
    """Since when the peer is to send; infinity while it is not."""


@dataclass(frozen=True, slots=True)
class TrunkMedia:
    """How the legs of one trunk may be."""

    allow_plain_rtp: bool = False


@dataclass(slots=True)
class TrunkCalls:
    """All calls of trunks, by the user agent's id and by participant."""

    control: CallControl
    addresses: tuple[Address, ...]
    """Media sockets, the first one is the default."""
    advertised: Mapping[str, str]
    """Public address for a local one."""
    trunks: Mapping[str, TrunkMedia]
    entropy: Callable[[int], bytes]
    _by_call: dict[CallId, TrunkCall] = field(default_factory=dict["CallId", TrunkCall])
    _by_participant: dict[tuple[str, str], TrunkCall] = field(default_factory=dict[tuple[str, str], TrunkCall])

    _by_leg: dict[LegId, TrunkCall] = field(default_factory=dict["LegId", TrunkCall])

    def __len__(self) -> int:
        return len(self._by_call)

    def admit(self, event: IncomingCall, contact_id: str, participant_id: str) -> None:
        """Settle the media of a call that came in; raises RemoteError 488 if it cannot be settled."""
        if event.offer is None:
            raise RemoteError("an INVITE without an offer is not served yet", sip_status=488)
        local = self._local_media(event.trunk, event.local[0], event.offer)
        negotiated = negotiation.answer(event.offer, local, entropy=self.entropy)
        admitted = TrunkCall(event.call, contact_id, participant_id, event.trunk, event.local[0], local, negotiated)
        self._by_call[event.call] = admitted
        self._by_participant[contact_id, participant_id] = admitted

    def find(self, call: CallId) -> TrunkCall | None:
        """A call that is still there."""
        return self._by_call.get(call)

    def of(self, contact_id: str, participant_id: str) -> TrunkCall | None:
        """The call of a participant."""
        return self._by_participant.get((contact_id, participant_id))

    def on_leg(self, leg_id: LegId) -> TrunkCall | None:
        """The call of a leg."""
        return self._by_leg.get(leg_id)

    def ring(self, call: TrunkCall, now: float) -> None:
        """Tell the caller that it rings."""
        self.control.ring(call.call, now)

    def answer(self, call: TrunkCall, now: float) -> media.OpenLeg:
        """Answer the caller; the leg that is returned must be opened at once."""
        call.answered = True
        call.receives_since = now if call.negotiated.media.receives else math.inf
        call.leg_id = media.LegId(f"trunk/{call.call}")
        self._by_leg[call.leg_id] = call
        self.control.answer(call.call, call.negotiated.answer.encode(), now)
        return self._leg(call, call.leg_id)

    def end(self, call: TrunkCall, cause: EndCause, now: float) -> None:
        """Hang up, or refuse a call that was not answered yet."""
        if call.answered:
            self.control.hang_up(call.call, now)
        else:
            self.control.reject(call.call, FINAL_RESPONSES[cause], now)
        self.forget(call)

    def forget(self, call: TrunkCall) -> None:
        """The call is gone."""
        self._by_call.pop(call.call, None)
        self._by_participant.pop((call.contact_id, call.participant_id), None)
        if call.leg_id is not None:
            self._by_leg.pop(call.leg_id, None)

    def offered_anew(self, event: SessionOffered, now: float) -> MediaCommand | None:
        """Answer a re-INVITE or UPDATE: hold, resume, refresh, or the same audio at another address.

        Another codec or other keys in mid-call are refused (488): what was settled before holds on. A peer may go on in
        the other address family: then so do we.
        """
        call = self._by_call.get(event.call)
        if call is None:
            return None
        if event.offer is None:
            offer = negotiation.reoffer(call.negotiated, call.local, entropy=self.entropy)
            self.control.accept_offer(call.call, offer.encode(), now)
            return None
        try:
            local = self._local_media(call.trunk, call.signalling_host, event.offer, call.local)
            again = negotiation.answer(event.offer, local, entropy=self.entropy, previous=call.negotiated)
        except RemoteError as error:
            self.control.refuse_offer(call.call, error.sip_status, now)
            return None
        before, after = call.negotiated.media, again.media
        if (before.encoding, before.receive_key) != (after.encoding, after.receive_key):
            self.control.refuse_offer(call.call, 488, now)
            return None
        call.negotiated = again
        moved, call.local = call.local.address != local.address, local
        if before.receives != after.receives:
            call.receives_since = now if after.receives else math.inf
        self.control.accept_offer(call.call, again.answer.encode(), now)
        if call.leg_id is None or after.remote is None or (after.remote == before.remote and not moved):
            return None
        return media.MoveLeg(call.leg_id, after.remote, after.remote_rtcp, self._own(local) if moved else None)

    def _local_media(
        self, trunk: str, signalling_host: str, offer: SessionDescription, present: negotiation.LocalMedia | None = None
    ) -> negotiation.LocalMedia:
        """Where the peer is to send: to an address of the family that it offers; raises RemoteError 488.

        Rather the present one than another, else the one that signalling reached, else one that is on loopback exactly
        if the peer's is.
        """
        offered = negotiation.offered_host(offer)
        family = [each for each in self.addresses if not offered or (":" in each[0]) == (":" in offered)]
        if not family:
            raise RemoteError("there is no media address of the offered family", sip_status=488)
        if present is not None and (_is_unspecified(offered) or self._own(present) in family):
            return present
        on_loopback = _is_loopback(offered)
        host, port = min(family, key=lambda each: (each[0] != signalling_host, _is_loopback(each[0]) != on_loopback))
        allowed = self.trunks.get(trunk, TrunkMedia())
        return negotiation.LocalMedia(
            address=(self.advertised.get(host, host), port), allow_plain_rtp=allowed.allow_plain_rtp
        )

    def _own(self, local: negotiation.LocalMedia) -> Address:
        """The media socket behind what a peer was told."""
        public = {self.advertised.get(host, host): (host, port) for host, port in self.addresses}
        return public[local.address[0]]

    def _leg(self, call: TrunkCall, leg_id: LegId) -> media.OpenLeg:
        settled = call.negotiated.media
        return media.OpenLeg(
            leg_id=leg_id,
            codec=media.Codec(settled.encoding, settled.payload_type),
            ssrc=int.from_bytes(self.entropy(4), "big"),
            receive_key=_key(settled.receive_key),
            send_key=_key(settled.send_key),
            local=self._own(call.local),
            remote=settled.remote,
            remote_rtcp=settled.remote_rtcp,
            telephone_event=settled.telephone_event,
        )


def _is_loopback(host: str) -> bool:
    return bool(host) and ipaddress.ip_address(host).is_loopback


def _is_unspecified(host: str) -> bool:
    return not host or ipaddress.ip_address(host).is_unspecified


def _key(key: negotiation.SdesKey | None) -> media.SrtpKey | None:
    return None if key is None else media.SrtpKey(key.suite, key.master)
