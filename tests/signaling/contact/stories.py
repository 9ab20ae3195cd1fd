"""Events and situations of a contact in short words, for the tests beside it."""

from __future__ import annotations

from dataclasses import replace

from signaling.contact import commands, events
from signaling.contact.contact import Contact, ContactSettings

CALLER, ANNA = "caller", "anna-1"
SETTINGS = ContactSettings(offer_seconds=20, join_seconds=35, waiting_seconds_max=600, after_work_seconds=60)


def started(at=0.0, *, answer="at_once", recorded=("agent", "customer")):
    return events.ContactStarted(
        at=at,
        contact_id="c-1",
        account_id="a-1",
        instance_id="i-1",
        queue="main",
        participant_id=CALLER,
        customer_number="+4930123456",
        system_number="+4989987654",
        trunk="carrier",
        recorded=recorded,
        answer=answer,
    )


def connects(who, at=0.0):
    return events.ParticipantConnected(at, who)


def reserved(who=ANNA, at=0.0, user="anna"):
    return events.AgentReserved(at, who, user)


def accepts(who=ANNA, at=0.0):
    return events.AgentAccepted(at, who)


def declines(who=ANNA, at=0.0, reason="rejected"):
    return events.AgentDeclined(at, who, reason)


def leaves(who, at=0.0, cause="hung_up"):
    return events.ParticipantLeft(at, who, cause)


def timer(name, at=0.0):
    return events.TimerFired(at, name)


def hold(who=CALLER, at=0.0, by=ANNA):
    return events.Held(at, who, by)


def resume(who=CALLER, at=0.0, by=ANNA):
    return events.Resumed(at, who, by)


def mute(who, at=0.0, by="system", scope="system"):
    return events.Muted(at, who, by, scope)


def unmute(who, at=0.0, by="system", scope="system"):
    return events.Unmuted(at, who, by, scope)


def work_done(who=ANNA, at=0.0):
    return events.WorkCompleted(at, who)


SITUATIONS = {
    "new": [],
    "waiting": [started(), connects(CALLER)],
    "ringing": [started(), connects(CALLER), reserved()],
    "joining": [started(), connects(CALLER), reserved(), accepts()],
    "talking": [started(), connects(CALLER), reserved(), accepts(), connects(ANNA)],
    "working": [started(), connects(CALLER), reserved(), accepts(), connects(ANNA), leaves(CALLER)],
    "closed": [started(), leaves(CALLER)],
}
"""What has happened so far, where the caller is answered at once."""

UNANSWERED = {
    "waiting": [started(answer="with_agent")],
    "ringing": [started(answer="with_agent"), reserved()],
    "joining": [started(answer="with_agent"), reserved(), accepts()],
    "joining, caller there": [started(answer="with_agent"), reserved(), accepts(), connects(CALLER)],
    "joining, agent there": [started(answer="with_agent"), reserved(), accepts(), connects(ANNA)],
}
"""The same where the caller is answered when an agent accepts."""


def contact_after(story, settings=SETTINGS) -> Contact:
    contact = Contact(settings)
    for event in story:
        contact.handle(event)
    assert list(contact.log) == list(story), "every event of a story fits"
    return contact


def told(found: list[commands.ContactCommand]) -> list[str]:
    """Commands in short words, without the media."""
    return [_words(command) for command in found if not isinstance(command, MEDIA)]


MEDIA = (
    commands.OpenRecording,
    commands.SetParties,
    commands.OpenTrack,
    commands.SetGate,
    commands.CloseTrack,
    commands.CloseRecording,
)


def _words(command):  # noqa: C901, PLR0911, PLR0912 - one line a command
    match command:
        case commands.RingCustomer():
            return "ring back to the caller"
        case commands.AnswerCustomer():
            return "answer the caller"
        case commands.OfferToAgent(agent=agent):
            return f"ring {agent}"
        case commands.WithdrawOffer(agent=agent, reason=reason):
            return f"stop ringing {agent}: {reason}"
        case commands.RequestAgent(queue=queue):
            return f"ask queue {queue}"
        case commands.CancelRequest(queue=queue):
            return f"leave queue {queue}"
        case commands.EndLeg(participant_id=who, cause=cause):
            return f"hang up on {who}: {cause}"
        case commands.StartTimer(name=name, seconds=seconds):
            return f"in {seconds:g} s: {name}"
        case commands.StopTimer(name=name):
            return f"stop {name}"
        case commands.BeginWork(agent=agent):
            return f"{agent} has after-contact work"
        case commands.ReleaseAgent(agent=agent, reason=reason):
            return f"release {agent}: {reason}"
        case commands.RefuseRequest(reason=reason):
            return f"refuse: {reason}"
        case commands.CloseContact():
            return "close"
    raise AssertionError(command)


def without_recording(story):
    return [replace(event, recorded=()) if isinstance(event, events.ContactStarted) else event for event in story]
