"""Whatever comes to a media port, nobody else's sound is touched by it, and it is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import MEDIA
from tests.fuzz.media import SENDERS, TICKS, Hostile, assert_harmless, torrent

_ports = st.integers(0, 60)
_ticks = st.integers(0, TICKS - 1)
_headers = st.builds(
    lambda first, kind, sequence, timestamp, ssrc: (
        bytes([0x80 | first, kind])
        + sequence.to_bytes(2, "big")
        + timestamp.to_bytes(4, "big")
        + ssrc.to_bytes(4, "big")
    ),
    st.sampled_from([0, 0, 0, 0x10, 0x20, 0x0F, 0x3F]) | st.integers(0, 63),
    st.sampled_from([0, 13, 101, 111, 0x80, 200, 201, 203]) | st.integers(0, 255),
    st.integers(0, 40) | st.integers(0, 0xFFFF),
    st.integers(0, 60).map(lambda n: 160 * n) | st.integers(0, 0xFFFFFFFF),
    st.sampled_from([4444, 5555, 6666]) | st.integers(0, 0xFFFFFFFF),
)
_payloads = st.sampled_from([bytes(160), bytes(80), bytes(240), bytes(4), b"\xf8\xff\xfe"]) | st.binary(max_size=200)
_data = st.builds(bytes.__add__, _headers, _payloads) | st.binary(max_size=60) | st.sampled_from([bytes(1700), b""])
_hostile = st.builds(
    Hostile, _ticks, st.sampled_from(SENDERS), _data, st.booleans(), st.sampled_from([0, 0, 0, 1]), _ports
)


@given(st.lists(_hostile, min_size=1, max_size=40))
@settings(max_examples=40)
def test_whatever_comes_is_counted_and_heard_by_nobody_honest(hostile: list[Hostile]) -> None:
    assert_harmless(hostile)


@pytest.mark.slow
def test_torrents_of_all_kinds() -> None:
    dropped: Counter[str] = Counter()
    for seed in range(4):
        dropped.update(asdict(assert_harmless(torrent(seed, a_tick=150)).plane.outcomes.dropped))
    # The others are of floods, and of what nobody could hear.
    assert {reason for reason, count in dropped.items() if not count} <= {
        "control_dropped", "flooded", "reports_dropped", "events_dropped", "off_contact",
    }  # fmt: skip


@pytest.mark.parametrize("name", MEDIA)
def test_what_once_failed(name: str) -> None:
    assert_harmless(MEDIA[name])
