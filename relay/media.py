"""The values that cross between the switchboard and the plane: steps in, media events out.

Everything here is plain, frozen and serialisable: the plane may one day live in another process. The switchboard
composes a `Step` for a contact; the plane applies all of it at the head of one tick, so that a change of crosspoints,
gates and legs is one event in media time, and stamps the step's log entries with that tick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NewType

LegId = NewType("LegId", str)
"""One media leg: what one participant sends to and hears from the relay."""
SourceId = NewType("SourceId", str)
"""A sound that the relay makes: `music`, `ringback`, `silence`, or a named prompt."""
ConferenceId = NewType("ConferenceId", str)
"""A set of legs and sources that may hear one another: one for each contact."""

TICK_SECONDS = 0.02
POSITIONS_PER_TICK = 960
"""Positions of the recording timeline are counted at 48 kHz."""

Address = tuple[str, int]
"""Numeric IPv4 address and UDP port."""
Encoding = Literal["PCMU", "PCMA", "opus"]
SrtpSuite = Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"]


@dataclass(frozen=True, slots=True)
class SrtpKey:
    """Master key and salt of one direction (RFC 3711 §3.2.1), joined as libsrtp and SDES carry them."""

    suite: SrtpSuite
    master: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Codec:
    """What a leg's offer/answer settled for audio; the RTP clock is 8,000 Hz for G.711 and 48,000 Hz for Opus."""

    encoding: Encoding
    payload_type: int
    bitrate: int = 32_000
    """Opus: target bits a second."""
    complexity: int = 5
    """Opus: encoder complexity, 0 to 10."""
    in_band_fec: bool = True
    """Opus: whether the peer asked for forward error correction (RFC 7587 §6.1, useinbandfec)."""


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """Open a leg in a free row. A leg without keys is plain RTP, opened only where the operator named its trunk."""

    leg_id: LegId
    codec: Codec
    ssrc: int
    """SSRC of what the relay sends."""
    receive_key: SrtpKey | None
    send_key: SrtpKey | None
    local: Address
    """The media socket that the leg sends from and is expected on."""
    remote: Address | None = None
    """Where to send until the leg has latched; None: nothing is sent before that."""
    remote_rtcp: Address | None = None
    """None: RTCP is multiplexed on the RTP addresses (RFC 5761)."""
    telephone_event: int | None = None
    """Payload type of RFC 4733 events, if negotiated."""
    latch: bool = True
    """True: symmetric RTP, the remote address follows the source of *authenticated* packets; False: ICE decides
    (`MoveLeg`), and packets from other addresses are dropped."""


@dataclass(frozen=True, slots=True)
class MoveLeg:
    """ICE selected (or the peer signalled) another remote address."""

    leg_id: LegId
    remote: Address
    remote_rtcp: Address | None = None
    local: Address | None = None
    """The media socket of the new pair; None: as before."""


@dataclass(frozen=True, slots=True)
class RekeyLeg:
    """Offer/answer changed the SRTP keys; SSRCs keep their roll-over counters (RFC 3711 §3.3.1)."""

    leg_id: LegId
    receive_key: SrtpKey
    send_key: SrtpKey


@dataclass(frozen=True, slots=True)
class CloseLeg:
    """Close a leg, send RTCP BYE, return its row; answered by `LegClosed`."""

    leg_id: LegId


@dataclass(frozen=True, slots=True)
class Gain:
    """One crosspoint that is not zero: `listener` hears `speaker` at `gain` (linear)."""

    listener: LegId
    speaker: LegId | SourceId
    gain: float


@dataclass(frozen=True, slots=True)
class SetCrosspoints:
    """Replace the whole matrix of a conference; gains ramp over one frame. Without legs it closes the conference."""

    conference_id: ConferenceId
    gains: tuple[Gain, ...]
    members: tuple[LegId, ...] = ()
    """Legs that take part even if they hear nobody (an agent whose customer is on hold): they are sent silence, since
    a telephone that gets no packets hangs up."""


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """Begin a contact's recording timeline: position 0 is the tick in which this is applied."""

    contact_id: str


@dataclass(frozen=True, slots=True)
class OpenTrack:
    """Begin a track of a leg; with a rule, its gate is closed from the first tick."""

    contact_id: str
    track_id: str
    leg_id: LegId
    participant_id: str
    role: Literal["agent", "other"]
    """Which side of the stereo rendering: agents right, everyone else left."""
    rule: str | None = None
    reason: str = ""
    direction: Literal["from_leg", "to_leg"] = "from_leg"
    """What comes from the leg. What goes to it follows from matrix and log, and is recorded only by benchmarks."""


@dataclass(frozen=True, slots=True)
class SetGate:
    """Close a track's gate by a rule (G1–G12), or open it (rule None)."""

    contact_id: str
    track_id: str
    rule: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CloseTrack:
    """End a track: its participant left, or the recording ended."""

    contact_id: str
    track_id: str


@dataclass(frozen=True, slots=True)
class CloseRecording:
    """End a contact's recording timeline; the recorder finishes and delivers it."""

    contact_id: str


MediaCommand = (
    OpenLeg
    | MoveLeg
    | RekeyLeg
    | CloseLeg
    | SetCrosspoints
    | OpenRecording
    | OpenTrack
    | SetGate
    | CloseTrack
    | CloseRecording
)


@dataclass(frozen=True, slots=True)
class Step:
    """Commands that take effect together in one tick, with the log entries of the contact that they realise.

    Log entries go to the contact's recording (if it has one) stamped with that tick, after `OpenRecording` and before
    every other command of the step: so an entry is never durable later than the audio that it governs.
    """

    contact_id: str | None
    commands: tuple[MediaCommand, ...]
    entries: tuple[bytes, ...] = ()
    """Canonical JSON objects, one an event."""


@dataclass(frozen=True, slots=True)
class StepApplied:
    """A step with a contact id was applied at `tick`."""

    contact_id: str
    tick: int


@dataclass(frozen=True, slots=True)
class LegLatched:
    """A leg's first authenticated packet came, or its source address changed."""

    leg_id: LegId
    remote: Address


@dataclass(frozen=True, slots=True)
class LegSilent:
    """Nothing authentic came from a leg on a contact for `seconds`; said again each time that as long has passed."""

    leg_id: LegId
    seconds: float


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """One RFC 4733 event ended (three end packets count once, by timestamp). Classified: never logged."""

    leg_id: LegId
    event: int = field(repr=False)
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Levels:
    """Loudness every 200 ms: parallel tuples; dBov, -127.0 is digital silence (RFC 6465 convention, negated).

    An Opus leg that nobody hears and nobody records is not decoded, and silent here.
    """

    leg_ids: tuple[LegId, ...]
    from_leg: tuple[float, ...]
    to_leg: tuple[float, ...]
    talking: tuple[bool, ...]


class LegStatistics(NamedTuple):
    """Counters of a leg since it opened; said every second as `LegReport`, and once in `LegClosed`."""

    packets_received: int = 0
    packets_sent: int = 0
    lost: int = 0
    late: int = 0
    duplicates: int = 0
    unauthenticated: int = 0
    concealed_ticks: int = 0
    dropped_off_contact: int = 0
    """Packets with audio that came while no conference had the leg: dropped undecoded (mission M3)."""
    telephone_events: int = 0
    jitter_ms: float = 0.0
    """Interarrival jitter of what we receive (RFC 3550 §6.4.1)."""
    round_trip_ms: float | None = None
    """From the peer's receiver reports (LSR, DLSR); None until known."""
    peer_loss_ratio: float | None = None
    """Fraction lost that the peer last reported."""
    buffer_ms: float = 0.0
    """Present depth of the jitter buffer."""


@dataclass(frozen=True, slots=True)
class LegReport:
    """A leg's counters, once a second."""

    leg_id: LegId
    statistics: LegStatistics


@dataclass(frozen=True, slots=True)
class LegClosed:
    """A leg's row is free again."""

    leg_id: LegId
    statistics: LegStatistics


@dataclass(frozen=True, slots=True)
class ControlDatagram:
    """A STUN or DTLS datagram that came to a media socket (RFC 7983), for the control plane's ICE and DTLS."""

    local: Address
    source: Address
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """A command could not be applied (no free row, unknown leg …); the plane goes on."""

    contact_id: str | None
    leg_id: LegId | None
    what: str


MediaEvent = (
    StepApplied
    | LegLatched
    | LegSilent
    | TelephoneEvent
    | Levels
    | LegReport
    | LegClosed
    | ControlDatagram
    | CommandRefused
)
