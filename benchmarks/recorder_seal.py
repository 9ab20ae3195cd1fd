"""What sealing costs the recorder's worker: microseconds a chunk of 400 ms, and the whole pass with its commit.

Run: python -m benchmarks.recorder_seal [--chunks 2000] [--passes 40]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from recorder import RecorderSettings, WrappedKey
from recorder.capture import Frames, RecordingOpened, TrackOpened
from recorder.disk import Folder
from recorder.envelope import ContactKey
from recorder.intake import Intake
from recorder.keys import FileKeyService, FileSigner
from recorder.recordings import Recordings
from recorder.scribe import Scribe
from recorder.stage import Stage


def seal(codec: str, rate: int, chunks: int) -> dict[str, float | int | str]:
    """Sealing alone: header, AES-256-GCM, two hashes, ledger; no disk."""
    size = rate // 50 * 20 * (2 if codec == "s16" else 1)
    with tempfile.TemporaryDirectory() as folder:
        signer = FileSigner.open(Path(folder) / "signing.pem")
        recordings = Recordings(RecorderSettings("account", "instance", Path(folder)), signer, os.urandom)
        recordings.open(
            RecordingOpened("c", 0, 0.0), ContactKey(os.urandom(16), os.urandom(32)), WrappedKey("x", "x", b"")
        )
        recordings.receive(TrackOpened("c", "t", "p", "agent", codec, rate, 0))  # type: ignore[arg-type]
        payload = os.urandom(size)
        values = [Frames("c", "t", n * 20, 20, payload) for n in range(chunks)]
        start = time.perf_counter()
        for value in values:
            recordings.receive(value)
        elapsed = time.perf_counter() - start
    return {"what": f"seal {codec}/{rate}", "bytes": size, "us_per_chunk": round(elapsed / chunks * 1e6, 2)}


def commit(legs: int, passes: int) -> dict[str, float | int | str]:
    """A whole pass as the worker makes it, every 100 ms a quarter of the legs, with its write and fdatasync."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        settings = RecorderSettings("account", "instance", Path(folder) / "stage")
        intake = Intake(settings.queue_bytes_max, settings.queue_values_max)
        scribe = Scribe(
            settings,
            intake=intake,
            recordings=Recordings(settings, FileSigner.open(Path(folder) / "signing.pem"), os.urandom),
            stage=Stage(Folder(settings.stage), settings.journal_file_bytes_max),
            key_service=FileKeyService.open(Path(folder) / "keys.json"),
            entropy=os.urandom,
            clock=time.monotonic,
            notify=lambda event: None,
            submit=lambda recording: None,
        )
        scribe.recover()
        for leg in range(legs):
            contact_id = f"c{leg}"
            opened = RecordingOpened(contact_id, 0, 0.0), TrackOpened(contact_id, "t", "p", "agent", "pcmu", 8_000, 0)
            intake.offer(opened, time.monotonic())
        scribe.step()
        payload = os.urandom(3_200)
        cpu, start = time.thread_time(), time.perf_counter()
        for turn in range(passes):
            chunk = turn // 4
            values = [Frames(f"c{leg}", "t", chunk * 20, 20, payload) for leg in range(turn % 4, legs, 4)]
            intake.offer(values, time.monotonic())
            scribe.step()
        elapsed, used = time.perf_counter() - start, time.thread_time() - cpu
    seconds = passes * 0.1
    return {
        "what": "pass with commit, one track a leg, pcmu",
        "legs": legs,
        "pass_ms": round(elapsed / passes * 1e3, 2),
        "cpu_ms_per_leg_second": round(used * 1e3 / legs / seconds, 4),
    }


def main() -> None:
    """Print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=2_000)
    parser.add_argument("--passes", type=int, default=40)
    given = parser.parse_args()
    for codec, rate in (("pcmu", 8_000), ("s16", 8_000), ("s16", 48_000)):
        print(json.dumps(seal(codec, rate, given.chunks)))
    for count in (30, 300):
        print(json.dumps(commit(count, given.passes)))


if __name__ == "__main__":
    main()
