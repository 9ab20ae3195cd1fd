"""What a scenario is: the people, the circumstances, and what is done when. Nothing but data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from relay.media import Encoding, SrtpSuite
from tests.world.network import Conditions

Deed = Literal[
    "dial", "hang_up", "fall_silent",  # a caller's
    "sit_down", "close_page", "lose_socket", "lose_media", "accept", "reject", "hold", "resume", "mute", "unmute", "complete",  # an agent's
    "impair", "repair", "new_ssrc", "wrong_key", "move", "flood", "replay",  # the network's
    "stall", "kill", "restart", "store_away", "store_back", "disk_full", "disk_free",  # the machine's
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Act:
    """At `at` seconds somebody (or nobody) does something."""

    at: float
    does: Deed
    who: str = ""
    values: tuple[tuple[str, Any], ...] = ()


def act(at: float, does: Deed, who: str = "", **values: Any) -> Act:
    return Act(at, does, who, tuple(values.items()))


@dataclass(frozen=True, slots=True)
class CallerPlan:
    """A telephone behind the trunk."""

    name: str
    encoding: Literal["PCMU", "PCMA"] = "PCMU"
    suite: SrtpSuite = "AES_CM_128_HMAC_SHA1_80"
    transport: Literal["tls", "udp"] = "tls"
    gives_up_after_s: float | None = None
    """Hangs up when it has heard nothing for so long."""


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """An agent with a browser."""

    name: str
    encoding: Encoding = "opus"
    suite: SrtpSuite = "AEAD_AES_128_GCM"
    answers_after_s: float | None = 0.5
    """From the ring; None: only when the script says so."""
    completes_after_s: float | None = 0.4
    """From the end of the conversation; None: never, the relay ends the work."""
    open_microphone: bool = False
    """A bad page: it sends the microphone off contacts too."""


@dataclass(frozen=True, slots=True)
class Script:
    """One run."""

    callers: tuple[CallerPlan, ...]
    agents: tuple[AgentPlan, ...]
    acts: tuple[Act, ...]
    seconds: float
    """When the last act and its consequences are over."""
    answer: Literal["at_once", "with_agent"] = "at_once"
    waiting_source: Literal["music", "ringback"] = "music"
    recorded: tuple[Literal["agent", "customer"], ...] = ("agent", "customer")
    media: Conditions = field(default_factory=lambda: Conditions(delay_s=0.02))
    signalling: Conditions = field(default_factory=lambda: Conditions(delay_s=0.01))
    page_delay_s: float = 0.008
    offer_seconds: float = 4.0
    after_work_seconds: float = 1.5
    silent_seconds: float = 30.0
    trunk_proves_itself: bool = False
    """By a password, instead of its address."""
    conversations: int | None = 1
    """How many calls must have come to a conversation; None where that is what a race decides."""
    relay_hangs_up: bool = False
    """Whether the relay may end a call by itself."""

    def with_(self, **changes: Any) -> Script:
        return replace(self, **changes)
