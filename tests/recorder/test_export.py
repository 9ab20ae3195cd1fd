import stat
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from recorder import Rendering, export_recording, open_contact
from recorder.errors import Exhausted, RemoteError, Unavailable
from tests.recorder.calls import held_call
from tests.recorder.test_playback import OPENED, closing, tones, track
from tests.recorder.world import CONTACT, KEY_SERVICE, SIGNER, Relay


def rendering(relay: Relay) -> Rendering:
    relay.deliver()
    return Rendering(relay.bucket, open_contact(relay.bucket, CONTACT, SIGNER.public_key, KEY_SERVICE))


def tone_call() -> Rendering:
    relay = Relay()
    relay.record([OPENED, track("a", "agent", 48_000, 0), track("c", "other", 48_000, 0)])
    relay.record([*tones("a", 440, 48_000, 0, 100), *tones("c", 1_000, 48_000, 0, 100), *closing(100, "a", "c")])
    return rendering(relay)


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    joined = np.concatenate(blocks, axis=1)
    return joined.reshape(-1, 2).T if joined.shape[0] == 1 else joined


def strongest_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * 48_000 / len(samples))


def test_wav_is_plain_16_bit_stereo_agent_right(tmp_path):
    made = tone_call()
    path = tmp_path / "out.wav"
    progress: list[tuple[int, int]] = []
    export_recording(made, path, "wav", lambda done, total: progress.append((done, total)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with wave.open(str(path)) as wav:
        assert wav.getparams()[:4] == (2, 2, 48_000, 96_000)
        stereo = np.frombuffer(wav.readframes(96_000), "<i2").reshape(-1, 2)
    assert np.array_equal(stereo, np.concatenate(list(tone_call().blocks())))
    assert (strongest_hz(stereo[:, 0]), strongest_hz(stereo[:, 1])) == (1_000, 440)
    assert progress == [(48_000, 96_000), (96_000, 96_000)]
    assert list(tmp_path.iterdir()) == [path]


def test_flac_is_lossless(tmp_path):
    export_recording(tone_call(), tmp_path / "out.flac", "flac")
    assert np.array_equal(decode(tmp_path / "out.flac").T, np.concatenate(list(tone_call().blocks())))


def test_opus_keeps_tones_sides_and_length(tmp_path):
    export_recording(tone_call(), tmp_path / "out.opus", "opus")
    left, right = decode(tmp_path / "out.opus")
    assert abs(len(left) - 96_000) <= 960
    assert (round(strongest_hz(left[:96_000]), -1), round(strongest_hz(right[:96_000]), -1)) == (1_000, 440)


def test_what_fails_leaves_nothing_and_touches_nothing(tmp_path):
    relay = Relay()
    for values in held_call():
        relay.record(values)
    made = rendering(relay)
    key = next(key for key in relay.bucket.objects if "track-agent" in key)
    relay.bucket.objects[key] = relay.bucket.objects[key][:-1]
    path = tmp_path / "out.wav"
    path.write_bytes(b"before")
    with pytest.raises(RemoteError):
        export_recording(made, path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(Unavailable, match="No such file"):
        export_recording(made, tmp_path / "nowhere" / "out.wav")


def test_a_recording_too_long_for_wav_says_what_to_do(tmp_path):
    made = tone_call()
    made.rate = 48_000_000
    made._per_position = 1
    made.span = type(made.span)(0, 2**31)
    with pytest.raises(Exhausted, match="flac"):
        export_recording(made, tmp_path / "out.wav")
