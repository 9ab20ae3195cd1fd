"""An agent with a browser: what its page would do, and a phone for its media.

The microphone is attached from `connected` to `ended`, as the page does it; a bad page (`open_microphone`) leaves it on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.media import Codec, LegId, OpenLeg, SrtpKey
from signaling.softphone import messages as m
from tests.simulation import tones
from tests.simulation.phone import KEY_BYTES, Connection, Phone
from tests.simulation.script import AgentPlan
from tests.simulation.wire import RELAY

if TYPE_CHECKING:
    from tests.simulation.world import World

_HANDSHAKE_SECONDS = 0.15
_RETRY_SECONDS = 0.5
_PAYLOAD_TYPES = {"opus": 111, "PCMU": 0, "PCMA": 8}


class Softphone:
    """One agent; messages take `page_delay_s` each way and keep their order."""

    def __init__(self, world: World, plan: AgentPlan, index: int, hertz: int) -> None:
        self.plan = plan
        self.name = plan.name
        self._rng = random.Random(f"{world.seed} {plan.name}")
        self.phone = Phone(plan.name, hertz, (f"10.2.0.{index + 1}", 30_000), world.schedule, world.wire, self._rng)
        self.session_id: str | None = None
        self.contact_id: str | None = None
        """The contact that the page shows."""
        self.connected = False
        self.state = "offline"
        self.heard: list[tuple[str, str]] = []
        """Notifications about contacts, in order: what, contact."""
        self._sessions = 0
        self._leg_id: LegId | None = None
        self._world = world

    # ---- what the script asks for

    def sit_down(self) -> None:
        """Log in, and be available once media is up."""
        self._sessions += 1
        session_id = self.session_id = f"{self.name}/{self._sessions}"
        self._up(lambda: self._log_in(session_id))

    def close_page(self) -> None:
        """Log off: the browser's tab is closed."""
        self.lose_socket()
        self.lose_media()

    def lose_socket(self) -> None:
        """The WebSocket breaks; media go on."""
        session_id, self.session_id = self.session_id, None
        if session_id is not None:
            self._up(lambda: self._world.page_lost(self, session_id))

    def lose_media(self) -> None:
        """ICE's consent expires."""
        self.phone.fall_silent()
        if (leg_id := self._leg_id) is not None:
            self._world.media_lost(self, leg_id)

    def ask(self, action: m.ContactAction, contact_id: str | None = None) -> None:
        """Press a button; without a contact there is none."""
        contact_id, session_id = contact_id or self.contact_id, self.session_id
        if contact_id is not None and session_id is not None:
            self._world.note(self.name, "presses", action)
            self._up(lambda: self._world.request(self, session_id, contact_id, action))

    def relay_died(self) -> None:
        """The WebSocket broke: try again until it is there."""
        if self.session_id is not None:
            self.session_id = self.contact_id = self._leg_id = None
            self.connected = False
            self.phone.fall_silent()
            self._world.schedule.after(_RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        if self._world.relay is None:
            self._world.schedule.after(_RETRY_SECONDS, self._retry)
        else:
            self.sit_down()

    # ---- log-in and media

    def _log_in(self, session_id: str) -> None:
        relay = self._world.relay
        if relay is None:
            return
        answer = relay.log_in(self.name, session_id)
        self._down(lambda: self._logged_in(session_id, answer))

    def _logged_in(self, session_id: str, answer: m.LoggedIn) -> None:
        if session_id != self.session_id:
            return
        self.state = answer.state
        if answer.contact is not None:
            self.contact_id = answer.contact.contact_id
            self.connected = answer.contact.state == "connected"
        if answer.media != "connected":
            self._up(lambda: self._connect_media(session_id))
        self._attach_microphone()

    def _connect_media(self, session_id: str) -> None:
        relay = self._world.relay
        if relay is not None and session_id == self.session_id:
            leg_id = relay.leg_connecting(session_id)
            self._world.schedule.after(_HANDSHAKE_SECONDS, lambda: self._media_ready(relay.life, session_id, leg_id))

    def _media_ready(self, life: int, session_id: str, leg_id: LegId) -> None:
        relay = self._world.relay
        if relay is None or relay.life != life:
            return
        plan, size = self.plan, KEY_BYTES[self.plan.suite]
        send, receive = (SrtpKey(plan.suite, self._rng.randbytes(size)) for _ in range(2))
        payload_type = _PAYLOAD_TYPES[plan.encoding]
        codec = Codec(plan.encoding, payload_type, tones.OPUS_BITRATE, tones.OPUS_COMPLEXITY, in_band_fec=False)
        self.phone.connect(Connection(plan.encoding, payload_type, send, receive))
        self._leg_id = leg_id
        ssrc = self._rng.getrandbits(32)
        relay.leg_ready(OpenLeg(leg_id, codec, ssrc, send, receive, RELAY, self.phone.address, latch=False))
        self._up(lambda: relay.set_state(session_id, "available"))
        self._attach_microphone()

    def media_closed(self, leg_id: LegId) -> None:
        """The relay ended the connection."""
        if leg_id == self._leg_id:
            self._leg_id = None
            self.phone.fall_silent()

    def _attach_microphone(self) -> None:
        if self._leg_id is not None and (self.connected or self.plan.open_microphone):
            self.phone.speak()
        else:
            self.phone.fall_silent()

    # ---- what the page is told

    def notify(self, session_id: str, notification: m.Notification) -> None:
        """The relay sends; it arrives a little later."""
        self._down(lambda: self._take(session_id, notification))

    def _take(self, session_id: str, notification: m.Notification) -> None:
        if session_id != self.session_id:
            return
        match notification:
            case m.ContactRinging(contact_id=contact_id):
                self._note("ringing", contact_id)
                self.contact_id = contact_id
                if self.plan.answers_after_s is not None:
                    self._world.schedule.after(self.plan.answers_after_s, lambda: self.ask("accept", contact_id))
            case m.ContactChanged(what=what, contact_id=contact_id):
                self._note(what, contact_id)
                self._changed(what, contact_id)
            case m.ContactEnded(contact_id=contact_id):
                self._note("ended", contact_id)
                self._ended(contact_id)
            case m.AgentStateChanged(state=state):
                self._state_changed(session_id, state)
            case _:
                pass

    def _note(self, what: str, contact_id: str) -> None:
        self.heard.append((what, contact_id))
        self._world.note(self.name, what)

    def _changed(self, what: str, contact_id: str) -> None:
        if what == "connected":
            self.connected = True
            self._attach_microphone()
        elif what == "closed" and contact_id == self.contact_id:
            self.contact_id = None

    def _ended(self, contact_id: str) -> None:
        worked, self.connected = self.connected, False
        self._attach_microphone()
        if worked and self.plan.completes_after_s is not None:
            self._world.schedule.after(self.plan.completes_after_s, lambda: self.ask("complete", contact_id))

    def _state_changed(self, session_id: str, state: str) -> None:
        self.state = state
        if state == "break":  # it missed or refused a contact: back to work
            relay = self._world.relay
            self._up(lambda: relay.set_state(session_id, "available") if relay is not None else None)

    # ---- the way there and back

    def _up(self, do: Callable[[], object]) -> None:
        life = self._world.life
        self._world.schedule.after(self._world.script.page_delay_s, lambda: do() if self._world.life == life else None)

    def _down(self, do: Callable[[], object]) -> None:
        self._up(do)
