"""The contact record of whole calls, with exact numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from signaling.contact.record import ContactRecord, WallAnchor, contact_record
from signaling.contact.state import Stage
from tests.signaling.contact.stories import (
    ANNA,
    CALLER,
    accepts,
    connects,
    contact_after,
    declines,
    hold,
    leaves,
    mute,
    reserved,
    resume,
    started,
    timer,
    work_done,
)
from tests.signaling.contact.test_contact import told_stories

ANCHOR = WallAnchor(monotonic=1000.0, wall=1_800_000_000.0)
"""The process had run 1,000 s when the wall clock was at 1.8e9."""


def call(*rest):
    """A call that came at 1,000 s and was taken by anna at 1,030 s; she was there at 1,030.5 s."""
    beginning = [started(1000.0), connects(CALLER, 1000.2), reserved(at=1025.0), accepts(at=1030.0)]
    return contact_after([*beginning, connects(ANNA, 1030.5), *rest]).log


def test_a_whole_call():
    log = call(
        hold(at=1040.0),
        resume(at=1050.5),
        hold(at=1060.0, by="system"),
        resume(at=1064.0),
        hold(at=1080.0, by="anna"),
        leaves(CALLER, 1090.75),
        work_done(at=1111.0),
    )
    assert contact_record(log, ANCHOR) == ContactRecord(
        contact_id="c-1",
        account_id="a-1",
        instance_id="i-1",
        queue="main",
        trunk="carrier",
        customer_number="+4930123456",
        system_number="+4989987654",
        initiated_at=1_800_000_000.0,
        updated_at=1_800_000_111.0,
        disconnected_at=1_800_000_090.75,
        disconnect_reason="CUSTOMER_DISCONNECT",
        outcome="success",
        outcome_detail="hung up",
        dequeued_at=1_800_000_030.0,
        queue_seconds=30,
        agent_attempts=1,
        agent="anna",
        connected_to_agent_at=1_800_000_030.5,
        agent_interaction_seconds=35,  # 60.25 s less 25.25 s of hold
        customer_hold_seconds=25,
        holds=3,
        longest_hold_seconds=10,
        agent_hold_seconds=21,
        work_began_at=1_800_000_090.75,
        work_ended_at=1_800_000_111.0,
    )
    assert contact_record(log, ANCHOR).work_seconds == 20


def test_no_number_in_a_representation():
    assert "30123456" not in repr(contact_record(call(), ANCHOR))


def test_holding_the_agent_is_not_a_hold_of_the_customer():
    record = contact_record(call(hold(ANNA, 1040.0), mute(CALLER, 1045.0), leaves(ANNA, 1060.5)), ANCHOR)
    assert (record.holds, record.customer_hold_seconds, record.agent_interaction_seconds) == (0, 0, 30)


def ended(*story):
    record = contact_record(contact_after(story).log, ANCHOR)
    return record.disconnect_reason, record.outcome, record.outcome_detail


def talking(*rest):
    return ended(*call(*rest), work_done(at=1200.0))


def test_how_contacts_end():
    waiting = started(1000.0), connects(CALLER, 1000.0)
    assert talking(leaves(CALLER, 1100.0)) == ("CUSTOMER_DISCONNECT", "success", "hung up")
    assert talking(leaves(ANNA, 1100.0)) == ("AGENT_DISCONNECT", "success", "hung up")
    assert talking(leaves(CALLER, 1100.0, "media_lost")) == ("TELECOM_PROBLEM", "upstream", "media lost")
    assert talking(leaves(ANNA, 1100.0, "media_lost")) == ("TELECOM_PROBLEM", "client", "media lost")
    assert talking(leaves(CALLER, 1100.0, "drained")) == ("OTHER", "server", "the relay stopped")
    assert ended(*waiting, leaves(CALLER, 1010.0)) == ("CUSTOMER_DISCONNECT", "client", "the caller gave up")
    assert ended(started(answer="with_agent"), leaves(CALLER, cause="cancelled"))[:2] == (
        "CUSTOMER_DISCONNECT",
        "client",
    )
    assert ended(*waiting, leaves(CALLER, 1010.0, "failed")) == ("TELECOM_PROBLEM", "upstream", "failed")
    assert ended(*waiting, timer("queue", 1600.0))[:2] == ("CONTACT_FLOW_DISCONNECT", "server")
    late = started(answer="with_agent"), reserved(), accepts(), connects(ANNA), timer(f"join:{ANNA}", 35.0)
    assert ended(*late)[:2] == ("TELECOM_PROBLEM", "upstream")


def test_an_abandoned_contact_was_in_the_queue_to_its_end():
    story = [started(1000.0), reserved(at=1005.0), declines(at=1010.0), leaves(CALLER, 1042.9)]
    record = contact_record(contact_after(story).log, ANCHOR)
    assert (record.queue_seconds, record.dequeued_at, record.agent_attempts) == (42, 1_800_000_042.9, 1)
    assert (record.agent, record.connected_to_agent_at, record.work_began_at) == (None, None, None)
    assert (record.agent_interaction_seconds, record.work_seconds) == (0, 0)


def test_an_agent_that_did_not_join_is_not_the_contacts_agent():
    story = [started(1000.0), reserved(at=1005.0), accepts(at=1006.0), leaves(ANNA, 1007.0, "failed")]
    story += [reserved("ben-1", 1020.0, "ben"), accepts("ben-1", 1021.0), connects(CALLER, 1021.0)]
    story += [connects("ben-1", 1022.0), leaves("ben-1", 1052.0)]
    record = contact_record(contact_after(story).log, ANCHOR)
    assert (record.agent, record.agent_attempts, record.queue_seconds) == ("ben", 2, 21)
    assert record.agent_interaction_seconds == 30


def test_a_contact_found_open_says_so():
    record = contact_record(call(hold(at=1040.0), mute(ANNA, 1050.0)), ANCHOR)
    assert (record.outcome, record.outcome_detail) == ("indeterminate", "found open after a restart")
    assert (record.disconnected_at, record.disconnect_reason) == (None, None)
    assert record.updated_at == 1_800_000_050.0
    assert (record.holds, record.customer_hold_seconds) == (1, 10)


def test_a_conversation_whose_end_is_known_keeps_its_outcome_though_the_work_was_cut_off():
    record = contact_record(call(leaves(CALLER, 1090.0)), ANCHOR)
    assert (record.outcome, record.outcome_detail) == ("success", "hung up; found open after a restart")
    assert record.work_ended_at is None


def test_a_log_without_a_beginning_is_nobodys():
    with pytest.raises(ValueError, match="begins with ContactStarted"):
        contact_record([leaves(CALLER)], ANCHOR)


@given(told_stories())
@settings(max_examples=50, deadline=None)
def test_every_log_gives_a_record_whose_parts_add_up(story):
    contact, _ = story
    if contact.state.stage is Stage.NEW:
        return
    record = contact_record(contact.log, WallAnchor(0.0, 0.0))
    whole = record.updated_at - record.initiated_at
    parts = record.queue_seconds + record.agent_interaction_seconds + record.customer_hold_seconds + record.work_seconds
    assert 0 <= parts <= whole
    assert record.longest_hold_seconds <= record.customer_hold_seconds >= record.agent_hold_seconds
    assert (record.agent is None) == (record.connected_to_agent_at is None)
    if contact.closed:
        assert record.outcome != "indeterminate"
        assert record.disconnect_reason is not None
