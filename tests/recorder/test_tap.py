import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.capture import Frames
from recorder.errors import Exhausted
from recorder.tap import TapForm, TapTable

MU = TapForm("pcmu", 8_000)
WIDE = TapForm("s16", 48_000)


def test_a_row_is_collected_every_twenty_ticks_as_it_was_written():
    taps = TapTable(rows_max=4)
    row = taps.open("c", "t", MU)
    collected: list[Frames] = []
    written = []
    for tick in range(100, 160):
        frame = np.full((1, 160), tick % 256, np.uint8)
        written.append(frame.tobytes())
        assert taps.write(MU, np.array([row.index]), frame, tick) == []
        collected += taps.collect(tick)
    collected += taps.close(row)
    assert b"".join(each.payload for each in collected) == b"".join(written)
    assert [each.first_tick for each in collected] == [
        100,
        *(collected[0].ticks + 100 + 20 * n for n in range(len(collected) - 1)),
    ]
    assert all(each.ticks <= 20 for each in collected)


def test_rows_are_staggered():
    taps = TapTable(rows_max=40)
    rows = np.array([taps.open("c", f"t{n}", MU).index for n in range(40)])
    frames = np.zeros((40, 160), np.uint8)
    counts = []
    for tick in range(60):
        taps.write(MU, rows, frames, tick)
        counts.append(len(taps.collect(tick)))
    assert counts[20:] == [2] * 40


def test_marks_become_ranges_and_lost_frames_silence():
    taps = TapTable(rows_max=2)
    row = taps.open("c", "t", WIDE)
    concealed, lost = (3, 4, 9), (5, 9)
    for tick in range(10):
        frame = np.full((1, 960), tick + 1, np.int16)
        taps.write(
            WIDE, np.array([row.index]), frame, 700 + tick,
            concealed=np.array([tick in concealed]), lost=np.array([tick in lost]),
        )  # fmt: skip
    (frames,) = taps.flush(row)
    assert (frames.first_tick, frames.ticks) == (700, 10)
    assert frames.concealed == ((3, 5),)
    assert frames.lost == ((5, 6), (9, 10))
    samples = np.frombuffer(frames.payload, "<i2").reshape(10, 960)
    assert samples[:, 0].tolist() == [1, 2, 3, 4, 5, 0, 7, 8, 9, 0]
    assert taps.flush(row) == []


def test_marks_do_not_stay():
    taps = TapTable(rows_max=1)
    row = taps.open("c", "t", MU)
    taps.write(MU, np.array([row.index]), np.zeros((1, 160), np.uint8), 0, lost=np.array([True]))
    (first,) = taps.flush(row)
    assert (first.payload, first.lost) == (b"\xff" * 160, ((0, 1),))
    taps.write(MU, np.array([row.index]), np.zeros((1, 160), np.uint8), 1)
    (second,) = taps.flush(row)
    assert (second.payload, second.lost) == (bytes(160), ())


def test_a_missed_tick_is_not_papered_over():
    taps = TapTable(rows_max=1)
    row = taps.open("c", "t", MU)
    rows, frame = np.array([row.index]), np.zeros((1, 160), np.uint8)
    taps.write(MU, rows, frame, 10)
    (emptied,) = taps.write(MU, rows, frame, 12)
    (flushed,) = taps.flush(row)
    assert [(each.first_tick, each.ticks) for each in (emptied, flushed)] == [(10, 1), (12, 1)]


def test_a_forgotten_collect_loses_nothing():
    taps = TapTable(rows_max=1)
    row = taps.open("c", "t", MU)
    emptied = [
        each for tick in range(45) for each in taps.write(MU, np.array([row.index]), np.zeros((1, 160), np.uint8), tick)
    ]
    assert [(each.first_tick, each.ticks) for each in emptied] == [(0, 20), (20, 20)]


def test_rows_come_back_clean_and_run_out():
    taps = TapTable(rows_max=1)
    row = taps.open("c", "t", MU)
    with pytest.raises(Exhausted):
        taps.open("c", "u", MU)
    taps.write(MU, np.array([row.index]), np.ones((1, 160), np.uint8), 0)
    assert len(taps.close(row)) == 1
    again = taps.open("d", "u", MU)
    assert taps.flush(again) == []
    taps.write(MU, np.array([again.index]), np.ones((1, 160), np.uint8), 5)
    assert taps.flush(again)[0].contact_id == "d"


@given(st.lists(st.sets(st.integers(0, 4)), min_size=1, max_size=70))
def test_the_sum_of_chunks_is_the_tap(ticks):
    """Rows written in any ticks: every frame comes out once, in order, with its tick."""
    taps = TapTable(rows_max=5)
    rows = [taps.open("c", str(n), MU) for n in range(5)]
    written: dict[str, dict[int, bytes]] = {str(n): {} for n in range(5)}
    out: list[Frames] = []
    for tick, present in enumerate(ticks):
        order = sorted(present, reverse=True)
        frames = np.array([[(tick * 5 + n) % 256] * 160 for n in order], np.uint8).reshape(-1, 160)
        for n, frame in zip(order, frames, strict=True):
            written[str(n)][tick] = frame.tobytes()
        out += taps.write(MU, np.array([rows[n].index for n in order], np.intp), frames, tick)
        out += taps.collect(tick)
    for row in rows:
        out += taps.close(row)
    read: dict[str, dict[int, bytes]] = {str(n): {} for n in range(5)}
    for each in out:
        assert 1 <= each.ticks <= 20
        for n in range(each.ticks):
            assert each.first_tick + n not in read[each.track_id]
            read[each.track_id][each.first_tick + n] = each.payload[n * 160 : n * 160 + 160]
    assert read == written
