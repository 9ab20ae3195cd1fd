"""Agents' desks: the softphone session that speaks for an agent, its standing media leg, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from signaling.agents import Agent, AgentState
from signaling.softphone import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from relay.media import LegId, LegReport, Levels

SHOWN: dict[AgentState, messages.AgentState] = {
    AgentState.OFFLINE: "offline",
    AgentState.AVAILABLE: "available",
    AgentState.CUSTOM: "break",
    AgentState.MISSED: "break",
    AgentState.RINGING: "ringing",
    AgentState.ON_CONTACT: "on_contact",
    AgentState.AFTER_CONTACT_WORK: "after_contact_work",
}
CHOSEN: dict[AgentState, messages.SettableState] = {
    AgentState.OFFLINE: "offline",
    AgentState.AVAILABLE: "available",
    AgentState.CUSTOM: "break",
    AgentState.MISSED: "available",
}


@dataclass(slots=True)
class Desk:
    """One agent's place of work. It outlives its session for a while, so that a page can come back to its call."""

    user: str
    role: str
    session_id: str | None = None
    leg_id: LegId | None = None
    """The leg that is live; None: none."""
    connecting: LegId | None = None
    """The leg that ICE and DTLS are being done for."""

    @property
    def media(self) -> messages.MediaState:
        """The media connection, for the page."""
        if self.leg_id is not None:
            return "connected"
        return "connecting" if self.connecting is not None else "closed"


@dataclass(slots=True)
class Desks:
    """All desks, by user, by session and by leg."""

    notify: Callable[[str, messages.Notification], None]
    """Takes a session id and what to tell it; must not block."""
    _by_user: dict[str, Desk] = field(default_factory=dict[str, Desk])
    _by_session: dict[str, Desk] = field(default_factory=dict[str, Desk])
    _by_leg: dict[LegId, Desk] = field(default_factory=dict["LegId", Desk])

    def __iter__(self) -> Iterator[Desk]:
        return iter(tuple(self._by_user.values()))

    def user(self, user: str) -> Desk | None:
        """The desk of an agent."""
        return self._by_user.get(user)

    def session(self, session_id: str) -> Desk | None:
        """The desk that a session speaks for."""
        return self._by_session.get(session_id)

    def leg(self, leg_id: LegId) -> Desk | None:
        """The desk of a live leg."""
        return self._by_leg.get(leg_id)

    def connecting(self, leg_id: LegId) -> Desk | None:
        """The desk that ICE and DTLS are being done for."""
        return next((desk for desk in self._by_user.values() if desk.connecting == leg_id), None)

    def open(self, user: str, role: str, session_id: str) -> tuple[Desk, str | None]:
        """Give a session its desk; also returns the session that it replaces."""
        desk = self._by_user.setdefault(user, Desk(user, role))
        replaced = desk.session_id
        if replaced is not None:
            self._by_session.pop(replaced, None)
        desk.role, desk.session_id = role, session_id
        self._by_session[session_id] = desk
        return desk, replaced

    def session_lost(self, session_id: str) -> Desk | None:
        """A session is gone; returns the desk that it spoke for until now."""
        desk = self._by_session.pop(session_id, None)
        if desk is not None:
            desk.session_id = None
        return desk

    def close(self, desk: Desk) -> None:
        """The agent is gone for good; its legs are already closed."""
        self._by_user.pop(desk.user, None)
        if desk.session_id is not None:
            self._by_session.pop(desk.session_id, None)

    def attach(self, desk: Desk, leg_id: LegId) -> None:
        """A leg is live."""
        desk.leg_id, desk.connecting = leg_id, None
        self._by_leg[leg_id] = desk

    def detach(self, desk: Desk) -> LegId | None:
        """The leg is no longer the desk's; returns it, to be closed."""
        leg_id, desk.leg_id = desk.leg_id, None
        if leg_id is not None:
            self._by_leg.pop(leg_id, None)
        return leg_id

    def tell(self, user: str, notification: messages.Notification) -> None:
        """Tell an agent, if it has a session."""
        desk = self._by_user.get(user)
        if desk is not None and desk.session_id is not None:
            self.notify(desk.session_id, notification)

    def tell_state(self, agent: Agent) -> None:
        """Tell an agent what it is, and what it will be after the contact."""
        busy = agent.contact_id is not None
        self.tell(
            agent.user, messages.AgentStateChanged(SHOWN[agent.state], CHOSEN.get(agent.target) if busy else None)
        )

    def tell_levels(self, levels: Levels) -> None:
        """Tell each agent how loud its microphone and its ear are."""
        for index, leg_id in enumerate(levels.leg_ids):
            desk = self._by_leg.get(leg_id)
            if desk is not None:
                self.tell(desk.user, messages.Levels(round(levels.from_leg[index], 1), round(levels.to_leg[index], 1)))

    def tell_quality(self, report: LegReport) -> None:
        """Tell an agent how its connection does."""
        desk = self._by_leg.get(report.leg_id)
        if desk is None:
            return
        counted = report.statistics
        expected = counted.packets_received + counted.lost
        self.tell(
            desk.user,
            messages.Quality(
                loss_ratio=round(counted.lost / expected, 4) if expected else None,
                jitter_ms=round(counted.jitter_ms, 1) if expected else None,
                round_trip_ms=counted.round_trip_ms,
            ),
        )
