"""What is benched: how many legs in which conferences, their keys and their tones, the same for both processes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from relay.errors import OperatorError
from relay.media import Codec, LegId, SrtpKey

BenchCodec = Literal["pcmu", "pcma", "opus", "opus+pcmu"]
"""What all legs speak; or the first of each conference Opus (a softphone) and the others G.711 (telephones)."""

WARM_UP_SECONDS: Final = 2.0
BUSY_WARM_UP_SECONDS: Final = 4.0
"""From when the control plane is kept busy until it is measured."""
SETUPS_A_SECOND: Final = 20.0
"""While the control plane is kept busy: half of them calls of telephones, half media of softphones."""
CONTACT_PREFIX: Final = "bench-"
LEGS_MAX: Final = 20_000
SECONDS_MAX: Final = 3600.0
CONFERENCE_MAX: Final = 30
"""Up to so many the tones of a conference can be told apart without its sum being limited."""

TONE_HZ_MIN: Final = 300
TONE_HZ_END: Final = 3400
"""Tones lie on whole hertz, so that a second holds whole periods of each, and no tone is another's leakage."""
_SPREAD: Final = 389
"""Prime, so that the tones of neighbouring conferences lie apart."""
SSRC_OF_RELAY: Final = 0x10000000
SSRC_OF_LEG: Final = 0x20000000
_KEY_BYTES: Final = 30
_CODECS: Final[Mapping[str, Codec]] = {
    "pcmu": Codec("PCMU", 0),
    "pcma": Codec("PCMA", 8),
    "opus": Codec("opus", 111),
}
"""Opus as the product's settings have it by default."""
OPUS_FRAME_MS: Final = 20


@dataclass(frozen=True)
class Work:
    """One run; both processes are told it in full, and derive the same crowd from it."""

    legs: int
    conference: int
    """Legs of a conference; 2 for pairs, 1 in a queue."""
    queue: bool = False
    """All legs are callers who wait, each alone, and hear the same music."""
    codec: BenchCodec = "pcmu"
    srtp: bool = True
    record: bool = False
    busy: bool = False
    seconds: float = 10.0
    seed: str = ""
    """What keys are made of."""
    relay_core: int = 0
    load_core: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.legs <= LEGS_MAX:
            raise OperatorError(f"--legs must be 2 to {LEGS_MAX}")
        if self.queue and self.conference != 1:
            raise OperatorError("--queue has no conferences: every caller waits alone")
        if self.queue and self.codec == "opus+pcmu":
            raise OperatorError("--queue has one codec for all")
        if not self.queue and not 2 <= self.conference <= min(CONFERENCE_MAX, self.legs):
            raise OperatorError(f"--conference must be 2 to {CONFERENCE_MAX}, and not more than --legs")
        if not 1 <= self.seconds <= SECONDS_MAX:
            raise OperatorError(f"--seconds must be 1 to {SECONDS_MAX:g}")

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Work:
        """What `to_json` wrote."""
        return cls(**told)

    def to_json(self) -> dict[str, Any]:
        """For the other process."""
        return asdict(self)

    @cached_property
    def conferences(self) -> tuple[tuple[int, ...], ...]:
        """The legs of each; what is left over makes a smaller one, or joins the last if it would be alone."""
        groups = [
            tuple(range(first, min(first + self.conference, self.legs)))
            for first in range(0, self.legs, self.conference)
        ]
        if len(groups[-1]) == 1 and len(groups) > 1 and not self.queue:
            groups[-2:] = [groups[-2] + groups[-1]]
        return tuple(groups)

    @cached_property
    def conference_of(self) -> tuple[int, ...]:
        """By leg."""
        return tuple(number for number, members in enumerate(self.conferences) for _ in members)

    @cached_property
    def tones_hz(self) -> tuple[int, ...]:
        """By leg: far apart within a conference, and each only once up to 3,100 legs."""
        band = (TONE_HZ_END - TONE_HZ_MIN) // max(len(members) for members in self.conferences)
        return tuple(
            TONE_HZ_MIN + place * band + number * _SPREAD % band
            for number, members in enumerate(self.conferences)
            for place, _ in enumerate(members)
        )

    @property
    def windows(self) -> int:
        """How often is measured: with a busy control plane, once without it before."""
        return 2 if self.busy else 1

    def contact_id(self, number: int) -> str:
        """What the recorder calls a conference."""
        return f"{CONTACT_PREFIX}{number}"

    @property
    def amplitude(self) -> float:
        """Of each tone: the sum of all others in a conference stays below where the mixer limits."""
        return min(6000.0, 20_000.0 / max(1, *(len(members) - 1 for members in self.conferences)))

    @cached_property
    def opus_legs(self) -> frozenset[int]:
        """Those that speak Opus."""
        if self.codec == "opus+pcmu":
            return frozenset(members[0] for members in self.conferences)
        return frozenset(range(self.legs)) if self.codec == "opus" else frozenset()

    def codec_of_leg(self, leg: int) -> Codec:
        """What the leg negotiated."""
        return _CODECS["opus" if leg in self.opus_legs else self.codec.removeprefix("opus+")]

    @cached_property
    def payload_types(self) -> NDArray[np.uint8]:
        """By leg."""
        return np.array([self.codec_of_leg(leg).payload_type for leg in range(self.legs)], np.uint8)

    @cached_property
    def timestamp_steps(self) -> NDArray[np.int64]:
        """By leg: what the RTP clock advances in a tick."""
        return np.array([960 if leg in self.opus_legs else 160 for leg in range(self.legs)], np.int64)

    @property
    def opus(self) -> dict[str, int] | None:
        """How Opus is spoken, if it is."""
        if not self.opus_legs:
            return None
        codec = _CODECS["opus"]
        return {"bitrate": codec.bitrate, "complexity": codec.complexity, "frame_ms": OPUS_FRAME_MS}

    def leg_id(self, leg: int) -> LegId:
        """What the plane calls a leg."""
        return LegId(f"bench-{leg}")

    def key_of_leg(self, leg: int) -> SrtpKey | None:
        """What the leg encrypts with."""
        return self._key(f"leg {leg}")

    def key_of_relay(self, leg: int) -> SrtpKey | None:
        """What the relay encrypts with towards the leg."""
        return self._key(f"relay {leg}")

    def _key(self, name: str) -> SrtpKey | None:
        if not self.srtp:
            return None
        master = hashlib.sha256(f"{self.seed} {name}".encode()).digest()[:_KEY_BYTES]
        return SrtpKey("AES_CM_128_HMAC_SHA1_80", master)
