import numpy as np
import pytest

from recorder import Rendering, Span, open_contact, recorded_span, stated_gaps
from recorder.capture import (
    Captured,
    Frames,
    FramesDropped,
    GateChanged,
    RecordingClosed,
    RecordingOpened,
    TrackClosed,
    TrackOpened,
)
from recorder.errors import RemoteError
from recorder.pcm import decoded
from tests.recorder.calls import BASE, held_call, sound
from tests.recorder.world import CONTACT, KEY_SERVICE, SIGNER, WALL, Relay, settings_of


def rendering_of(relay: Relay) -> Rendering:
    relay.deliver()
    return Rendering(relay.bucket, open_contact(relay.bucket, CONTACT, SIGNER.public_key, KEY_SERVICE))


def tone(hertz: float, rate: int, first_tick: int, ticks: int, amplitude: float = 8_000) -> np.ndarray:
    n = np.arange(first_tick * rate // 50, (first_tick + ticks) * rate // 50)
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * n / rate)).astype("<i2")


def track(name: str, role: str, rate: int, tick: int) -> TrackOpened:
    return TrackOpened(CONTACT, name, f"p-{name}", role, "s16", rate, BASE + tick)  # type: ignore[arg-type]


def tones(name: str, hertz: float, rate: int, first: int, end: int, amplitude: float = 8_000) -> list[Frames]:
    return [
        Frames(CONTACT, name, BASE + tick, 20, tone(hertz, rate, tick, 20, amplitude).tobytes())
        for tick in range(first, end, 20)
    ]


def closing(end: int, *names: str) -> list[Captured]:
    return [*(TrackClosed(CONTACT, name, BASE + end) for name in names), RecordingClosed(CONTACT, BASE + end)]


OPENED = RecordingOpened(CONTACT, BASE, WALL)


def test_g711_is_rendered_sample_for_sample():
    relay = Relay(settings=settings_of(part_bytes_max=7_000))
    for values in held_call():
        relay.record(values)
    rendering = rendering_of(relay)
    assert (rendering.rate, rendering.span, rendering.samples) == (8_000, Span(9_600, 182_400), 28_800)
    stereo = np.concatenate(list(rendering.blocks()))
    assert stereo.shape == (28_800, 2)
    assert stereo.dtype == np.int16
    agent = np.concatenate([decoded(sound("agent", tick, 1), "pcma") for tick in range(10, 190)])
    assert np.array_equal(stereo[:, 1], agent)
    for tick in range(10, 190):
        left = stereo[(tick - 10) * 160 : (tick - 9) * 160, 0]
        if 50 <= tick < 110 or tick == 37:  # on hold; lost in the network
            assert not left.any()
        else:
            assert np.array_equal(left, decoded(sound("customer", tick, 1), "pcmu"))


def test_gaps_are_stated_in_seconds_from_agent_joined():
    relay = Relay()
    for values in held_call():
        relay.record(values)
    gaps = stated_gaps(open_contact((relay.deliver(), relay.bucket)[1], CONTACT, SIGNER.public_key).manifest)
    assert [(gap.track, gap.participant, gap.start_s, gap.seconds, gap.rule, gap.reason) for gap in gaps] == [
        ("customer", "p-customer", 0.8, 1.2, "G2", "on hold")
    ]


def test_tracks_of_different_rates_meet_aligned_to_the_sample():
    relay = Relay()
    relay.record([OPENED, track("agent", "agent", 48_000, 0), track("low", "other", 8_000, 0)])
    relay.record(
        [*tones("agent", 440, 48_000, 0, 200), *tones("low", 440, 8_000, 0, 200), *closing(200, "agent", "low")]
    )
    rendering = rendering_of(relay)
    assert (rendering.rate, rendering.samples) == (48_000, 192_000)
    stereo = np.concatenate(list(rendering.blocks())).astype(int)
    assert np.array_equal(stereo[:, 1], tone(440, 48_000, 0, 200))
    # The same tone at both rates: but for the ends they are one signal, so neither is late by a sample (0.06 rad).
    assert np.max(np.abs(stereo[200:-200, 0] - stereo[200:-200, 1])) < 8


def test_withheld_is_exact_silence_also_where_the_interpolator_rings():
    relay = Relay()
    relay.record([OPENED, track("agent", "agent", 48_000, 0), track("low", "other", 8_000, 0)])
    relay.record([*tones("low", 1_000, 8_000, 0, 60), GateChanged(CONTACT, "low", BASE + 60, "G2")])
    relay.record([GateChanged(CONTACT, "low", BASE + 90, None), *tones("low", 1_000, 8_000, 90, 190)])
    relay.record([*tones("agent", 440, 48_000, 0, 160), FramesDropped(CONTACT, "agent", BASE + 160, 30)])
    relay.record(closing(190, "agent", "low"))
    stereo = np.concatenate(list(rendering_of(relay).blocks()))
    left = stereo[:, 0]
    assert not left[60 * 960 : 90 * 960].any()
    assert left[60 * 960 - 48 : 60 * 960].any()
    assert left[90 * 960 : 90 * 960 + 48].any()
    assert not stereo[160 * 960 :, 1].any()


def test_sums_are_limited_and_sides_kept_apart():
    relay = Relay()
    relay.record([OPENED, track("a", "agent", 8_000, 0), track("b", "other", 8_000, 0), track("c", "other", 8_000, 0)])
    for name, amplitude in (("a", 1_000), ("b", 30_000), ("c", 30_000)):
        relay.record(tones(name, 500, 8_000, 0, 100, amplitude))
    relay.record(closing(100, "a", "b", "c"))
    stereo = np.concatenate(list(rendering_of(relay).blocks()))
    assert (stereo[:, 0].max(), stereo[:, 0].min()) == (32_767, -32_768)
    assert np.array_equal(stereo[:, 1], tone(500, 8_000, 0, 100, 1_000))


def test_it_begins_where_the_first_agent_joined():
    relay = Relay()
    relay.record([OPENED, track("c", "other", 8_000, 0), *tones("c", 500, 8_000, 0, 100)])
    relay.record([track("a", "agent", 8_000, 55), *closing(0)])
    assert (
        recorded_span(open_contact((relay.deliver(), relay.bucket)[1], CONTACT, SIGNER.public_key).manifest).first
        == 52_800
    )


def test_a_contact_without_tracks_is_empty():
    relay = Relay()
    relay.record([OPENED, RecordingClosed(CONTACT, BASE + 10)])
    rendering = rendering_of(relay)
    assert (list(rendering.blocks()), rendering.samples, rendering.span.seconds) == ([], 0, 0.0)


def test_an_altered_chunk_is_never_played():
    relay = Relay()
    for values in held_call():
        relay.record(values)
    rendering = rendering_of(relay)
    key = next(key for key in relay.bucket.objects if "track-agent" in key)
    data = bytearray(relay.bucket.objects[key])
    data[5_000] ^= 1
    relay.bucket.objects[key] = bytes(data)
    with pytest.raises(RemoteError):
        list(rendering.blocks())


def test_without_a_key_there_is_no_sound():
    relay = Relay()
    for values in held_call():
        relay.record(values)
    relay.deliver()
    rendering = Rendering(relay.bucket, open_contact(relay.bucket, CONTACT, SIGNER.public_key))
    with pytest.raises(RemoteError, match="no key"):
        list(rendering.blocks())
