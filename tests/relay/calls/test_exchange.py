"""The exchange, call by call: what the trunk, the agent, the plane and the records see."""

import pytest

from relay import media
from relay.calls.effects import CloseMedia
from signaling.sip import events as sip
from signaling.softphone import messages as m
from tests.relay.exchange_world import ExchangeWorld


def connected(**queue: object) -> tuple[ExchangeWorld, sip.CallId, str]:
    world = ExchangeWorld(**queue)
    session = world.agent()
    call = world.call()
    world.sip(sip.CallConfirmed(call))
    world.act(session, "accept")
    return world, call, session


def gains(world: ExchangeWorld) -> set[tuple[str, str]]:
    last = world.commands(media.SetCrosspoints)[-1]
    return {(gain.listener.split("/")[0], gain.speaker.split("/")[0]) for gain in last.gains}


def test_a_call_goes_from_ring_to_record() -> None:
    world, call, session = connected()
    assert world.control.asked == [("200", call)]
    assert gains(world) == {("trunk", "softphone"), ("softphone", "trunk")}
    world.sip(sip.CallEnded(call, "peer"))
    assert world.exchange.agents.get("alice").state == "after_contact_work"
    world.act(session, "complete")
    assert len(world.finished()) == 1
    assert world.exchange.agents.get("alice").state == "available"
    assert not world.exchange.contacts.all
    assert not len(world.exchange.calls)
    assert [type(n).__name__ for n in world.told(session) if not isinstance(n, m.AgentStateChanged)] == [
        "MediaStateChanged",
        "MediaStateChanged",
        "ContactRinging",
        "ContactChanged",
        "ContactEnded",
        "ContactChanged",
    ]


def test_the_leg_opens_before_its_crosspoints_and_closes_after_its_track() -> None:
    world, call, _ = connected()
    opening = next(
        step for step in world.steps() if any(isinstance(c, media.OpenLeg) and c.latch for c in step.commands)
    )
    assert isinstance(opening.commands[0], media.OpenLeg)
    world.sip(sip.CallEnded(call, "peer"))
    closing = next(step for step in world.steps() if any(isinstance(c, media.CloseLeg) for c in step.commands))
    kinds = [type(command).__name__ for command in closing.commands]
    assert kinds[-1] == "CloseLeg"
    assert kinds.count("CloseTrack") == 2
    assert "CloseRecording" in kinds


def test_hold_plays_music_to_the_customer_and_closes_its_gate_in_the_same_step() -> None:
    world, _, session = connected()
    world.act(session, "hold")
    assert gains(world) == {("trunk", "music")}
    step = world.steps()[-1]
    assert [c.rule for c in step.commands if isinstance(c, media.SetGate)] == ["G2"]
    assert step.entries
    world.act(session, "resume")
    assert gains(world) == {("trunk", "softphone"), ("softphone", "trunk")}
    assert [c.rule for c in world.steps()[-1].commands if isinstance(c, media.SetGate)] == [None]


def test_mute_silences_the_agent_for_all_and_for_its_track() -> None:
    world, _, session = connected()
    world.act(session, "mute")
    assert gains(world) == {("softphone", "trunk")}
    assert [c.rule for c in world.steps()[-1].commands if isinstance(c, media.SetGate)] == ["G3"]


def test_a_request_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    world, _, session = connected()
    steps = len(world.steps())
    with pytest.raises(m.RequestError, match="not on hold") as refused:
        world.act(session, "resume")
    assert refused.value.code == m.ErrorCode.CONFLICT
    assert len(world.steps()) == steps


def test_another_agents_contact_is_not_found() -> None:
    world, _, _ = connected()
    bob = world.agent("bob")
    with pytest.raises(m.RequestError) as refused:
        world.act(bob, "hang_up")
    assert refused.value.code == m.ErrorCode.NOT_FOUND


def test_the_agent_hangs_up() -> None:
    world, call, session = connected()
    world.act(session, "hang_up")
    assert world.control.asked[-1] == ("BYE", call)
    assert world.told(session)[-2] == m.ContactEnded(world.contact_id, "hung_up_by_agent")


def test_cancel_while_the_agent_rings() -> None:
    world = ExchangeWorld(answer="with_agent")
    session = world.agent()
    call = world.call()
    assert world.control.asked == [("180", call)]
    world.sip(sip.CallCancelled(call))
    assert world.exchange.agents.get("alice").state == "available"
    assert m.ContactEnded(world.contact_id, "hung_up_by_customer") in world.told(session)
    assert len(world.finished()) == 1


def test_accept_after_cancel_finds_nothing() -> None:
    world = ExchangeWorld()
    session = world.agent()
    world.sip(sip.CallEnded(world.call(), "peer"))
    with pytest.raises(m.RequestError) as refused:
        world.act(session, "accept")
    assert refused.value.code == m.ErrorCode.NOT_FOUND


def test_an_offer_that_nobody_takes_goes_to_the_next_agent() -> None:
    world = ExchangeWorld()
    alice = world.agent("alice")
    world.pass_time(1.0)
    bob = world.agent("bob")
    world.call()
    world.pass_time(20.0)
    assert any(isinstance(told, m.ContactEnded) and told.reason == "missed" for told in world.told(alice))
    assert any(isinstance(told, m.ContactRinging) for told in world.told(bob))
    assert world.exchange.agents.get("alice").state == "missed"


def test_the_caller_waits_with_music_until_an_agent_comes() -> None:
    world = ExchangeWorld()
    call = world.call()
    world.sip(sip.CallConfirmed(call))
    assert gains(world) == {("trunk", "music")}
    session = world.agent()
    assert any(isinstance(told, m.ContactRinging) for told in world.told(session))


def test_an_agent_whose_media_is_lost_ends_the_contact() -> None:
    world, call, session = connected()
    leg_id = world.exchange.desks.session(session).leg_id
    world.exchange.leg_lost(leg_id, "consent expired", world.now)
    world.effects += world.exchange.effects()
    assert world.control.asked[-1] == ("BYE", call)
    steps = world.steps()
    contact_step = next(
        i for i, step in enumerate(steps) if any(isinstance(c, media.CloseRecording) for c in step.commands)
    )
    leg_step = next(i for i, step in enumerate(steps) if media.CloseLeg(leg_id) in step.commands)
    assert contact_step < leg_step


def test_a_lost_websocket_does_not_end_the_call_until_its_time_is_over() -> None:
    world, call, session = connected()
    world.exchange.session_closed(session, world.now)
    world.pass_time(29.0)
    assert ("BYE", call) not in world.control.asked
    back = world.exchange.log_in("alice", "agent", "again", world.now)
    assert back.media == "connected"
    assert back.contact is not None
    assert back.contact.state == "connected"
    world.pass_time(60.0)
    assert ("BYE", call) not in world.control.asked
    world.exchange.session_closed("again", world.now)
    world.pass_time(31.0)
    assert ("BYE", call) in world.control.asked
    assert world.exchange.desks.user("alice") is None


def test_a_second_log_in_replaces_the_first_session() -> None:
    world = ExchangeWorld()
    session = world.agent()
    world.exchange.log_in("alice", "agent", "newer", world.now)
    world.effects += world.exchange.effects()
    assert world.told(session)[-1] == m.SessionReplaced()
    with pytest.raises(m.RequestError):
        world.ask(session, m.SetState("offline"))


@pytest.mark.parametrize(("trunk", "plain", "status"), [("carrier", True, "488"), ("unknown", False, "404")])
def test_calls_that_are_refused(trunk: str, plain: bool, status: str) -> None:
    world = ExchangeWorld()
    call = world.call(trunk=trunk, offer=world.offer(plain=plain))
    assert world.control.asked == [(status, call)]
    assert not world.exchange.contacts.all


def test_draining_refuses_new_calls_and_lets_old_ones_end() -> None:
    world, call, _ = connected()
    world.exchange.drain(world.now)
    refused = world.call("call-2")
    assert world.control.asked[-1] == ("503", refused)
    assert ("BYE", call) not in world.control.asked
    world.exchange.end_all(world.now)
    assert ("BYE", call) in world.control.asked
    assert not world.exchange.contacts.all


def test_a_silent_trunk_leg_ends_the_call_unless_its_peer_holds_us_or_has_just_stopped_to() -> None:
    world, call, _ = connected()
    leg_id = world.exchange.calls.find(call).leg_id
    held = world.exchange.calls.find(call).negotiated.remote.encode().replace(b"a=sendrecv", b"a=inactive")
    world.sip(sip.SessionOffered(call, sip.SessionDescription.parse(held)))
    assert b"a=inactive" in world.control.answers[call]
    world.pass_time(30.0)
    world.plane(media.LegSilent(leg_id, 30.0))
    world.pass_time(29.9)
    world.sip(sip.SessionOffered(call, sip.SessionDescription.parse(held.replace(b"a=inactive", b"a=sendrecv"))))
    world.pass_time(0.1)
    world.plane(media.LegSilent(leg_id, 60.0))
    assert ("BYE", call) not in world.control.asked
    world.pass_time(30.0)
    world.plane(media.LegSilent(leg_id, 90.0))
    assert ("BYE", call) in world.control.asked


def test_a_trunk_leg_that_the_plane_has_ended_ends_its_call() -> None:
    world, call, session = connected()
    leg_id = world.exchange.calls.find(call).leg_id
    world.plane(media.LegClosed(leg_id, media.LegStatistics()))
    assert world.control.asked[-1] == ("BYE", call)
    assert m.ContactEnded(world.contact_id, "failed") in world.told(session)
    asked = len(world.control.asked)
    world.plane(media.LegClosed(leg_id, media.LegStatistics()))
    assert len(world.control.asked) == asked


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "ended"])
def test_an_agent_whose_leg_the_plane_does_not_have_is_given_no_contact(refused: bool) -> None:
    world = ExchangeWorld()
    session = world.agent()
    leg_id = world.exchange.desks.session(session).leg_id
    gone = media.CommandRefused(None, leg_id, "no row") if refused else media.LegClosed(leg_id, media.LegStatistics())
    world.plane(gone)
    assert not world.exchange.agents.get("alice").available
    assert world.told(session)[-1].state == "closed"
    world.call()
    assert not any(isinstance(told, m.ContactRinging) for told in world.told(session))
    world.ready(session)
    assert any(isinstance(told, m.ContactRinging) for told in world.told(session))


def test_a_contact_whose_step_was_refused_ends_and_closes_what_it_opened() -> None:
    world, call, session = connected()
    world.act(session, "hold")
    world.plane(media.CommandRefused(world.contact_id, None, "too many steps wait for the plane"))
    assert world.control.asked[-1] == ("BYE", call)
    assert [type(command).__name__ for command in world.steps()[-1].commands] == [
        "SetCrosspoints", "CloseTrack", "CloseTrack", "CloseRecording", "CloseLeg",
    ]  # fmt: skip
    world.plane(media.CommandRefused(world.contact_id, None, "again"))
    assert world.exchange.agents.get("alice").state == "after_contact_work"


def test_a_plane_that_is_behind_is_asked_for_nothing_more() -> None:
    world, call, session = connected()
    world.plane_is_behind = True
    refused = world.call("call-2")
    assert world.control.asked[-1] == ("503", refused)
    for action in ("hold", "mute"):
        with pytest.raises(m.RequestError) as busy:
            world.act(session, action)
        assert busy.value.code == m.ErrorCode.UNAVAILABLE
    with pytest.raises(m.RequestError):
        world.ready(session)
    world.act(session, "hang_up")
    assert ("BYE", call) in world.control.asked


def test_a_media_connection_that_is_ended_while_it_comes_up_does_not_come_up() -> None:
    world = ExchangeWorld()
    world.exchange.log_in("alice", "agent", "s", world.now)
    leg_id = world.exchange.leg_connecting("s")
    world.exchange.media_closed("s", world.now)
    assert CloseMedia(leg_id) in world.exchange.effects()
    assert world.exchange.desks.connecting(leg_id) is None


def test_timers_that_were_stopped_are_forgotten() -> None:
    world = ExchangeWorld()
    for number in range(500):
        call = world.call(f"call-{number}")
        world.sip(sip.CallEnded(call, "peer"))
    assert len(world.exchange.contacts._timers) <= 65


def test_a_call_that_ends_while_the_relay_drains_leaves_no_after_contact_work_to_wait_for() -> None:
    world, call, _ = connected()
    world.exchange.drain(world.now)
    assert world.exchange.contacts.all
    world.sip(sip.CallEnded(call, "peer"))
    assert not world.exchange.contacts.all
