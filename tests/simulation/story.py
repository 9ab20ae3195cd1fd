"""What happened to the relay, told by those outside of it: the ground on which checkers judge what it did.

Times are those at which a message reached the relay, or left it. Nothing in here asks the relay's own state: who may
hear whom, and what is recorded, follows from the rules alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from tests.simulation.script import Script

MUSIC, RINGBACK = "music", "ringback"
_WITHIN_A_TICK = 1e-9
"""What the relay does because of a tick takes effect in the next one."""
EndedBy = Literal["caller", "agent", "relay", "kill"]


@dataclass(slots=True)
class Stretch:
    """From one moment to another, or to the end."""

    first: float
    end: float | None = None


@dataclass(slots=True)
class Offer:
    """A contact rang at an agent."""

    agent: str
    contact_id: str
    at: float
    ended: float | None = None
    taken: bool = False


@dataclass(slots=True)
class Presence:
    """An agent is on a call: from its answer until it leaves, or the end."""

    agent: str
    first: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a call while nothing changed."""

    name: str
    hears: str | None
    rule: str | None
    """By which its track is closed; None: it is recorded. G1: it has no track."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a call in which nothing changed; sides that are not connected are None."""

    first: float
    end: float
    caller: Side | None
    agent: Side | None

    def side(self, name: str) -> Side | None:
        return next((side for side in (self.caller, self.agent) if side is not None and side.name == name), None)


@dataclass(slots=True)
class Talk:
    """One call."""

    life: int
    caller: str
    initiated: float
    script: Script
    sequence: int = 0
    contact_id: str | None = None
    answered: float | None = None
    acked: float | None = None
    offers: list[Offer] = field(default_factory=list)
    presences: list[Presence] = field(default_factory=list)
    holds: list[Stretch] = field(default_factory=list)
    mutes: list[Stretch] = field(default_factory=list)
    over: float | None = None
    over_by: EndedBy | None = None
    completed: float | None = None
    media_lost: bool = False
    """Whether it ended because the agent's media were lost."""

    @property
    def present(self) -> Presence | None:
        """The agent who is on the call."""
        return self.presences[-1] if self.presences and self.presences[-1].end is None else None

    @property
    def agent(self) -> str | None:
        """Who is on the call, or was at its end."""
        last = self.presences[-1] if self.presences else None
        return last.agent if last is not None and last.end in (None, self.over) else None

    @property
    def joined(self) -> float | None:
        """When both sides were there, if that was before the end."""
        if self.agent is None or self.acked is None:
            return None
        joined = max(self.presences[-1].first, self.acked)
        return joined if self.over is None or joined <= self.over else None

    @property
    def held(self) -> bool:
        return bool(self.holds) and self.holds[-1].end is None

    @property
    def muted(self) -> bool:
        return bool(self.mutes) and self.mutes[-1].end is None

    def open_offer(self, now: float) -> Offer | None:
        """The offer that an agent can still accept."""
        if not self.offers or self.over is not None or self.present is not None:
            return None
        offer = self.offers[-1]
        return offer if offer.ended is None and now < offer.at + self.script.offer_seconds else None

    def end(self, now: float, by: EndedBy) -> None:
        if self.over is None:
            self.over, self.over_by = now, by
            for stretches in (self.holds, self.mutes, self.presences):
                if stretches and stretches[-1].end is None:
                    stretches[-1].end = now

    def segments(self) -> list[Segment]:
        """Everything in which somebody was connected."""
        assert self.over is not None, "every call ends before it is judged"
        moments = {self.acked or self.over, self.over}
        for stretches in (self.holds, self.mutes, self.presences):
            moments |= {at for each in stretches for at in (each.first, each.end or self.over)}
        ordered = sorted(at for at in moments if at <= self.over)
        made = (self._segment(first, end) for first, end in pairwise(ordered))
        return [each for each in made if each.caller or each.agent]

    def _segment(self, first: float, end: float) -> Segment:
        presence = next((each for each in self.presences if _within(first, [each])), None)
        connected = self.acked is not None and self.acked <= first
        held, muted = _within(first, self.holds), _within(first, self.mutes)
        recorded = self.script.recorded
        caller = agent = None
        if connected and presence is None:
            caller = Side(self.caller, self.script.waiting_source, "G1")
        elif connected and presence is not None:
            rule = "G8" if "customer" not in recorded else "G2" if held else None
            caller = Side(self.caller, MUSIC if held else None if muted else presence.agent, rule)
        if presence is not None:
            rule = "G8" if "agent" not in recorded else "G3" if muted else None
            agent = Side(presence.agent, self.caller if connected and not held else None, rule)
        return Segment(first, end, caller, agent)


def _within(at: float, stretches: Sequence[Stretch | Presence]) -> bool:
    return any(each.first <= at < (float("inf") if each.end is None else each.end) for each in stretches)


@dataclass(slots=True)
class Story:
    """All calls, and what the relay said to those who asked."""

    script: Script
    talks: list[Talk] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Where the relay's answers contradict what it was told."""
    life: int = 0
    kills: list[tuple[int, float]] = field(default_factory=list)
    """Which life ended when."""
    requests: int = 0
    _invited_already: set[tuple[str, int]] = field(default_factory=set)

    # ---- signalling, as it reaches and leaves the relay

    def heard(self, caller: str, data: bytes, now: float) -> None:
        """A caller's message reaches the relay."""
        talk = self._present(caller)
        method, sequence = data.split(b" ", 1)[0], _sequence(data)
        if method == b"INVITE":
            self._invited(caller, sequence, now)
        elif talk is None:
            pass
        elif method == b"ACK" and talk.answered is not None and sequence == talk.sequence:
            talk.acked = talk.acked or now
        elif (method == b"BYE" and talk.answered is not None) or (method == b"CANCEL" and talk.answered is None):
            talk.end(now, "caller")

    def _invited(self, caller: str, sequence: int, now: float) -> None:
        if (caller, sequence) not in self._invited_already:  # else a repetition
            self._invited_already.add((caller, sequence))
            self.talks.append(Talk(self.life, caller, now, self.script, sequence))

    def said(self, caller: str, data: bytes, now: float) -> None:
        """The relay's message to a caller leaves it."""
        talk = self._present(caller)
        if talk is None:
            return
        if data.startswith(b"SIP/2.0 401") and _sequence(data) == talk.sequence:
            self.talks.remove(talk)  # it is no call before it comes with its proof
        elif data.startswith(b"SIP/2.0 200") and _answers_invite(data):
            talk.answered = talk.answered or now
        elif data.startswith(b"BYE "):
            if not self.script.relay_hangs_up:
                self.complaints.append(f"the relay hung up on {caller}, and nobody had asked for it")
            talk.end(now + _WITHIN_A_TICK, "relay")

    def _present(self, caller: str) -> Talk | None:
        return next((each for each in reversed(self.talks) if each.caller == caller and each.over is None), None)

    # ---- softphones

    def rang(self, agent: str, contact_id: str, caller: str, now: float) -> None:
        """The relay offers a contact to an agent."""
        talk = self._present(caller)
        if talk is None:
            self.complaints.append(f"{agent} was offered a call of {caller}, who does not call")
            return
        if any(each.initiated < talk.initiated and self._waits(each, now) for each in self.talks if each.over is None):
            self.complaints.append(f"{agent} was offered {caller}, though another caller waits longer")
        talk.contact_id = contact_id
        if talk.muted:
            talk.mutes[-1].end = now  # whoever muted itself is not on this call any more
        talk.offers.append(Offer(agent, contact_id, now))

    def _waits(self, talk: Talk, now: float) -> bool:
        return talk.present is None and talk.open_offer(now) is None

    def asked(self, agent: str, contact_id: str, action: str, refusal: str | None, now: float) -> None:
        """An agent's request reached the relay, and this was its answer."""
        self.requests += 1
        talk = self._of(agent, contact_id)
        fits = talk is not None and self._fits(talk, agent, action, now)
        if fits != (refusal is None) and not (action == "hang_up" and not fits):
            said = "taken" if refusal is None else f"refused ({refusal})"
            self.complaints.append(f"{action} of {agent} at {now:.3f} was {said}")
        if talk is not None and fits and refusal is None:
            self._take(talk, agent, action, now)

    def _of(self, agent: str, contact_id: str) -> Talk | None:
        return next(
            (each for each in self.talks if any((o.agent, o.contact_id) == (agent, contact_id) for o in each.offers)),
            None,
        )

    def _fits(self, talk: Talk, agent: str, action: str, now: float) -> bool:
        offer = talk.open_offer(now)
        if action in {"accept", "reject"}:
            return offer is not None and offer.agent == agent
        if talk.agent != agent:
            ringing = offer is not None and offer.agent == agent
            return ringing and action in {"hang_up", "unmute" if talk.muted else "mute"}
        if action == "complete":
            return (
                talk.over is not None and talk.joined is not None and talk.completed is None and self._works(talk, now)
            )
        if talk.over is not None:
            return False
        if action == "hang_up":
            return True
        if action in {"mute", "unmute"}:
            return talk.muted == (action == "unmute")
        return talk.joined is not None and talk.held == (action == "resume")

    def _works(self, talk: Talk, now: float) -> bool:
        return talk.over is not None and now < talk.over + self.script.after_work_seconds and talk.over_by != "kill"

    def _take(self, talk: Talk, agent: str, action: str, now: float) -> None:
        match action:
            case "accept":
                talk.presences.append(Presence(agent, now))
                talk.offers[-1].taken = True
            case "reject":
                talk.offers[-1].ended = now
            case "hold":
                talk.holds.append(Stretch(now))
            case "resume":
                talk.holds[-1].end = now
            case "mute":
                talk.mutes.append(Stretch(now))
            case "unmute":
                talk.mutes[-1].end = now
            case "complete":
                talk.completed = now
            case _:
                self._left(talk, agent, now)

    def _left(self, talk: Talk, agent: str, now: float) -> None:
        """An agent is gone: a conversation ends; a caller who was not yet connected waits again."""
        if talk.joined is not None:
            talk.end(now, "agent")
        else:
            talk.offers[-1].ended = now
            if talk.present is not None:
                talk.present.end = now

    def media_lost(self, agent: str, now: float) -> None:
        """The relay was told that an agent's media is gone."""
        for talk in self.talks:
            offer = talk.open_offer(now)
            if talk.over is None and (talk.agent == agent or (offer is not None and offer.agent == agent)):
                talk.media_lost = True
                self._left(talk, agent, now)

    def page_lost(self, agent: str, now: float) -> None:
        """The relay noticed that an agent's page is gone: what rings there is withdrawn, what is up goes on."""
        for talk in self.talks:
            offer = talk.open_offer(now)
            if offer is not None and offer.agent == agent:
                offer.ended = now

    # ---- the machine

    def killed(self, now: float) -> None:
        self.kills.append((self.life, now))
        for talk in self.talks:
            talk.end(now, "kill")
        self.life += 1


def _answers_invite(data: bytes) -> bool:
    return re.search(rb"^CSeq: *\d+ INVITE", data, re.MULTILINE | re.IGNORECASE) is not None


def _sequence(data: bytes) -> int:
    found = re.search(rb"^CSeq: *(\d+)", data, re.MULTILINE | re.IGNORECASE)
    return int(found[1]) if found else -1
