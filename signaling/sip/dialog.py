"""Dialogs: what two ends agree on for the requests between them (RFC 3261 §12)."""

from __future__ import annotations

from dataclasses import dataclass, field

from signaling.errors import RemoteError
from signaling.sip.grammar import NameAddress, Uri
from signaling.sip.message import Items, Request, Response


@dataclass(slots=True)
class Dialog:
    """One end of a dialog; early until `confirmed`."""

    call_id: str
    local: NameAddress = field(repr=False)
    """Our address with our tag."""
    remote: NameAddress = field(repr=False)
    """The peer's address, with its tag if it has one (RFC 2543 peers need not)."""
    remote_target: Uri = field(repr=False)
    route_set: tuple[NameAddress, ...] = ()
    local_sequence: int = 0
    remote_sequence: int | None = None
    confirmed: bool = False

    @classmethod
    def from_request(cls, invite: Request, local_tag: str) -> Dialog:
        """The dialog of the one who is called (§12.1.1); raises RemoteError without a Contact."""
        return cls(
            invite.call_id,
            invite.recipient.tagged(local_tag),
            invite.sender,
            _target(invite),
            tuple(invite.addresses("Record-Route")),
            remote_sequence=invite.cseq.number,
        )

    @classmethod
    def from_response(cls, invite: Request, response: Response) -> Dialog:
        """The dialog of the one who calls (§12.1.2); raises RemoteError without a Contact."""
        return cls(
            invite.call_id,
            invite.sender,
            response.recipient,
            _target(response),
            tuple(reversed(response.addresses("Record-Route"))),
            local_sequence=invite.cseq.number,
            confirmed=response.status >= 200,
        )

    @property
    def local_tag(self) -> str:
        """Our tag."""
        return self.local.tag or ""

    @property
    def remote_tag(self) -> str:
        """The peer's tag, empty if it has none."""
        return self.remote.tag or ""

    @property
    def next_hop(self) -> Uri:
        """Where a request goes when its flow is gone: the first route, or the peer itself."""
        return self.route_set[0].uri if self.route_set else self.remote_target

    def request(self, method: str, headers: Items = (), body: bytes = b"", *, sequence: int | None = None) -> Request:
        """Make a request within the dialog (§12.2.1.1). ACK and CANCEL give the `sequence` of their INVITE."""
        if sequence is None:
            self.local_sequence += 1
            sequence = self.local_sequence
        uri, routes = self._routing()
        return Request(
            (
                ("Max-Forwards", "70"),
                *(("Route", str(route)) for route in routes),
                ("From", str(self.local)),
                ("To", str(self.remote)),
                ("Call-ID", self.call_id),
                ("CSeq", f"{sequence} {method}"),
                *headers,
            ),
            body,
            method,
            str(uri),
        )

    def take(self, request: Request) -> None:
        """Check the order of a request from the peer (§12.2.2); raises RemoteError 500 if it is out of order."""
        number = request.cseq.number
        if self.remote_sequence is not None and number <= self.remote_sequence:
            raise RemoteError("CSeq is out of order", sip_status=500)
        self.remote_sequence = number

    def refresh_target(self, message: Request | Response) -> None:
        """Take the Contact of a target refresh (re-INVITE, UPDATE and their 2xx) as the peer's new address."""
        contacts = message.contacts
        if len(contacts) == 1:
            self.remote_target = contacts[0].uri

    def _routing(self) -> tuple[Uri, tuple[NameAddress, ...]]:
        """Request-URI and Route; a first route without `lr` is a strict router of RFC 2543 (§12.2.1.1)."""
        if not self.route_set or self.route_set[0].uri.parameter("lr") is not None:
            return self.remote_target, self.route_set
        first, *rest = self.route_set
        return first.uri, (*rest, NameAddress(self.remote_target))


def _target(message: Request | Response) -> Uri:
    contacts = message.contacts
    if len(contacts) != 1 or contacts[0].uri.scheme not in {"sip", "sips"}:
        raise RemoteError("one Contact with a SIP URI is needed")
    return contacts[0].uri
