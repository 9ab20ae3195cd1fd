"""A small contact centre of one agent, in memory: enough service behind the socket to exercise it and the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from signaling.softphone.messages import (
    AgentStateChanged,
    ConnectMedia,
    ContactChanged,
    ContactEnded,
    ContactRequest,
    ContactRinging,
    ContactSnapshot,
    DisconnectMedia,
    ErrorCode,
    LoggedIn,
    MediaStateChanged,
    Request,
    RequestError,
    SetState,
)
from signaling.softphone.session import SoftphoneSession

TOKEN = "demo-token-0123456789"

HAPPENED = {"hold": "held", "resume": "resumed", "mute": "muted", "unmute": "unmuted"}


class FakeService:
    def __init__(self, connect: Callable[[str], Awaitable[str]] | None = None) -> None:
        self.session: SoftphoneSession | None = None
        self.state = "offline"
        self.media = "closed"
        self.contact: ContactSnapshot | None = None
        self.requests: list[Request] = []
        self.closed_sessions: list[str] = []
        self.changed = asyncio.Condition()
        self.connect = connect
        self.hold_up: asyncio.Event | None = None
        self.raises: Exception | None = None

    async def log_in(self, token: str, session: SoftphoneSession) -> LoggedIn:
        if token != TOKEN:
            raise RequestError(ErrorCode.NOT_LOGGED_IN, "the token is not known")
        if self.session is not None:
            self.session.replaced()
        self.session = session
        await self._told()
        return LoggedIn("ada", "agent", self.state, self.media, (), self.contact)

    async def closed(self, session_id: str) -> None:
        self.closed_sessions.append(session_id)
        if self.session is not None and self.session.session_id == session_id:
            self.session = None
        await self._told()

    async def request(self, session_id: str, request: Request) -> Mapping[str, object]:
        self.requests.append(request)
        await self._told()
        if self.hold_up is not None:
            await self.hold_up.wait()
        if self.raises is not None:
            raise self.raises
        match request:
            case ConnectMedia(sdp=sdp):
                assert self.connect is not None
                self.set_media("connecting")
                answer = await self.connect(sdp)
                return {"sdp": answer}
            case DisconnectMedia():
                self.set_media("closed")
            case SetState(state=state):
                self.set_state(state)
                return {"state": state}
            case ContactRequest(action=action, contact_id=contact_id):
                self._contact(action, contact_id)
        await self._told()
        return {}

    def _contact(self, action: str, contact_id: str) -> None:
        if self.contact is None or self.contact.contact_id != contact_id:
            raise RequestError(ErrorCode.NOT_FOUND, "no such contact")
        if action == "accept":
            self.contact = replace(self.contact, state="connected")
            self.set_state("on_contact")
            self.notify(ContactChanged("connected", contact_id))
        elif action == "reject":
            self.end("rejected", work=False)
        elif action == "hang_up":
            self.end("hung_up_by_agent")
        elif action == "complete":
            self.contact = None
            self.notify(ContactChanged("closed", contact_id))
            self.set_state("available")
        else:
            self.contact = replace(
                self.contact,
                on_hold={"hold": True, "resume": False}.get(action, self.contact.on_hold),
                muted={"mute": True, "unmute": False}.get(action, self.contact.muted),
            )
            self.notify(ContactChanged(HAPPENED[action], contact_id))

    def ring(self, contact_id: str = "c-1", number: str = "+49 30 901820", queue: str = "Support") -> None:
        self.contact = ContactSnapshot(contact_id, "ringing", number, queue)
        self.set_state("ringing")
        self.notify(ContactRinging(contact_id, number, queue))

    def end(self, reason: str, *, work: bool = True) -> None:
        assert self.contact is not None
        contact_id = self.contact.contact_id
        self.notify(ContactEnded(contact_id, reason))
        if work:
            self.contact = replace(self.contact, state="after_contact_work")
            self.set_state("after_contact_work")
        else:
            self.contact = None
            self.notify(ContactChanged("closed", contact_id))
            self.set_state("available")

    def set_state(self, state: str) -> None:
        self.state = state
        self.notify(AgentStateChanged(state))

    def set_media(self, state: str, reason: str | None = None) -> None:
        self.media = state
        self.notify(MediaStateChanged(state, reason))

    def notify(self, told: object) -> None:
        if self.session is not None:
            self.session.notify(told)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(condition)

    async def _told(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def announce_ready(relay, service: FakeService) -> None:
    """What the relay's composition does: media that is up becomes `media.state`."""
    told = relay.transports._on_ready

    def ready(leg_id, leg):
        told(leg_id, leg)
        service.set_media("connected")

    relay.transports._on_ready = ready
