"""Who heard whom, at every tick: judged by the tones in what the relay sent, before any link could lose it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from tests.simulation import tones
from tests.simulation.evidence import Placed, Run, Spectra
from tests.simulation.phone import Overheard, Phone
from tests.simulation.story import MUSIC, RINGBACK

HEARD: Final = 3000.0
"""Of a voice of 7,000."""
LEAK_TICK: Final = {"PCMU": 1400.0, "PCMA": 1400.0, "opus": 2200.0}
"""In one frame: other sounds' edges splatter less, even through Opus."""
LEAK_MEAN: Final = {"PCMU": 700.0, "PCMA": 700.0, "opus": 1200.0}
"""Over 100 ms."""
ROUGH_TICK: Final = 5000.0
ROUGH_MEAN: Final = 2500.0
"""The same beside a voice of which packets were lost: made-up sound splatters."""
SILENT: Final = 150.0
"""Root mean square of silence that went through Opus."""
_WINDOW: Final = 5
_UNBROKEN: Final = np.ones(_WINDOW) / _WINDOW

Bools = npt.NDArray[np.bool_]


def packets_are_sent_to_those_on_a_call_and_to_nobody_else(run: Run) -> Iterator[str]:
    """Exactly one packet a tick from the moment a side is connected until the end; the end may fade over one tick."""
    for name, phone in run.world.phones.items():
        due: dict[tuple[int, int], bool] = {}
        for each in _segments(run, name):
            due |= {(each.talk.life, tick): True for tick in run.ticks[each.talk.life].done(each.first, each.end)}
            due.setdefault((each.talk.life, each.end), False)
        for talk in run.world.story.talks:
            for presence in talk.presences:  # one shorter than a tick has no segment, but may fade out
                if presence.agent == name and presence.end is not None:
                    due.setdefault((talk.life, run.ticks[talk.life].after(presence.end)), False)
        sent = [(each.life, each.tick) for each in phone.overheard]
        if len(set(sent)) != len(sent):
            yield f"{name} was sent two packets in a tick"
        yield from _differences(name, "no packet", {at for at, must in due.items() if must} - set(sent))
        yield from _differences(name, "a packet", set(sent) - due.keys())


def streams_go_on(run: Run) -> Iterator[str]:
    """RFC 3550 §5.1: sequence numbers have no holes, timestamps follow the ticks, and every packet opens."""
    for name, phone in run.world.phones.items():
        if phone.forged:
            yield f"{name} was sent {phone.forged} packets that its key does not open"
        for before, after in pairwise(phone.overheard):
            if (before.life, before.connection) == (after.life, after.connection):
                yield from _broken(name, phone, before, after)
    if run.world.wire.astray:
        yield f"{len(run.world.wire.astray)} datagrams were sent to addresses of nobody"


def _broken(name: str, phone: Phone, before: Overheard, after: Overheard) -> Iterator[str]:
    connection = phone.connections[after.connection]
    clock = 960 if connection.encoding == "opus" else 160
    if (after.sequence - before.sequence) & 0xFFFF != 1:
        yield f"{name}: sequence number {before.sequence} is followed by {after.sequence} at tick {after.tick}"
    if (after.timestamp - before.timestamp) & 0xFFFFFFFF != (after.tick - before.tick) * clock:
        yield f"{name}: the timestamp does not follow the clock at tick {after.tick}"
    if after.payload_type != connection.payload_type:
        yield f"{name} was sent payload type {after.payload_type} at tick {after.tick}"


def nobody_hears_whom_he_must_not(run: Run) -> Iterator[str]:
    """A voice in a tick for which the story does not allow it, or a faint one over 100 ms."""
    for name, parts in run.listened.items():
        for life, spectra in parts:
            allowed = {other: _allowed(run, name, life, spectra, other) for other in run.world.phones}
            limits = _limits(run, name, life, spectra, allowed)
            for other, phone in run.world.phones.items():
                yield from _leaks(f"{name} hears {other}, and must not,", spectra, phone, ~allowed[other], limits)
            yield from _sounds_in_silence(run, name, life, spectra)


def _allowed(run: Run, listener: str, life: int, spectra: Spectra, speaker: str) -> Bools:
    """In which frames a voice may be; a change fades over one tick, and Opus hears a little of the tick before."""
    allowed = np.zeros(spectra.ticks.size, np.bool_)
    for each in _segments(run, listener):
        if each.talk.life == life and _heard(each, listener) == speaker:
            allowed |= (spectra.ticks >= each.first) & (spectra.ticks <= _faded(run, listener, life, each.end))
    return allowed


def _faded(run: Run, listener: str, life: int, tick: int) -> int:
    """The last tick in which what ended at `tick` may be heard: Opus keeps some of a frame for its next."""
    if run.encoding(run.world.phones[listener]) != "opus":
        return tick
    return next(iter(run.ticks[life].done(tick + 1, run.ticks[life].next)), tick)


@dataclass(frozen=True, slots=True)
class Limits:
    """From which amplitude on a voice counts, frame by frame: in that frame alone, and over 100 ms."""

    tick: tones.Sound
    mean: tones.Sound


def limits_of(run: Run, listener: str, speaker: str, times: npt.NDArray[np.float64]) -> Limits:
    """What a voice that may be heard leaves room for beside it."""
    phone = run.world.phones[speaker]
    encoding = run.encoding(phone)
    rough = ~run.undisturbed(phone, times) if run.clean else np.ones(times.size, np.bool_)
    tick = np.where(rough, ROUGH_TICK, max(LEAK_TICK[encoding], LEAK_TICK[listener]))
    mean = np.where(rough, ROUGH_MEAN, max(LEAK_MEAN[encoding], LEAK_MEAN[listener]))
    return Limits(tick, mean)


def _limits(run: Run, name: str, life: int, spectra: Spectra, allowed: dict[str, Bools]) -> Limits:
    encoding = run.encoding(run.world.phones[name])
    limits = Limits(np.full(spectra.ticks.size, LEAK_TICK[encoding]), np.full(spectra.ticks.size, LEAK_MEAN[encoding]))
    times = run_times(run, life, spectra.ticks)
    for other, frames in allowed.items():
        beside = limits_of(run, encoding, other, _settled(run, life, other, times))
        limits.tick[frames] = np.maximum(limits.tick, beside.tick)[frames]
        limits.mean[frames] = np.maximum(limits.mean, beside.mean)[frames]
    return limits


def _settled(run: Run, life: int, speaker: str, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The times, without those right after somebody began to listen to the speaker."""
    settled = times.copy()
    phone = run.world.phones[speaker]
    for each in _segments(run, speaker):
        begun = run.ticks[life].time.get(each.first)
        if each.talk.life == life and begun is not None:
            settled[(times >= begun) & (times < begun + run.settling(phone))] = -np.inf
    return settled


def _leaks(what: str, spectra: Spectra, phone: Phone, forbidden: Bools, limits: Limits) -> Iterator[str]:
    voice = spectra.voice(phone)
    loud = np.flatnonzero(forbidden & (voice > limits.tick))
    if loud.size:
        yield f"{what} in {loud.size} ticks from {spectra.ticks[loud[0]]} on (amplitude {voice[loud].max():.0f})"
    elif voice.size >= _WINDOW:
        mean, limit = (np.convolve(each, _UNBROKEN, "valid") for each in (voice, limits.mean))
        whole = np.convolve(forbidden, _UNBROKEN, "valid") > 0.99
        faint = np.flatnonzero(whole & (mean > limit))
        if faint.size:
            yield f"{what} faintly, around tick {spectra.ticks[faint[0]]} (amplitude {mean[faint].max():.0f})"


def _sounds_in_silence(run: Run, name: str, life: int, spectra: Spectra) -> Iterator[str]:
    """Where nothing is to be heard nothing is: no music, no noise."""
    loudness = spectra.loudness
    for each in _segments(run, name):
        if each.talk.life == life and _heard(each, name) is None:
            quiet = (spectra.ticks > _faded(run, name, life, each.first)) & (spectra.ticks < each.end)
            loud = np.flatnonzero(quiet & (loudness > SILENT))
            if loud.size:
                yield f"{name} hears something at tick {spectra.ticks[loud[0]]}, where there is nothing to hear"


def each_hears_all_he_should(run: Run) -> Iterator[str]:
    """The other side while both talk, the relay's music while waiting or on hold."""
    for name, parts in run.listened.items():
        for life, spectra in parts:
            for each in _segments(run, name):
                if each.talk.life == life and (speaker := _heard(each, name)) is not None:
                    yield from _missing(run, name, speaker, each, spectra)


def _missing(run: Run, name: str, speaker: str, each: Placed, spectra: Spectra) -> Iterator[str]:
    within = (spectra.ticks > each.first) & (spectra.ticks < each.end)
    if speaker in (MUSIC, RINGBACK):
        yield from _no_music(name, speaker, spectra.ticks[within], spectra.sound[within], each)
        return
    phone = run.world.phones[speaker]
    times = run_times(run, each.talk.life, spectra.ticks)
    settled = times > times[np.searchsorted(spectra.ticks, each.first)] + run.settling(phone)
    must = within & settled & run.undisturbed(phone, times) & run.undisturbed(run.world.phones[name], times)
    unheard = np.flatnonzero(must & (spectra.voice(phone) < HEARD))
    media = run.script.media
    tolerance = 0.0 if run.clean else 0.06 + 3 * media.loss + (0.1 if media.bursts else 0.0)
    if unheard.size > tolerance * np.count_nonzero(must):
        yield (
            f"{name} does not hear {speaker} in {unheard.size} of {np.count_nonzero(must)} ticks,"
            f" from {spectra.ticks[unheard[0]]} on"
        )


def _no_music(name: str, source: str, ticks: npt.NDArray[np.int64], sound: tones.Sound, each: Placed) -> Iterator[str]:
    starts = [i for i in range(0, ticks.size - _WINDOW + 1, _WINDOW) if ticks[i + _WINDOW - 1] - ticks[i] < _WINDOW]
    windows = [sound[i : i + _WINDOW] for i in starts]
    if source == MUSIC:
        if any(tones.amplitude(window, tones.MUSIC_HZ) < 900 for window in windows):
            yield f"{name} hears no music between ticks {each.first} and {each.end}"
    elif len(sound) > 260 and not any(tones.amplitude(window, tones.RINGBACK_HZ) > 3000 for window in windows):
        yield f"{name} hears no ringing between ticks {each.first} and {each.end}"


def nothing_heard_is_old(run: Run) -> Iterator[str]:
    """The code tones say when a frame was said: neither too long ago, nor (which they would also show) in the past."""
    for name, parts in run.listened.items():
        for life, spectra in parts:
            times = run_times(run, life, spectra.ticks)
            for each in _segments(run, name):
                speaker = _heard(each, name)
                if each.talk.life == life and speaker in run.world.phones:
                    within = (spectra.ticks > each.first + 1) & (spectra.ticks < each.end)
                    yield from too_old(run, f"what {name} hears of {speaker}", speaker, spectra, times, within)


def too_old(
    run: Run, what: str, speaker: str, spectra: Spectra, times: npt.NDArray[np.float64], within: Bools
) -> Iterator[str]:
    phone = run.world.phones[speaker]
    age = spectra.said_at(phone, times)
    judged = within & np.isfinite(age) & run.undisturbed(phone, times)
    blur = 0.021  # resamplers and coders lag by less than a frame
    wrong = np.flatnonzero(judged & ((age < run.script.media.delay_s - blur) | (age > run.age_max)))
    if wrong.size > (0 if run.clean else 0.02 * np.count_nonzero(judged)):
        ages = ", ".join(f"{1000 * age[i]:.0f}" for i in wrong[:5])
        yield f"{what} is {ages} ms old in {wrong.size} ticks from {spectra.ticks[wrong[0]]} on"


def run_times(run: Run, life: int, ticks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """When ticks took place; those that were passed over and caught up count as when they were due."""
    known = run.ticks[life].time
    origin = run.world.lives[life].ticks[0]
    return np.array([known.get(tick, origin[0] + 0.02 * (tick - origin[1])) for tick in ticks.tolist()])


def _segments(run: Run, name: str) -> Iterator[Placed]:
    """The segments in which a peer is connected."""
    for talk in run.world.story.talks:
        yield from (each for each in run.segments(talk) if each.segment.side(name) is not None)


def _heard(each: Placed, name: str) -> str | None:
    side = each.segment.side(name)
    return None if side is None else side.hears


def _differences(name: str, what: str, ticks: set[tuple[int, int]]) -> Iterator[str]:
    if ticks:
        life, tick = min(ticks)
        yield f"{name} was sent {what} in {len(ticks)} ticks, the first is tick {tick} of life {life}"
