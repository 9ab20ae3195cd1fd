"""A real process, a real folder, a real kill -9."""

import random
import select
import subprocess
import sys

import pytest

from recorder import Recorder, RecorderSettings, Store, StoreSettings, verify_contact
from tests.recorder.calls import sound
from tests.recorder.world import ACCOUNT, CONTACT, INSTANCE, KEY_SERVICE, SIGNER, stored_frames

CHILD = """
import sys, time
from recorder import Recorder, RecorderSettings, Store, StoreSettings
from recorder.capture import RecordingOpened, TrackOpened
from tests.recorder.calls import BASE, frames
from tests.recorder.world import ACCOUNT, CONTACT, INSTANCE, KEY_SERVICE, SIGNER
from pathlib import Path

folder = Path(sys.argv[1])
recorder = Recorder(
    RecorderSettings(ACCOUNT, INSTANCE, folder / "stage"), destination=Store.open(StoreSettings(f"file://{folder}/store")),
    key_service=KEY_SERVICE, signer=SIGNER, notify=lambda event: None,
)
recorder.start()
begin = time.monotonic()
recorder.offer([RecordingOpened(CONTACT, BASE, time.time()), TrackOpened(CONTACT, "t", "p", "agent", "pcmu", 8000, BASE)], begin)
tick = 0
while True:
    tick += 20
    while (now := time.monotonic()) < begin + tick * 0.02:
        time.sleep(0.001)
    recorder.offer([frames("t", tick - 20)], now)
    print(tick, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kill_costs_at_most_a_second(tmp_path, seed):
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(4):
            child.stdout.readline()
        # The kill comes at any moment of the next 400 ms: waiting on the pipe without reading is the pause.
        select.select([], [], [], random.Random(seed).uniform(0.0, 0.4))
        child.kill()
        captured = 80 + 20 * len(child.stdout.read().split())
    store = Store.open(StoreSettings(f"file://{tmp_path}/store"))
    assert list(store.object_keys()) == []
    recorder = Recorder(
        RecorderSettings(ACCOUNT, INSTANCE, tmp_path / "stage"),
        destination=store,
        key_service=KEY_SERVICE,
        signer=SIGNER,
        notify=lambda event: None,
    )
    recorder.start()
    recorder.stop()
    answer = verify_contact(store, CONTACT, SIGNER.public_key, KEY_SERVICE)
    assert (answer.verified, answer.ended) == (True, "found open after a crash")
    stored = stored_frames(store, CONTACT)["t"]  # type: ignore[arg-type]
    assert stored == {tick: sound("t", tick, 1) for tick in range(len(stored))}
    # Chunks end every 400 ms; between the last captured one and the kill at most another 400 ms had passed.
    assert captured - len(stored) <= 30
