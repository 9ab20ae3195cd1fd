from pathlib import Path

import pytest

from recorder import DeliverySettings, LocalError, RecorderSettings
from recorder.names import Identity, directory, is_log, is_segment, log_name, segment_name, wall_text
from tests.recorder.world import WALL


def test_defaults_keep_the_bound():
    settings = RecorderSettings("a", "i", Path("stage"))
    assert settings.chunk_ticks * 0.02 + 2 * settings.commit_interval_s < settings.loss_bound_s == 1.0
    assert settings.delivery == DeliverySettings()


@pytest.mark.parametrize(
    "changes",
    [
        {"account_id": "a/b"},
        {"instance_id": ""},
        {"account_id": "x" * 101},
        {"chunk_ticks": 26},
        {"chunk_ticks": 0},
        {"commit_interval_s": 0.4},
        {"object_key_template": "{account_id}/{contact_id}/"},
        {"object_key_template": "{account_id}/{instance_id}/x{contact_id}/"},
        {"object_key_template": "{account_id}/{instance_id}/{contact_id}/{colour}/"},
        {"object_key_template": "/{account_id}/{instance_id}/{contact_id}/"},
        {"object_key_template": "{"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(LocalError):
        RecorderSettings(**{"account_id": "a", "instance_id": "i", "stage": Path("stage"), **changes})


def test_object_keys():
    identity = Identity("a", "i", "c")
    assert (
        directory("{account_id}/{instance_id}/{year}/{month}/{day}/{contact_id}", identity, WALL) == "a/i/2026/11/18/c/"
    )
    assert wall_text(WALL) == "2026-11-18T11:06:40.250Z"
    session = bytes(16)
    assert segment_name("t-1", session, 0) == f"track-t-1-{'0' * 32}.seg"
    assert is_segment(segment_name("t-1", session, 12))
    assert is_log(log_name(session))
    assert not is_segment(log_name(session))
    assert not is_log("log-1")
