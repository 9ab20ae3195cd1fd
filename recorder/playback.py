"""The stereo rendering of a contact: agents right, everyone else left, aligned to the sample.

It begins where the first agent joined and has the highest rate of its tracks. What was withheld or lost is exact
digital silence of exact length; sums are limited by saturation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.archive import DeliveredContact, ObjectReader
from recorder.envelope import session_cipher
from recorder.errors import RemoteError
from recorder.manifest import Manifest, TrackEntry
from recorder.names import POSITIONS_PER_SECOND, segment_name
from recorder.pcm import MARGIN, Samples, decoded, raised
from recorder.segment import SegmentReader

BLOCK_POSITIONS = POSITIONS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Span:
    """What is rendered: positions from agent joined to the end."""

    first: int
    end: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.first) / POSITIONS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Placed:
    """A chunk's sound on the timeline."""

    first: int
    samples: Samples
    heard: npt.NDArray[np.bool_]
    """False where a sample was lost."""


class Rendering:
    """A contact's sound. Reading raises Unavailable, and RemoteError where a chunk is not authentic."""

    def __init__(self, reader: ObjectReader, contact: DeliveredContact) -> None:
        self._reader = reader
        self._contact = contact
        tracks = contact.manifest.tracks
        self.span = recorded_span(contact.manifest)
        self.rate = max((track.rate for track in tracks), default=8_000)
        self._per_position = POSITIONS_PER_SECOND // self.rate

    @property
    def samples(self) -> int:
        """Stereo samples in all."""
        return (self.span.end - self.span.first) // self._per_position

    def blocks(self) -> Iterator[Samples]:
        """Blocks of at most a second, [samples, 2]: left, right."""
        sounds = [
            (track.role, _TrackSound(self._reader, self._contact, track)) for track in self._contact.manifest.tracks
        ]
        for first in range(self.span.first, self.span.end, BLOCK_POSITIONS):
            positions = min(BLOCK_POSITIONS, self.span.end - first)
            block = np.zeros((positions // self._per_position, 2), np.float32)
            for role, sound in sounds:
                block[:, 1 if role == "agent" else 0] += sound.at(first, positions, self.rate)
            yield np.clip(np.rint(block), -32_768, 32_767).astype(np.int16)


class _TrackSound:
    """One track, read forwards."""

    def __init__(self, reader: ObjectReader, contact: DeliveredContact, track: TrackEntry) -> None:
        self._track = track
        self._step = POSITIONS_PER_SECOND // track.rate
        self._chunks = _chunks(reader, contact, track)
        self._near: deque[Placed] = deque()
        self._loaded = track.first

    def at(self, first: int, positions: int, rate: int) -> npt.NDArray[np.float32]:
        """Its sound in these positions at a rate that is a multiple of its own."""
        factor = rate // self._track.rate
        margin = MARGIN * self._step
        if first - margin >= self._track.end or first + positions + margin <= self._track.first:
            return np.zeros(positions // self._step * factor, np.float32)
        self._load(first - margin, first + positions + margin)
        length = positions // self._step + 2 * MARGIN
        samples = np.zeros(length, np.float32)
        heard = np.zeros(length, np.bool_)
        for placed in self._near:
            self._lay(placed, first - margin, samples, heard)
        # The interpolator rings a little into what was withheld: silence there is exact.
        return raised(samples, factor) * np.repeat(heard[MARGIN:-MARGIN], factor)

    def _load(self, first: int, end: int) -> None:
        while self._near and self._near[0].first + len(self._near[0].samples) * self._step <= first:
            self._near.popleft()
        while self._loaded < end and (placed := next(self._chunks, None)) is not None:
            self._near.append(placed)
            self._loaded = placed.first + len(placed.samples) * self._step

    def _lay(self, placed: Placed, first: int, samples: npt.NDArray[np.float32], heard: npt.NDArray[np.bool_]) -> None:
        start = (placed.first - first) // self._step
        low, high = max(0, start), min(len(samples), start + len(placed.samples))
        if low < high:
            samples[low:high] = placed.samples[low - start : high - start]
            heard[low:high] = placed.heard[low - start : high - start]
            samples[low:high] *= heard[low:high]


def recorded_span(manifest: Manifest) -> Span:
    """From the position at which the first agent joined to the end of the last track."""
    agents = [track.first for track in manifest.tracks if track.role == "agent"]
    first = min(agents or [track.first for track in manifest.tracks], default=0)
    return Span(first, max((track.end for track in manifest.tracks), default=first))


@dataclass(frozen=True, slots=True)
class StatedGap:
    """A gap as `koppel demo` and the player show it: `start_s` counts from agent joined."""

    track: str
    participant: str
    start_s: float
    seconds: float
    rule: str | None
    reason: str


def stated_gaps(manifest: Manifest) -> list[StatedGap]:
    """Every gap after agent joined, track by track."""
    span = recorded_span(manifest)
    return [
        StatedGap(
            track.track_id,
            track.participant_id,
            (max(gap.first, span.first) - span.first) / POSITIONS_PER_SECOND,
            (gap.end - max(gap.first, span.first)) / POSITIONS_PER_SECOND,
            gap.rule,
            gap.reason,
        )
        for track in manifest.tracks
        for gap in track.gaps
        if gap.end > span.first
    ]


def _chunks(reader: ObjectReader, contact: DeliveredContact, track: TrackEntry) -> Iterator[Placed]:
    """The chunks of all parts of a track, opened one after the other."""
    if contact.key is None:
        raise RemoteError("the recording has no key", place="key")
    session_id = bytes.fromhex(track.session_id)
    cipher = session_cipher(contact.key, "track", contact.manifest.identity, track.track_id, session_id)
    names = {entry.name for entry in contact.manifest.objects}
    part = 0
    while (name := segment_name(track.track_id, session_id, part)) in names:
        segment = SegmentReader(reader.read(contact.directory + name))
        for placed in segment.chunks():
            samples = decoded(segment.open(placed, cipher), track.codec)
            heard = np.ones(len(samples), np.bool_)
            step = POSITIONS_PER_SECOND // track.rate
            for first, positions in placed.chunk.lost:
                heard[first // step : (first + positions) // step] = False
            yield Placed(placed.chunk.first, samples, heard)
        part += 1
