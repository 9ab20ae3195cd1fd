"""All that must hold of every run, whatever the script: each checker gives sentences about what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.simulation import hearing_checks, record_checks, recording_checks
from tests.simulation.evidence import Run
from tests.simulation.world import World

Checker = Callable[[Run], Iterator[str]]

CHECKERS: tuple[Checker, ...] = (
    record_checks.the_relay_answers_as_the_story_demands,
    hearing_checks.packets_are_sent_to_those_on_a_call_and_to_nobody_else,
    hearing_checks.streams_go_on,
    hearing_checks.nobody_hears_whom_he_must_not,
    hearing_checks.each_hears_all_he_should,
    hearing_checks.nothing_heard_is_old,
    recording_checks.every_call_is_delivered_and_proves_itself,
    recording_checks.tracks_are_what_the_story_says,
    recording_checks.every_tick_is_captured_while_the_gate_is_open,
    recording_checks.every_captured_tick_is_in_one_chunk_or_one_stated_gap,
    recording_checks.what_is_recorded_is_the_right_voice,
    recording_checks.the_rendering_holds_each_voice_on_its_side,
    record_checks.contact_records_tell_the_story,
    record_checks.nothing_is_left_over,
    record_checks.nothing_failed_within,
    record_checks.no_plaintext_is_at_rest,
)


KILL_COST = "kill_cost_ms_max"
"""What kills cost a track at worst."""


def check(world: World) -> dict[str, list[str]]:
    """What is wrong with a finished run, by checker; empty: nothing."""
    run = Run(world)
    found = {checker.__name__: list(checker(run)) for checker in CHECKERS}
    return {name: sentences for name, sentences in found.items() if sentences}


def counted(world: World) -> dict[str, int]:
    """How much there was to judge: a run in which nothing happened proves nothing."""
    run = Run(world)
    recorded = recording_checks.recordings(run).all
    tracks = [(each, track) for each in recorded for track in each.tracks.values()]
    return {
        "calls": len(world.story.talks),
        "conversations": sum(talk.joined is not None for talk in world.story.talks),
        "packets_heard": sum(len(phone.overheard) for phone in world.phones.values()),
        "ticks_recorded": sum(len(track.stored) for _, track in tracks),
        "kills": len(world.story.kills),
        "requests": world.story.requests,
        KILL_COST: max(
            (20 * len(track.open_ticks - track.stored.keys()) for each, track in tracks if each.cut), default=0
        ),
    }
