"""Plaintext files of a rendering, only where the user says: whole or not at all, 0600."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, cast

from recorder.errors import Exhausted, LocalError, Unavailable
from recorder.playback import Rendering

ExportFormat = Literal["wav", "flac", "opus"]
WAV_BYTES_MAX = 0xFFFF_FFFF - 64
"""RIFF counts in 32 bits."""
OPUS_BITRATE = 48_000
_CODECS = {"flac": ("flac", "flac"), "opus": ("ogg", "libopus")}

Progress = Callable[[int, int], None]
"""Told the samples done and those in all."""


def export_recording(
    rendering: Rendering, path: Path, file_format: ExportFormat = "wav", progress: Progress | None = None
) -> None:
    """Write a file, replacing what stands there only when all of it is written. Raises RecorderError."""
    if file_format == "wav" and rendering.samples * 4 > WAV_BYTES_MAX:
        raise Exhausted("longer than a WAV file can be: export it as flac")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                _write(rendering, file, file_format, progress or _silent)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from error


def _write(rendering: Rendering, file: IO[bytes], file_format: ExportFormat, progress: Progress) -> None:
    if file_format == "wav":
        _write_wav(rendering, file, progress)
    elif file_format in _CODECS:
        _write_encoded(rendering, file, *_CODECS[file_format], progress)
    else:
        raise LocalError("the format is wav, flac or opus")


def _write_wav(rendering: Rendering, file: IO[bytes], progress: Progress) -> None:
    done = 0
    with wave.open(file, "wb") as wav:
        wav.setnchannels(2)
        wav.setsampwidth(2)
        wav.setframerate(rendering.rate)
        wav.setnframes(rendering.samples)
        for block in rendering.blocks():
            wav.writeframesraw(block.astype("<i2").tobytes())
            done += len(block)
            progress(done, rendering.samples)


def _write_encoded(rendering: Rendering, file: IO[bytes], container: str, codec: str, progress: Progress) -> None:
    import av  # noqa: PLC0415 - a quarter of a second that only this path needs

    done = 0
    with cast("Any", av).open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rendering.rate, layout="stereo")
        if codec == "libopus":
            stream.bit_rate = OPUS_BITRATE
        for block in rendering.blocks():
            frame = cast("Any", av).AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="stereo")
            frame.sample_rate = rendering.rate
            frame.pts = done
            output.mux(stream.encode(frame))
            done += len(block)
            progress(done, rendering.samples)
        output.mux(stream.encode(None))


def _silent(_done: int, _total: int) -> None:
    """Nobody wants to know."""
