"""What becomes of datagrams that come to the media sockets: each is taken for one thing, or dropped for one reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Taken:
    """Datagrams that came to what they were for."""

    sound: int = 0
    """Put where they play, all or some of their 10 ms pieces."""
    telephone_events: int = 0
    comfort_noise: int = 0
    reports: int = 0
    """RTCP."""
    control: int = 0
    """STUN and DTLS, handed to the control plane, which counts on its own what becomes of them."""


@dataclass(slots=True)
class Dropped:
    """Datagrams by the reason why they came to nothing."""

    empty: int = 0
    """Without a byte."""
    oversized: int = 0
    """Longer than any that a telephone or a browser sends: the system cut them off."""
    malformed: int = 0
    """None of RTP, RTCP, STUN and DTLS (RFC 7983), or too short for what they say they are."""
    control_dropped: int = 0
    """STUN and DTLS beyond what one source, or all together, may send in a tick."""
    control_misdirected: int = 0
    """STUN and DTLS to an RTCP port, where none is expected."""
    strangers: int = 0
    """RTP and RTCP from addresses of no leg, that no leg's key opened."""
    unauthenticated: int = 0
    """SRTP and SRTCP from a leg's address that its key does not open."""
    replayed: int = 0
    """SRTP and SRTCP of a number that came before, or that lies too far back to know; authentic or not, since the
    number is looked at first (RFC 3711 §3.3)."""
    stray_ssrc: int = 0
    """Of an SSRC that the leg has left, or of one too many."""
    flooded: int = 0
    """Authentic, but more than one leg may send in a tick."""
    reports_dropped: int = 0
    """RTCP beyond what one leg, or all together, may send in a tick."""
    reports_malformed: int = 0
    """Authentic RTCP without a report in it."""
    events_dropped: int = 0
    """Telephone events beyond what one leg, or all together, may send in a tick."""
    events_malformed: int = 0
    """Telephone events shorter than RFC 4733 has them."""
    unexpected_payload: int = 0
    """Authentic, of a payload type that was not negotiated."""
    off_contact: int = 0
    """Sound of legs that nobody could hear: dropped undecoded."""
    payload_malformed: int = 0
    """Sound whose header or padding says what cannot be, that is not some 10 ms long, or that libopus refuses."""
    late: int = 0
    """Sound that came after its slot had played."""
    early: int = 0
    """Sound further ahead than the buffer holds, or alone on another timeline."""
    duplicates: int = 0
    """Sound that was there already, in a packet of another number."""


@dataclass(slots=True)
class Outcomes:
    """All since the start. Every datagram is counted in `received`, and once more in `taken` or in `dropped`."""

    received: int = 0
    table_full: int = 0
    """Ticks whose table was full: the rest waited in the kernel."""
    taken: Taken = field(default_factory=Taken)
    dropped: Dropped = field(default_factory=Dropped)

    @property
    def unaccounted(self) -> int:
        """Datagrams whose outcome is not known: a stage failed. Else 0."""
        counts: list[int] = [*asdict(self.taken).values(), *asdict(self.dropped).values()]
        return self.received - sum(counts)
