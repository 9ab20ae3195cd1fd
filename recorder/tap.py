"""The tap: capture buffers of all open tracks as structure of arrays, one copy for all rows of a form each tick.

Rows are grouped by form (codec and rate). Each row has a phase, and is emptied in the ticks that match it: so rows of
one form are emptied at different ticks, and no chunk is longer than `chunk_ticks`. Only rows whose gate is open are
written. Order is the caller's: `flush` before it says that a gate changed or a track closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.capture import Frames, TrackCodec
from recorder.errors import Exhausted

_CONCEALED, _LOST = 1, 2
# G.711 silence: the code of the smallest positive sample (ITU-T G.711 tables 1 and 2).
_SILENCE = {"pcmu": 0xFF, "pcma": 0xD5, "s16": 0}

Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
FrameArray = npt.NDArray[np.uint8] | npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class TapForm:
    """How the frames of a group of rows look: G.711 payload bytes, or 16-bit samples."""

    codec: TrackCodec
    rate: int

    @property
    def samples(self) -> int:
        """Samples of a frame of 20 ms."""
        return self.rate // 50


@dataclass(frozen=True, slots=True)
class TapRow:
    """Where a track is tapped: the row to name in `write`."""

    form: TapForm
    index: int


class TapTable:
    """The capture buffers of a plane. One thread; ticks only go forward."""

    def __init__(self, rows_max: int, chunk_ticks: int = 20) -> None:
        self.rows_max = rows_max
        """Rows of each form."""
        self._chunk_ticks = chunk_ticks
        self._forms: dict[TapForm, _Buffers] = {}

    def open(self, contact_id: str, track_id: str, form: TapForm) -> TapRow:
        """A row for a track. Raises Exhausted."""
        buffers = self._forms.get(form)
        if buffers is None:
            buffers = self._forms[form] = _Buffers(form, self.rows_max, self._chunk_ticks)
        return TapRow(form, buffers.open(contact_id, track_id))

    def write(
        self,
        form: TapForm,
        rows: Rows,
        frames: FrameArray,
        tick: int,
        concealed: Mask | None = None,
        lost: Mask | None = None,
    ) -> list[Frames]:
        """One frame for each of these rows (`TapRow.index`, each at most once), whose gates are open, in one copy.

        `frames[i]` belongs to `rows[i]`; so do the masks. Lost frames are stored as silence whatever they hold.
        Returns what had to be emptied because a row's ticks do not follow one another: usually nothing.
        """
        return self._forms[form].write(rows, frames, tick, concealed, lost)

    def collect(self, tick: int) -> list[Frames]:
        """After all writes of a tick: the rows whose turn it is."""
        return [frames for buffers in self._forms.values() for frames in buffers.collect(tick)]

    def flush(self, row: TapRow) -> list[Frames]:
        """What a row holds, before its gate changes or it closes: at most one value."""
        frames = self._forms[row.form].empty(row.index)
        return [frames] if frames is not None else []

    def close(self, row: TapRow) -> list[Frames]:
        """Flush and give the row back."""
        flushed = self.flush(row)
        self._forms[row.form].close(row.index)
        return flushed


class _Buffers:
    """Rows of one form: audio, marks, fill and first tick, leg-major."""

    def __init__(self, form: TapForm, rows_max: int, chunk_ticks: int) -> None:
        self._chunk_ticks = chunk_ticks
        self._silence = _SILENCE[form.codec]
        dtype: type[np.int16 | np.uint8] = np.int16 if form.codec == "s16" else np.uint8
        # Pages are touched by the rows in use alone.
        self._audio: npt.NDArray[np.generic] = np.empty((rows_max, chunk_ticks, form.samples), dtype)
        self._marks = np.zeros((rows_max, chunk_ticks), np.uint8)
        self._marked = np.zeros(rows_max, np.bool_)
        self._fill = np.zeros(rows_max, np.intp)
        self._next_tick = np.zeros(rows_max, np.int64)
        self._ids: list[tuple[str, str] | None] = [None] * rows_max
        self._free = list(range(rows_max - 1, -1, -1))
        self._phases: list[list[int]] = [[] for _ in range(chunk_ticks)]
        self._phase_of: dict[int, int] = {}

    def open(self, contact_id: str, track_id: str) -> int:
        if not self._free:
            raise Exhausted(f"at most {len(self._ids)} tracks of one form are tapped at once")
        row = self._free.pop()
        self._ids[row] = contact_id, track_id
        self._fill[row] = 0
        phase = min(range(self._chunk_ticks), key=lambda each: len(self._phases[each]))
        self._phases[phase].append(row)
        self._phase_of[row] = phase
        return row

    def close(self, row: int) -> None:
        self._phases[self._phase_of.pop(row)].remove(row)
        self._ids[row] = None
        self._free.append(row)

    def write(
        self, rows: Rows, frames: FrameArray, tick: int, concealed: Mask | None, lost: Mask | None
    ) -> list[Frames]:
        fill = self._fill[rows]
        broken = (fill != 0) & (self._next_tick[rows] != tick)
        emptied: list[Frames] = []
        if broken.any() or (fill.size and fill.max() >= self._chunk_ticks):
            broken |= fill >= self._chunk_ticks
            emptied = [each for row in rows[broken].tolist() if (each := self.empty(row)) is not None]
            fill = self._fill[rows]
        self._audio[rows, fill] = frames
        if concealed is not None and concealed.any():
            self._mark(rows[concealed], fill[concealed], _CONCEALED)
        if lost is not None and lost.any():
            self._mark(rows[lost], fill[lost], _LOST)
            self._audio[rows[lost], fill[lost]] = self._silence
        self._fill[rows] = fill + 1
        self._next_tick[rows] = tick + 1
        return emptied

    def collect(self, tick: int) -> list[Frames]:
        return [each for row in self._phases[tick % self._chunk_ticks] if (each := self.empty(row)) is not None]

    def empty(self, row: int) -> Frames | None:
        ticks = int(self._fill[row])
        ids = self._ids[row]
        if not ticks or ids is None:
            return None
        concealed: tuple[tuple[int, int], ...] = ()
        lost: tuple[tuple[int, int], ...] = ()
        if self._marked[row]:
            marks = self._marks[row, :ticks].tolist()
            lost = _ranges([bool(mark & _LOST) for mark in marks])
            concealed = _ranges([mark == _CONCEALED for mark in marks])
            self._marks[row] = 0
            self._marked[row] = False
        self._fill[row] = 0
        payload = self._audio[row, :ticks].tobytes()
        return Frames(*ids, int(self._next_tick[row]) - ticks, ticks, payload, concealed, lost)

    def _mark(self, rows: Rows, slots: Rows, mark: int) -> None:
        self._marks[rows, slots] |= mark
        self._marked[rows] = True


def _ranges(flags: Sequence[bool]) -> tuple[tuple[int, int], ...]:
    """Ranges [first, end) of what is true."""
    edges = [i for i in range(len(flags) + 1) if (i > 0 and flags[i - 1]) != (i < len(flags) and flags[i])]
    return tuple(zip(edges[::2], edges[1::2], strict=True))
