"""The jitter buffers of all legs: where on its playout timeline each packet belongs, and how deep each buffer is.

A buffer is a ring of 20 ms slots addressed by RTP timestamp, so a packet has one place however often and in whatever
order it comes: nothing plays twice, and playout never goes back. This module keeps positions and which half slots
(10 ms) are filled; the payloads themselves lie in `relay.plane.rings` (G.711) and `relay.plane.opus_stream`.

Depth. A packet's *slack* is how long before its tick it came. Playout begins `start_depth_slots` behind the newest
packet. A packet that missed its tick moves playout back, but only over slots that were empty anyway (what was concealed
then becomes delay), and only when lateness recurs: one stray packet is merely late. When the least slack of the last
seconds is more than a slot, the tick skips one, in silence where it can. After a pause playout begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.plane.packets import Rows

FULL: Final = 0x0101
"""Both halves of a slot, as one word."""
TICK_MS: Final = 20.0
_SLOT_MASK: Final = 0x0FFFFFFF
_FRESH_TICKS: Final = 100
"""Of a stream this young the first late packet already says that the depth was guessed wrong."""
_SCORE_KEPT_A_TICK: Final = 0.98
_WINDOW_TICKS: Final = 25
_WINDOWS: Final = 16
_WINDOWS_SHORT: Final = 2


@dataclass(frozen=True, slots=True)
class JitterSettings:
    """How deep buffers are, and how fast they change."""

    slots: int = 32
    """Capacity in 20 ms slots, a power of two: packets further ahead are a jump of the timestamp."""
    start_depth_slots: int = 1
    growth_slots_max: int = 3
    """By how much one late packet may move playout back."""
    depth_slots_max: int = 12
    idle_ticks: int = 10
    """After so many empty ticks the next packet begins playout anew."""
    margin_ms: float = 4.0
    """Slack that shrinking leaves."""
    lateness_score: float = 1.5
    """Late packets, forgotten over a second, that make the buffer grow."""
    skip_wait_ticks: int = 50
    """How long a skip waits for silence."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Which packets of a batch are kept, and where: half slots from `half` on, in the ring of the leg."""

    kept: Rows
    """Indices into the batch."""
    half: NDArray[np.int32]
    """First half slot, counted without wrapping; may lie before playout where only the tail is in time."""
    halves: NDArray[np.int32]
    places: Rows
    """The slot of each packet of 20 ms that lies on the grid, in the rings of all legs as one; -1: any other packet."""
    all_whole: bool
    """Whether none is any other packet."""
    duplicates: int
    """How many of those that are kept add nothing."""
    late: int = 0
    """How many of the batch came too late."""

    def only(self, which: NDArray[np.bool_]) -> Placement:
        """Some of the kept packets."""
        places = self.kept[which], self.half[which], self.halves[which], self.places[which]
        return Placement(*places, all_whole=self.all_whole, duplicates=self.duplicates, late=self.late)


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots that play in a tick."""

    places: Rows
    """In the rings of all legs as one."""
    filled: NDArray[np.uint16]
    """`FULL`, 0, or one half."""
    whole: NDArray[np.bool_]
    all_whole: bool


class JitterBuffers:
    """Positions, fill and depth of every leg's buffer, as columns over the rows of legs."""

    def __init__(self, legs_max: int, settings: JitterSettings | None = None) -> None:
        self.settings = settings or JitterSettings()
        assert self.settings.slots & (self.settings.slots - 1) == 0, "ring positions wrap by masking"
        self.mask = self.settings.slots - 1
        self.clock = np.full(legs_max, 160, np.int32)
        """RTP clock ticks in 20 ms."""
        self._step = self.clock.view(np.uint32)
        self.running = np.zeros(legs_max, np.bool_)
        self.timestamp = np.zeros(legs_max, np.uint32)
        """RTP timestamp of the next slot to play."""
        self.slot = np.zeros(legs_max, np.int32)
        """Number of the next slot to play; grows for ever (modulo 2^28)."""
        self.missed = np.zeros(legs_max, np.int32)
        """Empty slots since the last one that played."""
        self.late = np.zeros(legs_max, np.int64)
        self.duplicates = np.zeros(legs_max, np.int64)
        self.resyncs = np.zeros(legs_max, np.int64)
        self.skips = np.zeros(legs_max, np.int32)
        """Slots that the buffer has in excess and waits to skip."""
        self._halves = np.zeros((legs_max, self.settings.slots, 2), np.uint8)
        self._full = self._halves.view(np.uint16).reshape(-1)
        """Both halves of a slot as one word, the rings of all legs as one."""
        self._owner = np.zeros((legs_max, 2 * self.settings.slots), np.int32)
        self._owner_of_slot = self._owner.reshape(-1)[: legs_max * self.settings.slots]
        self._score = np.zeros(legs_max, np.float64)
        """Of late packets, at the tick of the last one; it fades from then on."""
        self._scored_at = np.zeros(legs_max, np.int64)
        self._slack = np.full(legs_max, np.inf)
        self._slacks = np.full((legs_max, _WINDOWS), -np.inf)
        self._jump = np.zeros(legs_max, np.int64)
        self._skip_at = np.zeros(legs_max, np.int64)
        self._began = np.zeros(legs_max, np.int64)
        self._ticks = 0

    def open(self, leg: int, clock: int) -> None:
        """A new leg in a row."""
        self.clock[leg] = clock
        for counter in (self.late, self.duplicates, self.resyncs):
            counter[leg] = 0
        self.reset(leg)

    def reset(self, leg: int) -> None:
        """Forget what is buffered; playout begins anew with the next packet."""
        self.running[leg] = False
        self.missed[leg] = self.settings.idle_ticks
        self.skips[leg] = 0
        self._jump[leg] = -1
        # Slots are taken before the first packet comes, too: what is still marked would play, whoever's it was.
        self._halves[leg] = 0
        self._forget_depth(leg)

    def depth_ms(self, leg: int) -> float:
        """How far the newest buffered half slot lies ahead of playout."""
        if not self.running[leg]:
            return 0.0
        present = 2 * (int(self.slot[leg]) & self.mask)
        ring: bytes = self._halves[leg].tobytes()
        return ((ring[present:] + ring[:present]).rfind(1) + 1) * TICK_MS / 2

    def depths_ms(self, legs: Rows) -> NDArray[np.float64]:
        """The same of many legs."""
        filled = self._halves[legs].reshape(legs.size, -1) != 0
        ahead = (np.arange(2 * self.settings.slots) - 2 * self.slot[legs, None]) & (2 * self.settings.slots - 1)
        newest: NDArray[np.int64] = np.where(filled, ahead + 1, 0).max(axis=1)
        return np.where(self.running[legs], newest, 0) * (TICK_MS / 2)

    def place(
        self,
        legs: Rows,
        timestamps: NDArray[np.uint32],
        durations: NDArray[np.int32],
        ages_ms: NDArray[np.float64],
    ) -> Placement:
        """Find the place of each packet of a batch, in order of arrival.

        `durations` are in RTP clock ticks and multiples of 10 ms; `ages_ms` is how long before this tick each came.
        """
        clock = self.clock.take(legs)
        delta = self._delta(legs, timestamps)
        slots, rest = np.divmod(delta, clock)
        if ((rest == 0) & (durations == clock) & self._flowing(legs, slots, 1, self.settings.slots)).all():
            return self._place_whole(legs, slots, ages_ms)
        return self._place_halves(legs, timestamps, durations, ages_ms)

    def take(self, legs: Rows) -> Slots:
        """The slots that play in this tick; playout moves on."""
        slot = self.slot.take(legs)
        places = legs * self.settings.slots + (slot & self.mask)
        filled = self._full.take(places)
        self._full[places] = 0
        self.slot[legs] = (slot + 1) & _SLOT_MASK
        self.timestamp[legs] += self._step.take(legs)
        whole = filled == FULL
        all_whole = bool(whole.all())
        self.missed[legs] = 0 if all_whole else np.where(whole, 0, self.missed[legs] + 1)
        return Slots(places, filled, whole, all_whole)

    def may_skip(self, leg: int) -> bool:
        """Whether a leg's excess has waited long enough to be skipped even in sound."""
        return int(self.skips[leg]) > 1 or self._ticks - int(self._skip_at[leg]) >= self.settings.skip_wait_ticks

    def skip(self, leg: int) -> tuple[int, bool]:
        """Take one more slot in the same tick: its place, and whether it is whole."""
        taken = self.take(np.array([leg], np.intp))
        self.skips[leg] -= 1
        self._skip_at[leg] = self._ticks
        self._shift_slack(leg, -TICK_MS)
        return int(taken.places[0]), taken.all_whole

    def end_tick(self, legs: Rows) -> None:
        """Twice a second, decide which buffers are deeper than their slack asks for."""
        self._ticks += 1
        if self._ticks % _WINDOW_TICKS == 0:
            self._measure(legs)

    def _delta(self, legs: Rows, timestamps: NDArray[np.uint32]) -> NDArray[np.int32]:
        """How far packets lie ahead of playout, in clock ticks, whatever the wrap (RFC 3550 §5.1: 32 bits)."""
        return (timestamps - self.timestamp.take(legs)).view(np.int32)

    def _flowing(
        self, legs: Rows, first: NDArray[np.int32], size: NDArray[np.int32] | int, end: int
    ) -> NDArray[np.bool_]:
        """Which packets lie, from `first` on, within a ring that plays (of one that does not, all is missed)."""
        within = first.view(np.uint32) <= end - size  # below zero is a large number
        flowing: NDArray[np.bool_] = within & (self.missed.take(legs) < self.settings.idle_ticks)
        return flowing

    def _place_whole(self, legs: Rows, slots: NDArray[np.int32], ages_ms: NDArray[np.float64]) -> Placement:
        """Packets of 20 ms on the grid, of timelines that play: what nearly all are."""
        np.minimum.at(self._slack, legs, slots * TICK_MS + ages_ms)
        slot = self.slot.take(legs) + slots
        places = legs * self.settings.slots + (slot & self.mask)
        batch = np.arange(legs.size, dtype=np.int32)
        # Two packets of one slot in a batch: the last one written owns it.
        self._owner_of_slot[places] = batch
        new = (self._full.take(places) != FULL) & (self._owner_of_slot.take(places) == batch)
        self._full[places] = FULL
        duplicates = 0 if new.all() else self._count_duplicates(legs[~new])
        kept = np.arange(legs.size, dtype=np.intp)
        halves = np.full(legs.size, 2, np.int32)
        return Placement(kept, slot << 1, halves, places, all_whole=True, duplicates=duplicates)

    def _place_halves(
        self,
        legs: Rows,
        timestamps: NDArray[np.uint32],
        durations: NDArray[np.int32],
        ages_ms: NDArray[np.float64],
    ) -> Placement:
        """Any packets: timelines begin, jump and move, and what is kept lies on half slots."""
        half_clock = self.clock[legs] >> 1
        halves = durations // half_clock
        delta = self._delta(legs, timestamps)
        first, rest = np.divmod(delta, half_clock)
        plain = (rest == 0) & self._flowing(legs, first, halves, 2 * self.settings.slots)
        for i in np.flatnonzero(~plain).tolist():
            self._settle(i, legs, timestamps, durations)
        delta = self._delta(legs, timestamps)
        first = delta // half_clock
        late = first + halves <= 0
        running = self.running[legs]
        kept = np.flatnonzero(running & ~late & (first + halves <= 2 * self.settings.slots))
        np.add.at(self.late, legs[late & running], 1)
        np.minimum.at(self._slack, legs, delta * (TICK_MS / 2) / half_clock + ages_ms)
        legs, first, halves = legs[kept], first[kept], halves[kept]
        half = (self.slot[legs] << 1) + first
        duplicates = self._mark(legs, half, first, halves)
        whole = (half & 1 == 0) & (halves == 2) & (first >= 0)
        places = np.where(whole, legs * self.settings.slots + ((half >> 1) & self.mask), -1)
        too_late = int(np.count_nonzero(late))
        return Placement(kept, half, halves, places, all_whole=False, duplicates=duplicates, late=too_late)

    def _settle(self, i: int, legs: Rows, timestamps: NDArray[np.uint32], durations: NDArray[np.int32]) -> None:
        """Decide what an unusual packet does to its leg's playout: begin it, move it, or nothing."""
        leg, timestamp, duration = int(legs[i]), int(timestamps[i]), int(durations[i])
        if not self.running[leg] or self.missed[leg] >= self.settings.idle_ticks:
            self._begin(leg, timestamp, timestamps[legs == leg])
            return
        clock = int(self.clock[leg])
        delta = _signed(timestamp - int(self.timestamp[leg]))
        if not -self.settings.slots * clock <= delta <= self.settings.slots * clock - duration:
            self._follow_jump(leg, timestamp, duration)
            return
        if misaligned := delta % (clock >> 1):
            # A sender that paused begins its next words anywhere; its slots begin there from now on.
            self._move(leg, misaligned if misaligned <= clock >> 2 else misaligned - (clock >> 1))
            delta = _signed(timestamp - int(self.timestamp[leg]))
        if delta < 0:
            self._consider_growth(leg, -(delta // clock))

    def _begin(self, leg: int, timestamp: int, timestamps: NDArray[np.uint32]) -> None:
        """Begin playout: the newest packet that has come lies `start_depth_slots` ahead."""
        newest = max(_signed(int(other) - timestamp) for other in timestamps)
        if not 0 <= newest <= self.settings.slots * int(self.clock[leg]) // 2:
            newest = 0
        depth = self.settings.start_depth_slots * int(self.clock[leg])
        self.timestamp[leg] = (timestamp + newest - depth) & 0xFFFFFFFF
        self.running[leg] = True
        self.missed[leg] = 0
        self._began[leg] = self._ticks
        self._jump[leg] = -1
        self._halves[leg] = 0
        self._forget_depth(leg)

    def _follow_jump(self, leg: int, timestamp: int, duration: int) -> None:
        """Two packets in a row on a far timeline move playout there; one alone is a stray (cf. RFC 3550 A.1)."""
        expected = int(self._jump[leg])
        self._jump[leg] = (timestamp + duration) & 0xFFFFFFFF
        if expected >= 0 and abs(_signed(timestamp - expected)) <= 2 * int(self.clock[leg]):
            self.resyncs[leg] += 1
            self._begin(leg, timestamp, np.array([timestamp], np.uint32))

    def _consider_growth(self, leg: int, slots: int) -> None:
        """A packet missed its tick by `slots`: wait for its kind from now on, if lateness recurs."""
        elapsed = self._ticks - int(self._scored_at[leg])
        self._score[leg] = self._score[leg] * _SCORE_KEPT_A_TICK**elapsed + 1.0
        self._scored_at[leg] = self._ticks
        fresh = self._ticks - int(self._began[leg]) < _FRESH_TICKS
        if not fresh and self._score[leg] < self.settings.lateness_score:
            return
        if slots > min(int(self.missed[leg]), self.settings.growth_slots_max):
            return
        if self.depth_ms(leg) / TICK_MS + slots > self.settings.depth_slots_max:
            return
        self._move(leg, -slots * int(self.clock[leg]))
        self.slot[leg] -= slots
        self.missed[leg] -= slots
        self._score[leg] = 0.0
        self._shift_slack(leg, slots * TICK_MS)

    def _mark(
        self, legs: Rows, positions: NDArray[np.int32], first: NDArray[np.int32], halves: NDArray[np.int32]
    ) -> int:
        """Mark half slots as filled; a packet that adds nothing to them is a duplicate. Returns how many are."""
        if not legs.size:
            return 0
        ring = self._halves.reshape(self._halves.shape[0], -1)
        wrap = 2 * self.settings.slots - 1
        batch = np.arange(legs.size, dtype=np.int32)
        added = np.zeros(legs.size, np.bool_)
        for k in range(int(halves.max())):
            here = np.flatnonzero((halves > k) & (first + k >= 0))
            leg, place = legs[here], (positions[here] + k) & wrap
            new = ring[leg, place] == 0
            self._owner[leg, place] = batch[here]
            added[here] |= new & (self._owner[leg, place] == batch[here])
            ring[leg, place] = 1
        return self._count_duplicates(legs[~added])

    def _count_duplicates(self, legs: Rows) -> int:
        np.add.at(self.duplicates, legs, 1)
        return legs.size

    def _move(self, leg: int, by: int) -> None:
        self.timestamp[leg] = (int(self.timestamp[leg]) + by) & 0xFFFFFFFF

    def _measure(self, legs: Rows) -> None:
        """Close a window of slack, and count the slots that the last windows show to be in excess."""
        window = self._ticks // _WINDOW_TICKS % _WINDOWS
        self._slacks[:, window] = self._slack
        self._slack[:] = np.inf
        least = self._slacks[legs].min(axis=1)
        recent = self._slacks[legs][:, [window - k for k in range(_WINDOWS_SHORT)]].min(axis=1)
        excess = np.where(np.isfinite(least) & (least >= TICK_MS + self.settings.margin_ms), 1, 0)
        far = np.isfinite(recent) & (recent >= 3 * TICK_MS + self.settings.margin_ms)
        excess[far] = ((recent[far] - self.settings.margin_ms) / TICK_MS).astype(np.int64) - 1
        newly = legs[(excess > 0) & (self.skips[legs] == 0)]
        self._skip_at[newly] = self._ticks
        self.skips[legs] = excess

    def _shift_slack(self, leg: int, by_ms: float) -> None:
        self._slack[leg] += by_ms
        self._slacks[leg] += by_ms

    def _forget_depth(self, leg: int) -> None:
        self.skips[leg] = 0
        self._score[leg] = 0.0
        self._slack[leg] = np.inf
        self._slacks[leg] = -np.inf


def _signed(difference: int) -> int:
    """A difference of 32-bit timestamps as a signed number."""
    return ((difference + 0x80000000) & 0xFFFFFFFF) - 0x80000000
