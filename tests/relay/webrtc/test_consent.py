"""One schedule for all connections: who is asked when, and whose silence ends what."""

from __future__ import annotations

import itertools
import random

import pytest
from aioice import stun as ice_stun

from relay.webrtc import consent, stun

PEER, OURS = b"peer" * 6, b"ours" * 6
BODY = stun.check_attributes(b"peer:ours", 1, controlling=False, tie_breaker=5)
HERE = ("192.0.2.1", 4000)


def consents(**settings) -> consent.Consents[str]:
    return consent.Consents(random.Random(3).randbytes, **settings)


def run(all_of_them, seconds, answering=lambda owner: True, late=0.0):
    """Live through virtual time; returns who was asked and who expired, with the times."""
    asked, expired = [], []
    while (at := all_of_them.next_at()) is not None and at <= seconds:
        now = at + late
        due = all_of_them.due(now)
        for owner, request in due.requests:
            asked.append((owner, now))
            if answering(owner):
                response = stun.binding_response(stun.transaction_id(request), HERE, PEER)
                assert all_of_them.answered(stun.transaction_id(request), response, now)
        expired += [(owner, now) for owner in due.expired]
    return asked, expired


@pytest.mark.parametrize("late", [0.0, 0.01])
def test_everybody_is_asked_every_four_to_six_seconds_and_many_at_once(late):
    all_of_them = consents()
    for number in range(50):
        all_of_them.begin(str(number), BODY, PEER, number * 0.07)
    asked, expired = run(all_of_them, 600.0, late=late)
    assert expired == []
    gaps = []
    for number in range(50):
        times = [number * 0.07, *(at for owner, at in asked if owner == str(number))]
        gaps += [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) >= 4.0
    assert max(gaps) <= 6.0
    # RFC 7675 §5.1: at random, so that peers do not ask in step; but never more than two wake-ups a second.
    assert max(gaps.count(gap) for gap in set(gaps)) < 0.4 * len(gaps)
    assert len({at for _, at in asked}) <= 1200
    assert abs(len(asked) - 50 * 120) < 600


def test_a_crowd_is_asked_in_batches():
    all_of_them = consents()
    for number in range(150):
        all_of_them.begin(str(number), BODY, PEER, 0.0)
    assert [len(all_of_them.due(6.0).requests) for _ in range(4)] == [64, 64, 22, 0]
    assert all_of_them.next_at() > 6.0


def test_thirty_seconds_without_an_answer_end_it():
    all_of_them = consents()
    all_of_them.begin("mute", BODY, PEER, 100.0)
    all_of_them.begin("good", BODY, PEER, 100.0)
    asked, expired = run(all_of_them, 200.0, answering=lambda owner: owner == "good")
    assert expired == [("mute", 130.0)]
    assert 4 <= sum(owner == "mute" for owner, _ in asked) <= 7
    assert len(all_of_them) == 1


def test_a_request_is_signed_for_the_peer_and_its_transaction_is_new():
    all_of_them = consents()
    all_of_them.begin("one", BODY, PEER, 0.0)
    requests = [all_of_them.due(at).requests[0][1] for at in (6.0, 12.0)]
    for request in requests:
        assert ice_stun.parse_message(request).check_message_integrity(PEER)
    first, second = (stun.transaction_id(request) for request in requests)
    assert first != second
    assert all_of_them.awaits(first) is None
    assert all_of_them.awaits(second) == "one"


def test_only_the_peer_can_consent():
    all_of_them = consents()
    all_of_them.begin("one", BODY, PEER, 0.0)
    [(_, request)] = all_of_them.due(6.0).requests
    transaction = stun.transaction_id(request)
    assert not all_of_them.answered(transaction, stun.binding_response(transaction, HERE, OURS), 6.1)
    assert not all_of_them.answered(bytes(12), stun.binding_response(bytes(12), HERE, PEER), 6.1)
    assert all_of_them.awaits(transaction) == "one"
    assert all_of_them.answered(transaction, stun.binding_response(transaction, HERE, PEER), 6.1)
    assert not all_of_them.answered(transaction, stun.binding_response(transaction, HERE, PEER), 6.1)


def test_who_has_ended_is_asked_no_more():
    all_of_them = consents()
    all_of_them.begin("one", BODY, PEER, 0.0)
    [(_, request)] = all_of_them.due(6.0).requests
    all_of_them.end("one")
    all_of_them.end("one")
    assert all_of_them.awaits(stun.transaction_id(request)) is None
    assert run(all_of_them, 100.0) == ([], [])
    assert all_of_them.next_at() is None


@pytest.mark.parametrize("controlling", [True, False])
def test_a_check_is_answered_unless_there_is_more_to_it(controlling):
    def check(*, role=not controlling, key=OURS, body=None):
        body = body or stun.check_attributes(b"ours:peer", 1, controlling=role, tie_breaker=1)
        return consent.answer(stun.binding_request(bytes(12), body, key), HERE, OURS, controlling=controlling)

    assert check() == stun.binding_response(bytes(12), HERE, OURS)
    assert check(role=controlling) is None
    assert check(key=PEER) is None
    assert check(body=b"\0\6\0\4abcd") is None  # without PRIORITY
