"""Agents: who is logged in, in which state, and who can take a contact now.

An agent can be given a contact only in state `available`, with its signalling up **and** its media connection live: the
microphone leg is set up before the contact comes. The states are the table `TRANSITIONS`; `target` means: the state
that the agent chose for afterwards, or else the one that it came from.

Events about a contact name it: one that is not (or no longer) the agent's own changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeAlias

from signaling.errors import Exhausted
from signaling.queues import IdleAgent


class AgentState(StrEnum):
    """What an agent is doing."""

    OFFLINE = "offline"
    AVAILABLE = "available"
    CUSTOM = "custom"
    RINGING = "ringing"
    ON_CONTACT = "on_contact"
    AFTER_CONTACT_WORK = "after_contact_work"
    MISSED = "missed"


ChosenState = Literal["available", "custom", "offline"]


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The agent's signalling is up: a new log-in, or the softphone came back."""

    at: float
    user: str
    queues: frozenset[str]


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The agent's signalling broke off; it may come back (`LoggedIn`) or be given up (`LoggedOut`)."""

    at: float
    user: str


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The agent is gone for good."""

    at: float
    user: str


@dataclass(frozen=True, slots=True)
class StateChosen:
    """The agent (or somebody who may) set its state; while on a contact: its next state."""

    at: float
    user: str
    state: ChosenState
    name: str = ""
    """What a custom state is called: `break`, `training` …"""


@dataclass(frozen=True, slots=True)
class MediaReady:
    """The agent's media connection is live."""

    at: float
    user: str


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The agent's media connection is gone."""

    at: float
    user: str


@dataclass(frozen=True, slots=True)
class ContactOffered:
    """The contact command `OfferToAgent`."""

    at: float
    user: str
    contact_id: str


@dataclass(frozen=True, slots=True)
class ContactAccepted:
    """The agent pressed answer, and the contact took it."""

    at: float
    user: str
    contact_id: str


@dataclass(frozen=True, slots=True)
class WorkBegun:
    """The contact command `BeginWork`."""

    at: float
    user: str
    contact_id: str


@dataclass(frozen=True, slots=True)
class ContactOver:
    """The contact commands `WithdrawOffer` and `ReleaseAgent`."""

    at: float
    user: str
    contact_id: str
    missed: bool = False
    """Whether it was the agent that did not take it: every reason but `caller_left` and `worked`."""


AgentEvent = (
    LoggedIn
    | ConnectionLost
    | LoggedOut
    | StateChosen
    | MediaReady
    | MediaLost
    | ContactOffered
    | ContactAccepted
    | WorkBegun
    | ContactOver
)


class AgentInput(StrEnum):
    """What an event means to an agent's state."""

    LOGGED_OUT = "logged out"
    CHOSE_AVAILABLE = "chose available"
    CHOSE_CUSTOM = "chose a custom state"
    CHOSE_OFFLINE = "chose offline"
    OFFERED = "a contact rings"
    ACCEPTED = "accepted it"
    WORK_BEGUN = "the conversation is over"
    OVER = "the contact is over"
    MISSED = "the contact was not taken"


Target: TypeAlias = AgentState | Literal["target", "remember"]

_S, _I = AgentState, AgentInput
_CHOICES: dict[AgentInput, AgentState] = {
    _I.CHOSE_AVAILABLE: _S.AVAILABLE,
    _I.CHOSE_CUSTOM: _S.CUSTOM,
    _I.CHOSE_OFFLINE: _S.OFFLINE,
}
_FREE = (_S.OFFLINE, _S.AVAILABLE, _S.CUSTOM, _S.MISSED)
_BUSY = (_S.RINGING, _S.ON_CONTACT, _S.AFTER_CONTACT_WORK)

TRANSITIONS: dict[tuple[AgentState, AgentInput], Target] = {
    **{(state, choice): chosen for state in _FREE for choice, chosen in _CHOICES.items()},
    **{(state, choice): "remember" for state in _BUSY for choice in _CHOICES},
    **{(state, _I.LOGGED_OUT): _S.OFFLINE for state in _S},
    (_S.AVAILABLE, _I.OFFERED): _S.RINGING,
    (_S.RINGING, _I.ACCEPTED): _S.ON_CONTACT,
    (_S.RINGING, _I.OVER): "target",
    (_S.RINGING, _I.MISSED): _S.MISSED,
    (_S.ON_CONTACT, _I.WORK_BEGUN): _S.AFTER_CONTACT_WORK,
    (_S.ON_CONTACT, _I.OVER): "target",
    (_S.ON_CONTACT, _I.MISSED): _S.MISSED,
    (_S.AFTER_CONTACT_WORK, _I.OVER): "target",
}
"""`remember`: the state stays, and the choice is the next one. A pair that is absent changes nothing and is counted."""


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's standing; replaced, never changed in place."""

    user: str
    queues: frozenset[str] = frozenset()
    state: AgentState = AgentState.OFFLINE
    state_name: str = ""
    """The name of a custom state."""
    since: float = 0.0
    """When the state began."""
    idle_since: float | None = None
    """Since when a contact could be given; None while it cannot."""
    signalling: bool = False
    media: bool = False
    contact_id: str | None = None
    target: AgentState = AgentState.AVAILABLE
    target_name: str = ""
    seconds: Mapping[AgentState, float] = field(default_factory=lambda: MappingProxyType({}))
    """Time spent in each state that is over."""
    handled: int = 0
    """Contacts that came to a conversation."""
    missed: int = 0

    @property
    def available(self) -> bool:
        """Whether a contact can be given now."""
        return self.state is AgentState.AVAILABLE and self.signalling and self.media

    def seconds_in(self, state: AgentState, now: float) -> float:
        """Time spent in a state up to now."""
        running = max(0.0, now - self.since) if state is self.state else 0.0
        return self.seconds.get(state, 0.0) + running


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """An agent's standing is another one: show it, and see whether a contact waits for it."""

    before: Agent
    after: Agent


@dataclass(frozen=True, slots=True)
class ContactLost:
    """The agent cannot go on with its contact; the contact must hear of it.

    `ringing`: `AgentDeclined(unreachable)`; `on_contact`: `ParticipantLeft(media_lost)`; `after_contact_work`:
    `WorkCompleted`.
    """

    user: str
    contact_id: str
    during: Literal["ringing", "on_contact", "after_contact_work"]


AgentEffect = AgentChanged | ContactLost


@dataclass(frozen=True, slots=True)
class AgentsSettings:
    """Limits."""

    agents_max: int = 2000


class Agents:
    """All agents of an instance that have logged in since the start."""

    def __init__(self, settings: AgentsSettings | None = None) -> None:
        self.settings = settings or AgentsSettings()
        self.ignored: Counter[str] = Counter()
        """Events that did not fit, by what they were."""
        self._agents: dict[str, Agent] = {}

    def get(self, user: str) -> Agent | None:
        """An agent's standing."""
        return self._agents.get(user)

    @property
    def all(self) -> tuple[Agent, ...]:
        """Everybody's standing."""
        return tuple(self._agents.values())

    def idle(self) -> tuple[IdleAgent, ...]:
        """Who can take a contact now."""
        return tuple(
            IdleAgent(agent.user, agent.idle_since, agent.queues)
            for agent in self._agents.values()
            if agent.idle_since is not None
        )

    def handle(self, event: AgentEvent) -> list[AgentEffect]:
        """Take an event. Raises `Exhausted` when one agent too many logs in, and nothing else."""
        before = self._agents.get(event.user)
        if before is None:
            if not isinstance(event, LoggedIn):
                self.ignored["not logged in"] += 1
                return []
            before = self._admitted(event)
        after = _idle_since(_taken(before, event), event.at)
        if after == before:
            self.ignored[type(event).__name__] += 1
            return []
        self._agents[event.user] = after
        return [*_lost(before, event), AgentChanged(before, after)]

    def _admitted(self, event: LoggedIn) -> Agent:
        if len(self._agents) >= self.settings.agents_max:
            # One whose media is live may come back to it, and would not know that it had to set it up again.
            gone = (
                user
                for user, agent in self._agents.items()
                if not (agent.signalling or agent.media or agent.contact_id)
            )
            forgotten = next(gone, None)
            if forgotten is None:
                raise Exhausted("too many agents are logged in")
            del self._agents[forgotten]
        return Agent(event.user, since=event.at)


def _taken(agent: Agent, event: AgentEvent) -> Agent:
    match event:
        case LoggedIn():
            return replace(agent, signalling=True, queues=event.queues)
        case ConnectionLost():
            return replace(agent, signalling=False)
        case MediaReady() | MediaLost():
            return replace(agent, media=isinstance(event, MediaReady))
        case LoggedOut():
            gone = _moved(agent, AgentInput.LOGGED_OUT, event.at)
            return replace(gone, signalling=False, media=False)
        case StateChosen():
            return _moved(agent, _CHOICE_INPUTS[event.state], event.at, event.name)
        case ContactOffered():
            ringing = _moved(agent, AgentInput.OFFERED, event.at) if agent.available else agent
            return ringing if ringing is agent else replace(ringing, contact_id=event.contact_id)
        case _:
            return _on_with_contact(agent, event) if event.contact_id == agent.contact_id else agent


def _on_with_contact(agent: Agent, event: ContactAccepted | WorkBegun | ContactOver) -> Agent:
    match event:
        case ContactAccepted():
            return _moved(agent, AgentInput.ACCEPTED, event.at)
        case WorkBegun():
            working = _moved(agent, AgentInput.WORK_BEGUN, event.at)
            return working if working is agent else replace(working, handled=agent.handled + 1)
        case ContactOver():
            return _moved(agent, AgentInput.MISSED if event.missed else AgentInput.OVER, event.at)


_CHOICE_INPUTS: dict[ChosenState, AgentInput] = {
    "available": AgentInput.CHOSE_AVAILABLE,
    "custom": AgentInput.CHOSE_CUSTOM,
    "offline": AgentInput.CHOSE_OFFLINE,
}


def _moved(agent: Agent, meaning: AgentInput, at: float, name: str = "") -> Agent:
    target = TRANSITIONS.get((agent.state, meaning))
    if target is None:
        return agent
    if target == "remember":
        return replace(agent, target=_CHOICES[meaning], target_name=name)
    state, state_name = (agent.target, agent.target_name) if target == "target" else (target, name)
    if (state, state_name) == (agent.state, agent.state_name):
        return agent
    spent = {**agent.seconds, agent.state: agent.seconds_in(agent.state, at)}
    moved = replace(agent, state=state, state_name=state_name, since=at, seconds=MappingProxyType(spent))
    if state is AgentState.RINGING:
        return replace(moved, target=agent.state, target_name=agent.state_name)
    if state in _FREE:
        return replace(moved, contact_id=None, missed=agent.missed + (state is AgentState.MISSED))
    return moved


def _idle_since(agent: Agent, at: float) -> Agent:
    if not agent.available:
        return replace(agent, idle_since=None)
    return agent if agent.idle_since is not None else replace(agent, idle_since=at)


def _lost(before: Agent, event: AgentEvent) -> list[AgentEffect]:
    """Which events take an agent from its contact: a ringing one needs signalling and media, a talking one media."""
    if before.contact_id is None:
        return []
    match before.state, event:
        case AgentState.RINGING, ConnectionLost() | MediaLost() | LoggedOut():
            return [ContactLost(before.user, before.contact_id, "ringing")]
        case AgentState.ON_CONTACT, MediaLost() | LoggedOut():
            return [ContactLost(before.user, before.contact_id, "on_contact")]
        case AgentState.AFTER_CONTACT_WORK, LoggedOut():
            return [ContactLost(before.user, before.contact_id, "after_contact_work")]
        case _:
            return []
