"""What the relay says of calls, and what it leaves behind: answers, contact records, states, rows, timers, plaintext."""

from __future__ import annotations

from collections.abc import Iterator

from recorder.events import RecordingDegraded, RecordingFailed
from signaling.contact.events import ContactEvent
from signaling.contact.record import FOUND_OPEN, ContactRecord, WallAnchor, contact_record
from tests.simulation import tones
from tests.simulation.evidence import Run
from tests.simulation.recording_checks import recordings
from tests.simulation.relay_process import WALL
from tests.simulation.story import Talk

_ANCHOR = WallAnchor(0.0, WALL)


def the_relay_answers_as_the_story_demands(run: Run) -> Iterator[str]:
    """Requests taken and refused, offers in order, nobody hung up without cause, as many conversations as meant."""
    yield from run.world.story.complaints
    yield from run.world.complaints
    expected = run.script.conversations
    joined = sum(talk.joined is not None for talk in run.world.story.talks)
    if expected is not None and joined != expected:
        yield f"{joined} calls came to a conversation, {expected} should have"


def contact_records_tell_the_story(run: Run) -> Iterator[str]:
    """Every time, hold and reason; of a contact that a kill ended, that it was found open."""
    kept, contacts = run.world.kept, recordings(run).contacts
    for talk in run.world.story.talks:
        if talk.contact_id not in kept.logged:
            yield f"{talk.caller}'s call left no log"
    for contact_id, logged in kept.logged.items():
        if contact_id not in contacts:
            yield f"contact {contact_id} is of no call"
            continue
        talk = contacts[contact_id]
        log: list[ContactEvent] = [each.event for each in logged]
        finished = kept.finished.get(contact_id)
        if finished is not None and list(finished.log) != log:
            yield f"the log of {talk.caller}'s contact is not what was kept of it piece by piece"
        if talk.over_by != "kill" and finished is None and not _worked_through_a_kill(run, talk):
            yield f"{talk.caller}'s contact never ended"
        yield from _wrong_record(talk, contact_record(log, _ANCHOR), ended=finished is not None)


def _worked_through_a_kill(run: Run, talk: Talk) -> bool:
    """The agent was still at work on it when the relay was killed."""
    assert talk.over is not None
    return any(
        life == talk.life and at < talk.over + talk.script.after_work_seconds for life, at in run.world.story.kills
    )


def _wrong_record(talk: Talk, record: ContactRecord, *, ended: bool) -> Iterator[str]:
    killed = talk.over_by == "kill"
    joined = talk.joined
    over = None if killed else talk.over
    expected: dict[str, object] = {
        "initiated_at": talk.initiated,
        "connected_to_agent_at": joined,
        "disconnected_at": over,
        "agent": talk.agent if joined is not None else None,
        "agent_attempts": len(talk.offers),
    }
    if not killed:
        held = [each.end - each.first for each in talk.holds if each.end is not None]
        expected |= {"holds": len(held), "customer_hold_seconds": int(sum(held)), "agent_hold_seconds": int(sum(held))}
        expected |= {"disconnect_reason": _reason(talk)}
    for name, value in expected.items():
        found = getattr(record, name)
        if isinstance(found, float) and isinstance(value, float):
            same = abs(found - WALL - value) < 1e-5
        else:
            same = found == value
        if not same:
            yield f"the record of {talk.caller}'s call says {name} {found}, the story {value}"
    if (FOUND_OPEN in record.outcome_detail) != (killed or not ended):
        yield f"the record of {talk.caller}'s call says {record.outcome_detail!r}"
    yield from _wrong_work(talk, record, ended=ended)


def _wrong_work(talk: Talk, record: ContactRecord, *, ended: bool) -> Iterator[str]:
    if talk.joined is None or talk.over_by == "kill" or not ended:
        return
    assert talk.over is not None
    latest = talk.over + talk.script.after_work_seconds
    until = min(latest, talk.completed or latest)
    if record.work_ended_at is None or record.work_ended_at - WALL > until + 1e-5:
        yield f"the record of {talk.caller}'s call says that work ended at {record.work_ended_at}, the story {until}"


def _reason(talk: Talk) -> str:
    if talk.over_by == "caller" or (talk.over_by == "agent" and talk.joined is None):
        return "CUSTOMER_DISCONNECT"
    if talk.over_by == "relay":
        return "TELECOM_PROBLEM"
    return "AGENT_DISCONNECT" if not talk.media_lost else "TELECOM_PROBLEM"


def nothing_is_left_over(run: Run) -> Iterator[str]:
    """After the last call: no row, conference, track, call, timer, contact, desk, staged or queued value."""
    relay = run.world.relay
    if relay is None:
        yield "no relay runs at the end"
        return
    plane, exchange = relay.plane.statistics(), relay.exchange
    left = {
        **{name: plane[name] for name in ("legs", "conferences", "tracks", "steps_waiting")},
        "contacts": len(exchange.contacts.all),
        "calls of trunks": len(exchange.calls),
        "timers of the exchange": exchange.next_timer(),
        "legs bound to participants": len(exchange.contacts._switchboard),
        "desks": list(exchange.desks),
        "SIP calls": relay.agent.calls,
        "SIP dialogs": len(relay.agent._core.dialogs),
        "SIP timers": relay.agent.next_timer(),
        "staged contacts": len(relay.recordings.staged),
        "bytes before the stage": relay.stage.pending_bytes,
        "bytes before the recorder": relay.intake.queued_bytes,
        "surplus journal files": relay.stage.file_count - 1 if relay.stage.file_count else 0,
    }
    yield from (f"left over: {name}: {value}" for name, value in left.items() if value)
    for queue in exchange.queues.names:
        if exchange.queues.waiting(queue):
            yield f"left over: {exchange.queues.waiting(queue)} contacts wait"
    for agent in exchange.agents.all:
        if agent.contact_id is not None or agent.state != "offline":
            yield f"{agent.user} is {agent.state} at the end"
    for caller in run.world.callers.values():
        if caller.agent.calls or caller.agent.next_timer() is not None:
            yield f"{caller.name}'s telephone still has a call"


def nothing_failed_within(run: Run) -> Iterator[str]:
    """No stage of the tick failed, no command was refused, no frame was refused, and nobody was alarmed for nothing."""
    for relay in run.world.lives:
        failed = {name: count for name, count in relay.plane.counters.items() if name.startswith(("failed", "legs_en"))}
        refused = relay.recordings.refused_frames, relay.recordings.refused_values, relay.intake.dropped_frames
        if failed or any(refused):
            yield f"in life {relay.life} failed {failed}; the recorder refused {refused}"
    kept = run.world.kept
    yield from (f"the plane refused a command: {each.what}" for each in kept.refused_commands)
    faulty = any(act.does in {"store_away", "disk_full"} for act in run.script.acts)
    cut = {each.talk.contact_id for each in recordings(run).all if each.cut and each.verification is None}
    for event in kept.recorder_events:
        if isinstance(event, RecordingFailed) and event.contact_id in cut:
            continue  # a kill in its first write left nothing of it
        if isinstance(event, RecordingFailed) or (isinstance(event, RecordingDegraded) and not faulty):
            yield f"the recorder says: {event.reason}"


def no_plaintext_is_at_rest(run: Run) -> Iterator[str]:
    """No frame that anybody said stands on the disk or in the store."""
    world = run.world
    resting = {**{name: bytes(data) for name, data in world.disk.written.items()}, **world.bucket.objects}
    for phone in world.phones.values():
        for connection in phone.connections[:1]:
            if connection.encoding == "opus":
                continue
            for payload in tones.payloads(phone.hertz, connection.encoding):
                for name, data in resting.items():
                    if payload[:40] in data:
                        yield f"{name} holds what {phone.name} said"
                        return
