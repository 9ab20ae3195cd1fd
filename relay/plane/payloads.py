"""What each listener hears, as the payload of its next packet: passed through, encoded once for many, or for itself.

The mixer says of what kind a listener's sound is. A sum is encoded for its listener alone. A single speaker at unity is
a signal of its own: where the codec is the same G.711 law, the payload that came in (or that was made up for it) goes
out again; the music and the tones of the relay are encoded once for all who hear them; silence is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixer.frame import SAMPLES_A_TICK, Rate, Samples
from mixer.matrix import Kind
from mixer.mix import Mixer, to_samples
from relay.codecs import g711
from relay.codecs.opus import OpusEncoder
from relay.errors import RelayError
from relay.plane.legs import LAWS, OPUS, Leg, LegTable
from relay.plane.packets import SEND_STRIDE, Bytes, PacketTable, Rows
from relay.plane.playout import Playout
from relay.plane.rings import SLOT_BYTES
from relay.plane.rtp import HEADER_BYTES

_NARROW: Final[Rate] = 8000
_WIDE: Final[Rate] = 48000
_TRAILER_BYTES: Final = 20
OPUS_BYTES_MAX: Final = SEND_STRIDE - HEADER_BYTES - _TRAILER_BYTES
"""What fits a row: 115 kbit/s at 20 ms, far above what voice is coded with."""
_SHARED_MAX: Final = 64
"""Encoders that are kept for signals that many hear."""


@dataclass(frozen=True, slots=True)
class Group:
    """Consecutive rows of the send table with listeners of one encoding."""

    encoding: int
    first: int
    end: int
    legs: Rows


@dataclass(frozen=True, slots=True)
class _Signals:
    """Sounds of single speakers at one rate, brought to 16 bits once a tick."""

    rate: Rate
    speakers: Rows
    samples: Samples


@dataclass(frozen=True, slots=True)
class _LawPlan:
    """Where the payloads of one group of G.711 listeners come from; `own`, `passed`, `shared` are rows of the table."""

    law: g711.Law
    rows: slice
    own: Rows
    own_legs: Rows
    passed: Rows
    passed_from: Rows
    shared: Rows
    shared_of: NDArray[np.intp]
    signals: _Signals


@dataclass(slots=True)
class _OpusJob:
    """One encoding of a tick."""

    leg: Leg | None
    """Whose, where it is for one listener alone."""
    encoder: OpusEncoder
    pcm: int
    """Address of its samples."""
    samples: int
    row: int
    """Of the table, where its payload is written."""
    copies: list[int] = field(default_factory=list[int])
    """Rows that get a copy of it."""


@dataclass(frozen=True, slots=True)
class _Plan:
    rows: int = 0
    laws: tuple[_LawPlan, ...] = ()
    opus: tuple[_OpusJob, ...] = ()
    signals: tuple[_Signals, ...] = ()


class Payloads:
    """Writes the payloads of the send table, before they are encrypted."""

    def __init__(self, legs: LegTable, mixer: Mixer, playout: Playout, table: PacketTable) -> None:
        self.failed = 0
        """Payloads that could not be encoded."""
        self.codes: Bytes = np.zeros((table.rows, SLOT_BYTES), np.uint8)
        """By row of the table, what a G.711 listener was last sent."""
        self._legs = legs
        self._mixer = mixer
        self._playout = playout
        self._table = table
        self._payloads = table.data[:, HEADER_BYTES:]
        self._address = table.data.ctypes.data + HEADER_BYTES
        self._heard = {rate: mixer.out[rate].ctypes.data for rate in (_NARROW, _WIDE)}
        self._plan = _Plan()
        self._shared: dict[tuple[int, Rate, int, int, bool], OpusEncoder] = {}

    def arrange(self, groups: Sequence[Group]) -> None:
        """The listeners are these from now on, and hear what the mixer says now."""
        laws = tuple(self._arrange_law(group) for group in groups if group.encoding != OPUS)
        opus, signals = self._arrange_opus([group for group in groups if group.encoding == OPUS])
        rows = groups[-1].end if groups else 0
        self._plan = _Plan(rows, laws, opus, (*(plan.signals for plan in laws if plan.signals.speakers.size), *signals))

    def write(self) -> None:
        """The payloads of a tick, and the lengths of their packets."""
        plan = self._plan
        self._table.length[: plan.rows] = HEADER_BYTES
        for signals in plan.signals:
            signals.samples[:] = to_samples(self._mixer.pcm[signals.rate].take(signals.speakers, axis=0))
        for law in plan.laws:
            self._write_law(law)
        for job in plan.opus:
            self._legs.at_work = job.leg
            self._write_opus(job)
        self._legs.at_work = None

    def _write_law(self, plan: _LawPlan) -> None:
        codes = self.codes[plan.rows]
        heard = self._mixer.out[_NARROW].take(plan.own_legs, axis=0)
        if plan.own.size == len(codes):
            g711.encode(plan.law, heard, codes)
        else:
            if plan.own.size:
                self.codes[plan.own] = _encoded(plan.law, heard)
            if plan.passed.size:
                self.codes[plan.passed] = self._playout.codes(plan.law, plan.passed_from)
            if plan.shared.size:
                self.codes[plan.shared] = _encoded(plan.law, plan.signals.samples)[plan.shared_of]
        self._payloads[plan.rows, :SLOT_BYTES] = codes
        self._table.length[plan.rows] = HEADER_BYTES + SLOT_BYTES

    def _write_opus(self, job: _OpusJob) -> None:
        out = self._address + job.row * self._table.stride
        size = job.encoder.encode_at(job.pcm, job.samples, out, OPUS_BYTES_MAX)
        if size <= 0:
            self.failed += 1 + len(job.copies)
        self._table.length[job.row] = HEADER_BYTES + max(size, 0)
        if job.copies:
            self._table.length[job.copies] = HEADER_BYTES + max(size, 0)
            self._payloads[job.copies, : max(size, 0)] = self._payloads[job.row, : max(size, 0)]

    def _arrange_law(self, group: Group) -> _LawPlan:
        kind, source = self._mixer.kind[group.legs], self._mixer.source[group.legs]
        rows = np.arange(group.first, group.end)
        law: g711.Law = LAWS[group.encoding]
        is_leg = (source >= 0) & (source < self._legs.legs_max)
        encodings = self._legs.encoding[np.where(is_leg, source, 0)]
        passed = (kind == Kind.UNITY) & is_leg & (encodings == group.encoding)
        shared = (kind == Kind.UNITY) & ~passed
        self.codes[rows[kind == Kind.SILENCE]] = g711.SILENCE[law]
        speakers, shared_of = np.unique(source[shared], return_inverse=True)
        own = kind == Kind.GENERAL
        return _LawPlan(
            law=law,
            rows=slice(group.first, group.end),
            own=rows[own],
            own_legs=group.legs[own],
            passed=rows[passed],
            passed_from=source[passed],
            shared=rows[shared],
            shared_of=shared_of,
            signals=_signals(_NARROW, speakers),
        )

    def _arrange_opus(self, groups: Sequence[Group]) -> tuple[tuple[_OpusJob, ...], tuple[_Signals, ...]]:
        legs = np.concatenate([group.legs for group in groups]) if groups else np.zeros(0, np.intp)
        single = legs[self._mixer.kind[legs] == Kind.UNITY]
        signals: dict[int, _Signals] = {}
        for rate in set(self._legs.listening_rate[single].tolist()):
            at_rate = single[self._legs.listening_rate[single] == rate]
            signals[rate] = _signals(rate, np.unique(self._mixer.source[at_rate]))
        jobs: list[_OpusJob] = []
        shared: dict[int, _OpusJob] = {}
        for group in groups:
            for row, leg in enumerate(group.legs.tolist(), group.first):
                try:
                    job = self._opus_job(row, self._legs.leg(leg), signals)
                except RelayError:
                    self.failed += 1
                    continue
                if job.leg is not None:
                    jobs.append(job)
                elif (first := shared.setdefault(id(job.encoder), job)) is not job:
                    first.copies.append(row)
        return (*jobs, *shared.values()), tuple(signals.values())

    def _opus_job(self, row: int, leg: Leg, signals: dict[int, _Signals]) -> _OpusJob:
        kind, source = int(self._mixer.kind[leg.row]), int(self._mixer.source[leg.row])
        rate: Rate = int(self._legs.listening_rate[leg.row])  # type: ignore[assignment] # only rates are written there
        samples = SAMPLES_A_TICK[rate]
        if kind == Kind.GENERAL:
            pcm = self._heard[rate] + 2 * samples * leg.row
            return _OpusJob(leg, self._own_encoder(leg, rate), pcm, samples, row)
        if kind == Kind.SILENCE:
            return _OpusJob(None, self._shared_encoder(leg, -1, rate), _NOTHING.ctypes.data, samples, row)
        heard = signals[rate]
        pcm = heard.samples.ctypes.data + 2 * samples * int(np.searchsorted(heard.speakers, source))
        if source < self._legs.legs_max:
            return _OpusJob(leg, self._own_encoder(leg, rate), pcm, samples, row)
        return _OpusJob(None, self._shared_encoder(leg, source, rate), pcm, samples, row)

    def _own_encoder(self, leg: Leg, rate: Rate) -> OpusEncoder:
        encoder = leg.encoders.get(rate)
        if encoder is None:
            encoder = leg.encoders[rate] = _encoder(leg, rate)
        if leg.encoding_with is not encoder:
            # It may have slept while another spoke to this listener: what it remembers is not what was heard last.
            encoder.reset()
            leg.encoding_with = encoder
        return encoder

    def _shared_encoder(self, leg: Leg, source: int, rate: Rate) -> OpusEncoder:
        codec = leg.opened.codec
        key = source, rate, codec.bitrate, codec.complexity, codec.in_band_fec
        encoder = self._shared.pop(key, None) or _encoder(leg, rate)
        self._shared[key] = encoder  # the latest used stands last
        if len(self._shared) > _SHARED_MAX:
            del self._shared[next(iter(self._shared))]
        leg.encoding_with = encoder
        return encoder


def _signals(rate: Rate, speakers: Rows) -> _Signals:
    return _Signals(rate, speakers, np.zeros((speakers.size, SAMPLES_A_TICK[rate]), np.int16))


def _encoder(leg: Leg, rate: Rate) -> OpusEncoder:
    codec = leg.opened.codec
    # The bit rate is the same at 8,000 Hz: spending less saves no time, and loses the upper of several sounds at once.
    return OpusEncoder(rate, codec.bitrate, codec.complexity, fec=codec.in_band_fec)


def _encoded(law: g711.Law, samples: Samples) -> Bytes:
    codes: Bytes = np.empty(samples.shape, np.uint8)
    g711.encode(law, samples, codes)
    return codes


_NOTHING: Final[Samples] = np.zeros(SAMPLES_A_TICK[_WIDE], np.int16)
