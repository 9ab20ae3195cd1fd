"""What was recorded: against the story, against what the tick captured, and against what is said in it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from recorder.archive import manifest_keys, open_contact
from recorder.capture import Frames
from recorder.chain import verify_instance
from recorder.errors import RecorderError
from recorder.manifest import Manifest, TrackEntry
from recorder.playback import Rendering
from recorder.verification import Verification
from recorder.verify import verify_contact
from relay.evidence import replayed
from signaling.contact.events import ContactStarted
from tests.recorder.world import KEY_SERVICE, SIGNER, stored_frames
from tests.simulation import tones
from tests.simulation.evidence import Run, Spectra
from tests.simulation.hearing_checks import HEARD, limits_of, run_times, too_old
from tests.simulation.phone import Phone
from tests.simulation.story import Talk

POSITIONS = 960
LOSS_TICKS_MAX = 50
"""One second a track: what a kill may cost."""
_CAPTURED_LOSS_TICKS_MAX = 25
"""What a kill may find in the tap, not yet handed over."""
_EXPLAINED_BY_FAULTS = {"crash", "disk", "store", "overflow"}


@dataclass(slots=True)
class Track:
    """What the story says that one side's track holds, and what is there."""

    talk: Talk
    role: str
    phone: Phone
    first: int
    end: int
    withheld: list[tuple[int, int, str]]
    captured: dict[int, bytes] = field(default_factory=dict)
    made_up: set[int] = field(default_factory=set)
    """Ticks that the jitter buffer concealed, or could not."""
    stored: dict[int, bytes] = field(default_factory=dict)
    entry: TrackEntry | None = None

    @property
    def open_ticks(self) -> set[int]:
        """At which ticks the story has its gate open."""
        closed = {tick for first, end, _ in self.withheld for tick in range(first, end)}
        return set(range(self.first, self.end)) - closed

    @property
    def track_id(self) -> str:
        """The caller's is `customer`; agents are numbered in the order in which the contact was offered to them."""
        if self.role == "other":
            return "customer"
        accepted = next(
            i for i, offer in enumerate(self.talk.offers, 1) if offer.agent == self.phone.name and offer.taken
        )
        return f"agent-{accepted}"

    @property
    def name(self) -> str:
        return f"the {self.role} track of {self.talk.caller}'s call"


@dataclass(slots=True)
class Recorded:
    """One call's recording: what is expected, and what was delivered. Ticks are those of the relay's life."""

    talk: Talk
    start: int
    end: int
    tracks: dict[str, Track]
    cut: bool
    """Whether a kill came before its end, or before its end was durable."""
    verification: Verification | None = None

    @property
    def manifest(self) -> Manifest | None:
        return self.verification.manifest if self.verification else None


class Recordings:
    """All that was recorded in a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.bucket = run.world.bucket
        self.delivered = {key.split("/")[-2] for key in manifest_keys(self.bucket)}
        self.contacts = {talk.contact_id: talk for talk in run.world.story.talks if talk.contact_id}
        for log in run.world.kept.logged.values():
            self._name(log[0].event)

    def _name(self, started: object) -> None:
        """A call that rang nowhere is known by who began it, and when."""
        if isinstance(started, ContactStarted) and started.contact_id not in self.contacts:
            for talk in self.run.world.story.talks:
                number = self.run.world.callers[talk.caller].number
                if talk.contact_id is None and (number, talk.initiated) == (started.customer_number, started.at):
                    talk.contact_id = started.contact_id
                    self.contacts[started.contact_id] = talk

    @functools.cached_property
    def all(self) -> list[Recorded]:
        """One for each call of a queue that records."""
        if not self.run.script.recorded:
            return []
        return [self._recorded(talk) for talk in self.run.world.story.talks]

    def _recorded(self, talk: Talk) -> Recorded:
        ticks = self.run.ticks[talk.life]
        assert talk.over is not None
        start, end = ticks.after(talk.initiated), ticks.after(talk.over)
        recorded = Recorded(talk, start, end, self._tracks(talk), self._cut(talk))
        if talk.contact_id in self.delivered:
            assert talk.contact_id is not None
            checked = verify_contact(self.bucket, talk.contact_id, SIGNER.public_key, KEY_SERVICE)
            recorded.verification = replayed(checked)
            self._read(recorded, talk.contact_id)
        return recorded

    def _cut(self, talk: Talk) -> bool:
        assert talk.over is not None
        return any(life == talk.life and at < talk.over + 1.0 for life, at in self.run.world.story.kills)

    def _tracks(self, talk: Talk) -> dict[str, Track]:
        """By the peer that is recorded: an agent comes to a call at most once."""
        lives: dict[str, list[tuple[int, int, str | None]]] = {}
        for each in self.run.segments(talk):
            for side in (each.segment.caller, each.segment.agent):
                if side is not None and side.rule != "G1":
                    lives.setdefault(side.name, []).append((each.first, each.end, side.rule))
        tracks = {}
        for name, rules in lives.items():
            withheld = _joined([(first, end, rule) for first, end, rule in rules if rule is not None])
            role = "other" if name == talk.caller else "agent"
            track = tracks[name] = Track(talk, role, self.run.world.phones[name], rules[0][0], rules[-1][1], withheld)
            self._captured(track)
        return tracks

    def _captured(self, track: Track) -> None:
        talk = track.talk
        for life, value in self.run.world.kept.captured:
            if not isinstance(value, Frames):
                continue
            if (life, value.contact_id, value.track_id) == (talk.life, talk.contact_id, track.track_id):
                size = len(value.payload) // value.ticks
                for n in range(value.ticks):
                    tick = value.first_tick + n
                    assert tick not in track.captured, "a tick is captured once"
                    track.captured[tick] = value.payload[n * size : (n + 1) * size]
                for first, end in (*value.concealed, *value.lost):
                    track.made_up |= set(range(value.first_tick + first, value.first_tick + end))

    def _read(self, recorded: Recorded, contact_id: str) -> None:
        manifest = recorded.manifest
        if manifest is None:
            return
        try:
            frames = stored_frames(self.bucket, contact_id)
        except RecorderError:
            return  # verification says more about it
        for entry in manifest.tracks:
            for track in recorded.tracks.values():
                if track.track_id != entry.track_id:
                    continue
                track.entry = entry
                track.stored = {recorded.start + tick: data for tick, data in frames.get(entry.track_id, {}).items()}


def every_call_is_delivered_and_proves_itself(run: Run) -> Iterator[str]:
    """Levels 1 to 3 of each, the chain of all, and nothing that nobody called."""
    found = recordings(run)
    for each in found.all:
        if each.verification is None:
            if not (each.cut and each.end - each.start <= LOSS_TICKS_MAX):
                yield f"{each.talk.caller}'s call of life {each.talk.life} was not delivered"
        elif not each.verification.verified or each.verification.level != 3:
            yield f"{each.talk.caller}'s recording does not verify: {each.verification.findings[:3]}"
    for contact_id in found.delivered - {each.talk.contact_id for each in found.all}:
        yield f"contact {contact_id} was delivered, and nobody called"
    for finding in verify_instance(run.world.bucket, SIGNER.public_key):
        yield f"the chain of manifests is broken: {finding}"


def tracks_are_what_the_story_says(run: Run) -> Iterator[str]:
    """Begin, end and every withheld range, to the tick; after a kill, as far as anything was durable."""
    for each in recordings(run).all:
        manifest = each.manifest
        if manifest is None:
            continue
        if each.cut:
            yield from _cut_short(each, manifest)
            continue
        if (manifest.ended.how, manifest.ended.position) != ("closed", (each.end - each.start) * POSITIONS):
            yield f"{each.talk.caller}'s recording ended {manifest.ended}, the call at tick {each.end - each.start}"
        roles = sorted((entry.role, entry.track_id) for entry in manifest.tracks if entry.expected)
        if roles != sorted((track.role, track.track_id) for track in each.tracks.values()):
            yield f"{each.talk.caller}'s recording has tracks {roles}"
        for track in each.tracks.values():
            yield from _differs(each, track)


def _differs(each: Recorded, track: Track) -> Iterator[str]:
    entry = track.entry
    if entry is None:
        return
    said = (track.first, track.end, track.withheld)
    gaps = [(each.start + gap.first // POSITIONS, each.start + gap.end // POSITIONS, gap.rule) for gap in entry.gaps]
    found = (
        each.start + entry.first // POSITIONS,
        each.start + entry.end // POSITIONS,
        _joined([(first, end, rule) for first, end, rule in gaps if rule is not None]),
    )
    if said != found:
        yield f"{track.name} is {found}, the story says {said}"


def _cut_short(each: Recorded, manifest: Manifest) -> Iterator[str]:
    """At most a second of each track is gone, and only from its end."""
    for track in each.tracks.values():
        entry = track.entry
        end = each.start + (entry.end // POSITIONS if entry else 0)
        if entry is None:
            continue
        first = each.start + entry.first // POSITIONS
        withheld = [(one, min(two, end), rule) for one, two, rule in track.withheld if one < end]
        gaps = [
            (each.start + gap.first // POSITIONS, each.start + gap.end // POSITIONS, gap.rule) for gap in entry.gaps
        ]
        found = _joined([(one, two, rule) for one, two, rule in gaps if rule is not None])
        if first != track.first or found != withheld:
            yield f"{track.name} begins at {first} and withholds {found}, the story says {track.first} and {withheld}"
    if manifest.ended.how not in {"closed", "found open after a crash"}:
        yield f"{each.talk.caller}'s recording ended {manifest.ended.how}, and the relay was killed"


def every_tick_is_captured_while_the_gate_is_open(run: Run) -> Iterator[str]:
    """What goes from tick to recorder: one frame for each tick of an open gate, none for a closed one."""
    for each in recordings(run).all:
        for track in each.tracks.values():
            unasked, missing = track.captured.keys() - track.open_ticks, track.open_ticks - track.captured.keys()
            if unasked:
                yield f"{track.name}: {len(unasked)} ticks were captured behind a closed gate, from {min(unasked)} on"
            if each.cut:
                missing = {tick for tick in missing if tick < track.end - _CAPTURED_LOSS_TICKS_MAX}
            if missing:
                yield f"{track.name}: {len(missing)} ticks were not captured, from {min(missing)} on"


def every_captured_tick_is_in_one_chunk_or_one_stated_gap(run: Run) -> Iterator[str]:
    """What goes from recorder to store: the same bytes at the same place, or a reason."""
    for each in recordings(run).all:
        for track in each.tracks.values():
            if track.entry is None:
                continue
            wrong = [tick for tick, data in track.stored.items() if track.captured.get(tick) != data]
            if wrong:
                yield f"{track.name}: {len(wrong)} ticks were stored otherwise than captured, from {min(wrong)} on"
            stated = {
                each.start + tick
                for gap in track.entry.gaps
                if gap.rule is None and gap.reason in _EXPLAINED_BY_FAULTS
                for tick in range(gap.first // POSITIONS, gap.end // POSITIONS)
            }
            lost = track.captured.keys() - track.stored.keys() - stated
            end = each.start + track.entry.end // POSITIONS if each.cut else track.end
            silent = {tick for tick in lost if tick < end}
            if silent:
                yield f"{track.name}: {len(silent)} captured ticks are gone, and nothing says why, from {min(silent)} on"
            yield from _lost_too_much(run, each, track, stated)


def _lost_too_much(run: Run, each: Recorded, track: Track, stated: set[int]) -> Iterator[str]:
    if each.cut:
        lost = track.open_ticks - track.stored.keys()
        early = {tick for tick in lost if tick < track.end - LOSS_TICKS_MAX}
        if early:
            yield f"{track.name}: the kill at tick {track.end} cost ticks {min(early)} to {max(early)}"
    elif stated and not any(act.does == "disk_full" for act in run.script.acts):
        yield f"{track.name} states gaps, and nothing was wrong"


def what_is_recorded_is_the_right_voice(run: Run) -> Iterator[str]:
    """Each frame of a track is its participant's, said shortly before; G.711 of a good network comes to the byte."""
    for each in recordings(run).all:
        for track in each.tracks.values():
            if track.stored:
                yield from _wrong_voice(run, track)
                yield from _wrong_bytes(run, track)


def _wrong_voice(run: Run, track: Track) -> Iterator[str]:
    ordered = sorted(track.stored)
    encoding = run.encoding(track.phone)
    spectra = Spectra.of(ordered, _sound([track.stored[tick] for tick in ordered], encoding))
    times = run_times(run, track.talk.life, spectra.ticks)
    real = np.array([tick not in track.made_up for tick in ordered])
    begun = run.ticks[track.talk.life].time.get(track.first, times[0])
    settled = times > begun + run.settling(track.phone)
    must = real & settled & run.undisturbed(track.phone, times)
    unheard = np.flatnonzero(must & (spectra.voice(track.phone) < HEARD))
    tolerance = 0.0 if run.clean else 0.06 if encoding == "opus" else 0.03
    if unheard.size > tolerance * np.count_nonzero(must):
        yield f"{track.name}: its voice is not in {unheard.size} ticks, from {ordered[unheard[0]]} on"
    limits = limits_of(run, encoding, track.phone.name, np.where(settled, times, -np.inf))
    for name, phone in run.world.phones.items():
        if phone is not track.phone:
            loud = np.flatnonzero(spectra.voice(phone) > limits.tick)
            if loud.size:
                yield f"{track.name}: {name} is in {loud.size} ticks, from {ordered[loud[0]]} on"
            if spectra.voice(phone).mean() > limits.mean.max():
                yield f"{track.name}: {name} is in it faintly"
    yield from too_old(run, f"what {track.name} holds", track.phone.name, spectra, times, must)


def _wrong_bytes(run: Run, track: Track) -> Iterator[str]:
    """Exact but for the first frames after silence, concealment or a skip of the jitter buffer, which are blended."""
    encoding = run.encoding(track.phone)
    if encoding == "opus" or not run.clean or track.phone.disturbed:
        return
    said = set(tones.payloads(track.phone.hertz, encoding))
    other = [tick for tick, data in track.stored.items() if data not in said and tick not in track.made_up]
    begins = len(track.phone.spoken) + sum(1 for tick in track.made_up if tick + 1 not in track.made_up)
    if len(other) > begins + 2:
        yield f"{track.name}: {len(other)} ticks are not what was sent, from {min(other)} on"


def the_rendering_holds_each_voice_on_its_side(run: Run) -> Iterator[str]:
    """The stereo sound that a person plays: agent right, caller left, exact silence where a rule withheld."""
    found = recordings(run)
    for each in found.all:
        if each.manifest is None or not each.manifest.tracks or each.verification is None:
            continue
        assert each.talk.contact_id is not None
        try:
            contact = open_contact(found.bucket, each.talk.contact_id, SIGNER.public_key, KEY_SERVICE)
            rendering = Rendering(found.bucket, contact)
            sound = np.concatenate([*rendering.blocks()] or [np.zeros((0, 2), np.int16)])
        except RecorderError as error:
            yield f"{each.talk.caller}'s recording cannot be rendered: {error}"
            continue
        begin = each.start + rendering.span.first // POSITIONS
        for track in each.tracks.values():
            narrow = sound[:: rendering.rate // 8000, 1 if track.role == "agent" else 0]
            yield from _wrong_side(run, track, narrow, begin)


def _wrong_side(run: Run, track: Track, samples: np.ndarray, begin: int) -> Iterator[str]:
    frames = samples[: samples.size // tones.FRAME * tones.FRAME].astype(np.float64).reshape(-1, tones.FRAME)
    if not len(frames):
        return
    ticks = np.arange(begin, begin + len(frames))
    stored = np.array([tick in track.stored and tick not in track.made_up for tick in ticks.tolist()])
    absent = np.array([tick not in track.stored for tick in ticks.tolist()])
    if np.abs(frames[absent]).max(initial=0.0) > 0:
        yield f"{track.name}: the rendering is not silent where nothing was recorded"
    spectra = Spectra.of(ticks.tolist(), frames)
    times = run_times(run, track.talk.life, spectra.ticks)
    settled = times > times[0] + run.settling(track.phone)
    must = stored & settled & run.undisturbed(track.phone, times)
    unheard = np.count_nonzero(must & (spectra.voice(track.phone) < HEARD))
    if unheard > (0 if run.clean else 0.2 * np.count_nonzero(must)):
        yield f"{track.name}: the rendering lacks its voice in {unheard} ticks"


_CACHE: dict[int, tuple[Run, Recordings]] = {}


def recordings(run: Run) -> Recordings:
    """Read once for all checkers."""
    if id(run) not in _CACHE:
        _CACHE.clear()
        _CACHE[id(run)] = run, Recordings(run)
    return _CACHE[id(run)][1]


def _sound(frames: list[bytes], encoding: str) -> tones.Sound:
    if encoding == "opus":
        return tones.narrowed(np.frombuffer(b"".join(frames), "<i2"))
    return tones.decoded(frames, "PCMU" if encoding == "PCMU" else "PCMA")


def _joined(ranges: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    joined: list[tuple[int, int, str]] = []
    for first, end, rule in ranges:
        if joined and joined[-1][1:] == (first, rule):
            joined[-1] = (joined[-1][0], end, rule)
        elif first < end:
            joined.append((first, end, rule))
    return joined
