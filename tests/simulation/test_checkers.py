"""Every checker is seen to find what it is there for: the product is broken in one place, and the right one complains."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mixer.crosspoints import crosspoints
from recorder import envelope, recording, scribe, segment
from recorder.capture import Captured
from recorder.playback import Rendering
from recorder.recordings import Recordings
from recorder.settings import RecorderSettings
from relay.calls import contacts, switchboard
from relay.calls.trunk_calls import TrunkCalls
from relay.media import Gain, SetCrosspoints
from relay.plane.jitter import JitterBuffers, JitterSettings
from relay.plane.plane import Plane
from relay.plane.reports import Loudness
from relay.plane.taps import Taps
from relay.plane.transmission import Transmission
from signaling.contact import contact, gates, state
from signaling.queues import Queues
from tests.simulation.checkers import CHECKERS, check
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.script import AgentPlan, CallerPlan, Script, act
from tests.simulation.world import World

Patch = pytest.MonkeyPatch

ONE_CALL = Script(
    callers=(CallerPlan("carol"),),
    agents=(AgentPlan("alice", encoding="PCMU"),),
    acts=(
        act(0.05, "sit_down", "alice"),
        act(0.4, "dial", "carol"),
        act(2.0, "hold", "alice"),
        act(2.6, "resume", "alice"),
        act(3.2, "mute", "alice"),
        act(3.8, "unmute", "alice"),
        act(4.5, "hang_up", "carol"),
    ),
    seconds=5.5,
)
KILLED = ONE_CALL.with_(
    callers=(CallerPlan("carol", gives_up_after_s=0.5),),
    acts=(*ONE_CALL.acts[:6], act(4.2, "kill", in_write=False), act(5.0, "restart")),
    seconds=7.0,
)
THREE_CALLS = ONE_CALL.with_(
    callers=(CallerPlan("carol"), CallerPlan("dave"), CallerPlan("erin")),
    acts=(
        act(0.05, "sit_down", "alice"),
        *(act(0.4 + 0.2 * i, "dial", name) for i, name in enumerate(("carol", "dave", "erin"))),
        *(act(2.0 + 1.5 * i, "hang_up", name) for i, name in enumerate(("carol", "dave", "erin"))),
    ),
    seconds=6.0,
    conversations=None,
)
TWO_CALLS = ONE_CALL.with_(
    callers=(CallerPlan("carol"), CallerPlan("dave")),
    acts=(
        act(0.05, "sit_down", "alice"),
        act(0.4, "dial", "carol"),
        act(0.6, "dial", "dave"),
        act(2.0, "hang_up", "carol"),
        act(4.5, "hang_up", "dave"),
    ),
    conversations=2,
)


LOSSY, HOSTILE, CROWD = (SCENARIOS[name](random.Random(4)) for name in ("loss", "hostile", "crowd"))


def found(script: Script) -> set[str]:
    world = World(script, "a seed")
    world.run()
    return set(check(world))


@pytest.mark.parametrize(
    "script", [ONE_CALL, KILLED, TWO_CALLS, THREE_CALLS], ids=["one call", "killed", "two calls", "three calls"]
)
def test_without_a_fault_nobody_complains(script: Script) -> None:
    assert found(script) == set()


def _crosspoints(patch: Patch, change: Callable[[Any], Any]) -> None:
    patch.setattr(
        switchboard, "crosspoints", lambda parties, **options: crosspoints(list(map(change, parties)), **options)
    )


def hold_is_not_obeyed(patch: Patch) -> None:
    _crosspoints(patch, lambda party: replace(party, on_hold=False))


def mute_is_not_obeyed(patch: Patch) -> None:
    _crosspoints(patch, lambda party: replace(party, muted=False))


def everybody_hears_himself(patch: Patch) -> None:
    def also_himself(parties: list[Any], **options: Any) -> tuple[Any, ...]:
        made = crosspoints(parties, **options)
        return (*made, *(replace(each, speaker=each.listener) for each in made if not each.is_source))

    patch.setattr(switchboard, "crosspoints", also_himself)


def a_leak_of_a_tenth(patch: Patch) -> None:
    def leaky(parties: list[Any], **options: Any) -> tuple[Any, ...]:
        made = crosspoints(parties, **options)
        return (*made, *(replace(each, speaker=each.listener, gain=0.13) for each in made if not each.is_source))

    patch.setattr(switchboard, "crosspoints", leaky)


def calls_hear_one_another(patch: Patch) -> None:
    set_parties = switchboard.Switchboard._set_parties

    def with_strangers(self: Any, contact_id: str, command: Any) -> Any:
        made = set_parties(self, contact_id, command)
        assert isinstance(made, SetCrosspoints)
        strangers = [leg for (contact, _), leg in self._legs.items() if contact != contact_id]
        return replace(
            made, gains=(*made.gains, *(Gain(one, other, 1.0) for one in made.members for other in strangers))
        )

    patch.setattr(switchboard.Switchboard, "_set_parties", with_strangers)


def nobody_hears_anybody(patch: Patch) -> None:
    patch.setattr(switchboard, "crosspoints", lambda _parties, **_options: ())


def no_music(patch: Patch) -> None:
    patch.setattr(switchboard, "crosspoints", lambda parties, waiting_source: crosspoints(parties, None, None))


def the_muted_agents_caller_gets_no_packets(patch: Patch) -> None:
    step = switchboard.Switchboard.step

    def without_members(self: Any, *arguments: Any, **options: Any) -> Any:
        made = step(self, *arguments, **options)
        stripped = (replace(each, members=()) if isinstance(each, SetCrosspoints) else each for each in made.commands)
        return replace(made, commands=tuple(stripped))

    patch.setattr(switchboard.Switchboard, "step", without_members)


def sound_waits(patch: Patch) -> None:
    begin = JitterBuffers.__init__

    def deep(self: Any, legs_max: int, settings: JitterSettings) -> None:
        begin(self, legs_max, replace(settings, start_depth_slots=8))

    patch.setattr(JitterBuffers, "__init__", deep)
    patch.setattr(JitterBuffers, "_measure", lambda _self, _legs: None)


def timestamps_stand_still(patch: Patch) -> None:
    patch.setattr(Transmission, "end_tick", lambda _self, _rows: None)


def gates_ignore_hold(patch: Patch) -> None:
    patch.setattr(gates, "RULES", tuple(rule for rule in gates.RULES if rule[0].rule != "G2"))


def the_tap_ignores_gates(patch: Patch) -> None:
    set_gate = Taps.set_gate

    def stays_open(self: Any, command: Any, tick: int) -> None:
        set_gate(self, command, tick)
        self._tap(command.contact_id, command.track_id).is_open = True

    patch.setattr(Taps, "set_gate", stays_open)


def tap_and_recorder_ignore_gates(patch: Patch) -> None:
    the_tap_ignores_gates(patch)
    patch.setattr(recording.Recording, "_gate", lambda self, value: self._require_open(value.track_id))


def tracks_are_swapped(patch: Patch) -> None:
    open_track = Taps.open_track
    legs: dict[str, Any] = {}

    def crossed(self: Any, command: Any, leg: Any, *more: Any) -> None:
        legs[command.track_id] = leg
        other = next((each for name, each in legs.items() if name != command.track_id), leg)
        open_track(self, command, other, *more)

    patch.setattr(Taps, "open_track", crossed)


def the_recorder_forgets_a_chunk(patch: Patch) -> None:
    receive = Recordings.receive
    count = itertools.count()

    def forgetful(self: Any, value: Captured, **options: Any) -> Any:
        if type(value).__name__ == "Frames" and next(count) == 6:
            return []
        return receive(self, value, **options)

    patch.setattr(Recordings, "receive", forgetful)


def the_recorder_alters_a_byte(patch: Patch) -> None:
    seal = segment.SegmentWriter.seal

    def altered(self: Any, first: int, positions: int, plaintext: bytes, *more: Any) -> Any:
        if positions:
            plaintext = bytes([plaintext[0] ^ 1]) + plaintext[1:]
        return seal(self, first, positions, plaintext, *more)

    patch.setattr(segment.SegmentWriter, "seal", altered)


def the_rendering_mixes_up_its_sides(patch: Patch) -> None:
    blocks = Rendering.blocks

    def flipped(self: Any) -> Iterator[Any]:
        yield from (block[:, ::-1] for block in blocks(self))

    patch.setattr(Rendering, "blocks", flipped)


def the_chain_of_manifests_stands_still(patch: Patch) -> None:
    patch.setattr(Recordings, "_advance", lambda _self, _link: None)


def commits_are_rare(patch: Patch) -> None:
    patch.setattr(RecorderSettings, "__post_init__", lambda _self: None)
    defaults = list(RecorderSettings.__init__.__defaults__ or ())
    defaults[list(RecorderSettings.__dataclass_fields__).index("commit_interval_s") - 3] = 3.0
    patch.setattr(RecorderSettings.__init__, "__defaults__", tuple(defaults))


def what_is_sealed_stays_plain(patch: Patch) -> None:
    class Plain:
        def encrypt(self, _nonce: bytes, data: bytes, _associated: bytes) -> bytes:
            return data + bytes(16)

    session_cipher = envelope.session_cipher
    patch.setattr(
        recording,
        "session_cipher",
        lambda key, kind, *names: Plain() if kind == "track" else session_cipher(key, kind, *names),
    )


def calls_are_not_forgotten(patch: Patch) -> None:
    patch.setattr(TrunkCalls, "forget", lambda _self, _call: None)


def work_never_ends(patch: Patch) -> None:
    patch.setattr(contacts.Contacts, "start_timer", lambda _self, _owner, _name, _at: None)


def times_are_late(patch: Patch) -> None:
    feed = contacts.Contacts.feed

    def late(self: Any, contact_id: str, event: Any) -> None:
        feed(self, contact_id, replace(event, at=event.at + 0.05))

    patch.setattr(contacts.Contacts, "feed", late)


def whoever_asks_twice_is_served(patch: Patch) -> None:
    patch.setattr(contact, "_ASKED", ())


def the_last_caller_is_first(patch: Patch) -> None:
    join = Queues.join
    patch.setattr(
        Queues, "join", lambda self, queue, contact_id, arrived_at: join(self, queue, contact_id, -arrived_at)
    )


def a_stage_of_the_tick_fails(patch: Patch) -> None:
    def fails(_self: Any, *_arguments: Any) -> None:
        raise ZeroDivisionError

    patch.setattr(Loudness, "measure_heard", fails)


def the_relay_hangs_up_on_hold(patch: Patch) -> None:
    table = dict(contact.ACTIONS)
    table[state.Stage.TALKING, state.Input.HELD] = (contact._end_customer,)
    patch.setattr(contact, "ACTIONS", table)


def delivery_forgets_the_log(patch: Patch) -> None:
    finished = Recordings.finished

    def without_log(self: Any, contact_id: str) -> Any:
        made = finished(self, contact_id)
        return replace(made, objects=tuple(each for each in made.objects if not each.name.startswith("log-")))

    patch.setattr(Recordings, "finished", without_log)


def the_scribe_swallows_the_last_pass(patch: Patch) -> None:
    step = scribe.Scribe.step

    def idle(self: Any) -> None:
        if self._clock() < 1004.3:
            step(self)

    patch.setattr(scribe.Scribe, "step", idle)


def ticks_are_mixed_twice(patch: Patch) -> None:
    tick = Plane.tick

    def twice(self: Any, now: float) -> Any:
        events = tick(self, now)
        if self.tick_number % 50 == 49:
            self.stages.transmission.send()
        return events

    patch.setattr(Plane, "tick", twice)


Sabotage = Callable[[Patch], None]
SABOTAGES: list[tuple[Sabotage, Script, str]] = [
    (hold_is_not_obeyed, ONE_CALL, "nobody_hears_whom_he_must_not"),
    (mute_is_not_obeyed, ONE_CALL, "nobody_hears_whom_he_must_not"),
    (everybody_hears_himself, ONE_CALL, "nobody_hears_whom_he_must_not"),
    (a_leak_of_a_tenth, ONE_CALL, "nobody_hears_whom_he_must_not"),
    (everybody_hears_himself, LOSSY, "nobody_hears_whom_he_must_not"),
    (calls_hear_one_another, CROWD, "nobody_hears_whom_he_must_not"),
    (nobody_hears_anybody, ONE_CALL, "each_hears_all_he_should"),
    (nobody_hears_anybody, LOSSY, "each_hears_all_he_should"),
    (nobody_hears_anybody, HOSTILE, "each_hears_all_he_should"),
    (no_music, ONE_CALL, "each_hears_all_he_should"),
    (the_muted_agents_caller_gets_no_packets, ONE_CALL, "packets_are_sent_to_those_on_a_call_and_to_nobody_else"),
    (sound_waits, ONE_CALL, "nothing_heard_is_old"),
    (sound_waits, ONE_CALL, "what_is_recorded_is_the_right_voice"),
    (timestamps_stand_still, ONE_CALL, "streams_go_on"),
    (ticks_are_mixed_twice, ONE_CALL, "packets_are_sent_to_those_on_a_call_and_to_nobody_else"),
    (gates_ignore_hold, ONE_CALL, "tracks_are_what_the_story_says"),
    (gates_ignore_hold, ONE_CALL, "every_tick_is_captured_while_the_gate_is_open"),
    (the_tap_ignores_gates, ONE_CALL, "every_tick_is_captured_while_the_gate_is_open"),
    (the_tap_ignores_gates, ONE_CALL, "nothing_failed_within"),
    (tap_and_recorder_ignore_gates, ONE_CALL, "every_call_is_delivered_and_proves_itself"),
    (tracks_are_swapped, ONE_CALL, "what_is_recorded_is_the_right_voice"),
    (tracks_are_swapped, LOSSY.with_(recorded=("agent", "customer")), "what_is_recorded_is_the_right_voice"),
    (the_recorder_forgets_a_chunk, ONE_CALL, "every_captured_tick_is_in_one_chunk_or_one_stated_gap"),
    (the_recorder_forgets_a_chunk, ONE_CALL, "every_call_is_delivered_and_proves_itself"),
    (the_recorder_alters_a_byte, ONE_CALL, "every_captured_tick_is_in_one_chunk_or_one_stated_gap"),
    (the_rendering_mixes_up_its_sides, ONE_CALL, "the_rendering_holds_each_voice_on_its_side"),
    (the_chain_of_manifests_stands_still, TWO_CALLS, "every_call_is_delivered_and_proves_itself"),
    (delivery_forgets_the_log, ONE_CALL, "every_call_is_delivered_and_proves_itself"),
    (the_scribe_swallows_the_last_pass, ONE_CALL, "every_call_is_delivered_and_proves_itself"),
    (the_scribe_swallows_the_last_pass, ONE_CALL, "nothing_is_left_over"),
    (commits_are_rare, KILLED, "every_captured_tick_is_in_one_chunk_or_one_stated_gap"),
    (what_is_sealed_stays_plain, ONE_CALL, "no_plaintext_is_at_rest"),
    (calls_are_not_forgotten, ONE_CALL, "nothing_is_left_over"),
    (work_never_ends, ONE_CALL.with_(agents=(AgentPlan("alice", completes_after_s=None),)), "nothing_is_left_over"),
    (times_are_late, ONE_CALL, "contact_records_tell_the_story"),
    (whoever_asks_twice_is_served, ONE_CALL.with_(acts=(*ONE_CALL.acts, act(2.1, "hold", "alice"))), "the_relay_answers_as_the_story_demands"),
    (the_last_caller_is_first, THREE_CALLS, "the_relay_answers_as_the_story_demands"),
    (the_relay_hangs_up_on_hold, ONE_CALL, "the_relay_answers_as_the_story_demands"),
    (a_stage_of_the_tick_fails, ONE_CALL, "nothing_failed_within"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "script", "checker"), SABOTAGES, ids=[f"{each.__name__} - {name}" for each, _, name in SABOTAGES]
)
def test_the_checker_sees_it(sabotage: Sabotage, script: Script, checker: str, monkeypatch: Patch) -> None:
    sabotage(monkeypatch)
    assert checker in found(script)


def test_every_checker_was_seen_to_find_something() -> None:
    assert {name for _, _, name in SABOTAGES} == {checker.__name__ for checker in CHECKERS}
