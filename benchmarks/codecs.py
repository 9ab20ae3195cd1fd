"""What a codec costs a leg-frame of 20 ms: `python -m benchmarks.codecs [--times 50]`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import cycle
from time import perf_counter

import numpy as np

from mixer.speech_like import speech_like
from relay.codecs import g711, opus
from relay.codecs.opus import OpusDecoder, OpusEncoder, OpusRate

ROWS = 300
OPUS_RATES: tuple[OpusRate, ...] = (8000, 16000, 48000)
LISTENING_RATES: tuple[OpusRate, ...] = (8000, 48000)


def main() -> None:
    """Print a line a codec and direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="frames of a series")
    times = parser.parse_args().times
    print(f"µs a leg-frame, the best of 10 series; {opus.version()}")
    codes = np.random.default_rng(1).integers(0, 256, (ROWS, 160), dtype=np.uint8)
    samples, pcm = np.zeros((ROWS, 160), np.int16), np.zeros((ROWS, 160), np.float32)
    report(f"G.711 decode, {ROWS} rows", lambda: g711.decode("PCMU", codes, pcm), ROWS, times)
    g711.decode_int16("PCMU", codes, samples)
    report(f"G.711 encode, {ROWS} rows", lambda: g711.encode("PCMU", samples, codes), ROWS, times)
    for rate in OPUS_RATES:
        for complexity in (0, 5, 10):
            report(f"Opus encode {rate}, complexity {complexity}", encoding(rate, complexity), 1, times)
        for listening_rate in LISTENING_RATES:
            report(f"Opus decode {rate} at {listening_rate}", decoding(rate, listening_rate), 1, times)


def report(name: str, work: Callable[[], object], frames: int, times: int) -> None:
    """Time a codec."""
    work()
    series = []
    for _ in range(10):
        begin = perf_counter()
        for _ in range(times):
            work()
        series.append(perf_counter() - begin)
    print(f"{name:35} {min(series) / times / frames * 1e6:8.2f}")


def encoding(rate: OpusRate, complexity: int) -> Callable[[], object]:
    """One encoder in the midst of speech."""
    encoder, out = OpusEncoder(rate, 32_000, complexity), np.zeros(opus.PAYLOAD_BYTES_MAX, np.uint8)
    frames = cycle(speech(rate))
    return lambda: encoder.encode(next(frames), out)


def decoding(rate: OpusRate, listening_rate: OpusRate) -> Callable[[], object]:
    """One decoder in the midst of speech."""
    encoder, coded = OpusEncoder(rate), np.zeros(opus.PAYLOAD_BYTES_MAX, np.uint8)
    packets = cycle([bytes(coded[: encoder.encode(frame, coded)]) for frame in speech(rate)])
    decoder, out = OpusDecoder(listening_rate), np.zeros(listening_rate // 50, np.int16)

    def work() -> None:
        packet = next(packets)
        decoder.decode(packet, len(packet), out)

    return work


def speech(rate: OpusRate) -> list[np.ndarray[tuple[int], np.dtype[np.int16]]]:
    """A second from the midst of a phrase, frame by frame."""
    assert rate != 12000
    assert rate != 24000
    return list(speech_like(rate, 4, 1).astype(np.int16).reshape(-1, rate // 50)[50:100])


if __name__ == "__main__":
    main()
