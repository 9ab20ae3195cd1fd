"""The sums, in exact arithmetic: speakers are small whole numbers, and float32 adds those without error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.frame import RATES, SAMPLES_A_TICK
from mixer.matrix import Kind
from mixer.mix import Mixer
from mixer.sources import Source

ROWS_MAX = 12


def settled(mixer):
    """What is heard once the fades are over."""
    mixer.begin_tick()
    mixer.mix()
    return mixer


def say(mixer, values, rate=8000):
    for row, value in values.items():
        mixer.pcm[rate][row] = value


def n_minus_one(count):
    return 1 - np.eye(count)


def heard(mixer, row, rate=8000):
    return mixer.heard(rate, np.array([row]))[0]


@pytest.mark.parametrize("rate", RATES)
def test_three_hear_each_other_and_not_themselves(rate):
    mixer = Mixer(ROWS_MAX)
    for row in (4, 5, 9):
        mixer.set_rate(row, rate)
    mixer.set_conference("a", [4, 5, 9], [4, 5, 9], n_minus_one(3))
    say(mixer, {4: 100, 5: 20, 9: 3}, rate)
    settled(mixer)
    assert mixer.out[rate][[4, 5, 9]].tolist() == [[v] * SAMPLES_A_TICK[rate] for v in (23, 103, 120)]
    assert not mixer.pcm[rate][mixer.silence_row].any()


def test_every_sample_is_its_own():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0, 1, 2], [0, 1, 2], n_minus_one(3))
    for row, step in enumerate((1, 10, 100)):
        mixer.pcm[8000][row] = np.arange(160) * step
    settled(mixer)
    assert mixer.out[8000][0].tolist() == [110 * i for i in range(160)]
    assert mixer.out[8000][2].tolist() == [11 * i for i in range(160)]


def test_rates_meet_each_in_its_own_table():
    mixer = Mixer(ROWS_MAX)
    mixer.set_rate(1, 48000)
    mixer.set_conference("a", [0, 1, 2], [0, 1, 2], n_minus_one(3))
    say(mixer, {0: 100, 1: 20, 2: 3}, 8000)
    say(mixer, {0: 101, 1: 21, 2: 4}, 48000)
    settled(mixer)
    assert mixer.speakers_at(8000).tolist() == [0, 1, 2]
    assert mixer.speakers_at(48000).tolist() == [0, 2]
    assert mixer.out[8000][[0, 2], 7].tolist() == [23, 120]
    assert mixer.out[48000][1].tolist() == [105] * 960


def test_one_source_serves_many_conferences():
    mixer = Mixer(ROWS_MAX)
    for row in range(8):
        mixer.set_conference(row, [row], [11], [[1.0]])
    say(mixer, {11: 7})
    settled(mixer)
    assert (mixer.heard(8000, np.arange(8)) == 7).all()
    assert mixer.speakers_at(8000).tolist() == [11]
    assert (mixer.source[:8] == 11).all()


def test_a_voice_at_unity_is_exact_at_full_scale():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1], [[1.0]])
    mixer.pcm[8000][1] = np.linspace(-32768, 32767, 160).round()
    for _ in range(3):
        settled(mixer)
    assert (heard(mixer, 0) == mixer.pcm[8000][1]).all()


def test_gains_weigh_and_a_speaker_named_twice_counts_twice():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1, 2, 2], [[0.5, 0.25, 0.25]])
    say(mixer, {1: 100, 2: 30})
    settled(mixer)
    assert (mixer.out[8000][0] == 65).all()


def test_halves_round_to_even_and_do_not_drift():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1], [[0.5]])
    mixer.pcm[8000][1, :4] = [1, -1, 3, -3]
    settled(mixer)
    assert mixer.out[8000][0, :4].tolist() == [0, 0, 2, -2]


def test_who_hears_nobody_hears_silence():
    mixer = Mixer(ROWS_MAX)
    mixer.out[8000][0] = 99
    mixer.set_conference("a", [0, 1], [1], [[0.0], [0.0]])
    settled(mixer)
    assert not heard(mixer, 0).any()
    assert mixer.listeners_at(8000).tolist() == [0, 1]
    assert mixer.speakers_at(8000).size == 0
    assert mixer.kind[:2].tolist() == [Kind.SILENCE, Kind.SILENCE]


def test_a_join_fades_in_over_one_frame():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1], [[1.0]])
    say(mixer, {1: 1600})
    mixer.mix()
    assert mixer.out[8000][0].tolist() == [10 * (i + 1) for i in range(160)]
    settled(mixer)
    assert (heard(mixer, 0) == 1600).all()


def test_a_leave_fades_out_over_one_frame():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1], [[1.0]])
    say(mixer, {1: 1600})
    settled(mixer).begin_tick()
    mixer.drop_conference("a")
    mixer.mix()
    assert mixer.out[8000][0].tolist() == [1600 - 10 * (i + 1) for i in range(160)]


def test_a_change_fades_from_the_old_sum_to_the_new():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1, 2], [[1.0, 1.0]])
    say(mixer, {1: 1600, 2: 160, 3: 320})
    settled(mixer).begin_tick()
    mixer.set_conference("a", [0], [2, 3], [[1.0, 1.0]])
    mixer.mix()
    assert mixer.out[8000][0].tolist() == [1760 - 8 * (i + 1) for i in range(160)]
    assert (settled(mixer).out[8000][0] == 480).all()


def test_a_released_row_is_silent_at_once():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0, 1], [0, 1], n_minus_one(2))
    say(mixer, {0: 5, 1: 1000})
    settled(mixer).begin_tick()
    mixer.release_row(1)
    mixer.mix()
    assert not mixer.out[8000][0].any()


def test_loud_sums_are_limited_not_wrapped():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1, 2, 3], [[1.0, 1.0, 1.0]])
    tone = 30000 * np.sin(2 * np.pi * 400 / 8000 * np.arange(160))
    mixer.pcm[8000][1:4] = tone
    for _ in range(5):
        settled(mixer)
    out = mixer.out[8000][0].astype(float)
    assert 29000 < out.max() < 32767
    assert np.corrcoef(out, tone)[0, 1] > 0.9999


def test_overshoot_of_one_voice_is_clipped_not_wrapped():
    mixer = Mixer(ROWS_MAX)
    mixer.set_conference("a", [0], [1], [[1.0]])
    mixer.pcm[8000][1, :2] = [40000, -40000]
    settled(settled(mixer))
    assert heard(mixer, 0)[:2].tolist() == [32767, -32768]


def test_music_runs_on_through_the_mixer():
    mixer, music = Mixer(ROWS_MAX), Source("music")
    mixer.set_conference("a", [0], [1], [[1.0]])
    settled(mixer)
    frames = []
    for tick in range(410):
        mixer.pcm[8000][1] = music.frame(tick, 8000)
        frames.append(heard(settled(mixer), 0))
    assert (np.concatenate(frames[400:]) == music.loops[8000][:10].ravel()).all()


conferences = st.dictionaries(
    st.integers(0, 3),
    st.tuples(
        st.lists(st.integers(0, ROWS_MAX - 1), unique=True, max_size=6),
        st.lists(st.integers(0, ROWS_MAX - 1), unique=True, max_size=6),
        st.integers(0, 2**31),
    ),
)
GAINS = np.array([0.0, 0.0, 1.0, 1.0, 0.5, 2.0])
rates = st.lists(st.sampled_from(RATES), min_size=ROWS_MAX, max_size=ROWS_MAX)


class Oracle:
    """One dense matrix over all rows: what the batches must amount to."""

    def __init__(self):
        self.gains = np.zeros((ROWS_MAX, ROWS_MAX))
        self.owner = {}

    def set_conference(self, key, listeners, speakers, gains):
        for row in [row for row in self.owner if self.owner[row] == key] + list(listeners):
            self.owner.pop(row, None)
            self.gains[row] = 0
        for row, heard in zip(listeners, gains, strict=True):
            self.owner[row] = key
            self.gains[row, speakers] = heard

    def release_row(self, row):
        self.owner.pop(row, None)
        self.gains[row] = self.gains[:, row] = 0


@settings(deadline=None, max_examples=60)
@given(st.lists(conferences, min_size=1, max_size=4), rates, st.lists(st.integers(0, ROWS_MAX - 1), max_size=3))
def test_the_batches_are_one_dense_matrix(changes, row_rates, released):
    """Whatever joins, leaves and moves there were: out = G x in, for every listener, and nobody else is written."""
    mixer, oracle = Mixer(ROWS_MAX), Oracle()
    for row, rate in enumerate(row_rates):
        mixer.set_rate(row, rate)
    for change in changes:
        mixer.begin_tick()
        for key, (listeners, speakers, seed) in change.items():
            gains = np.random.default_rng(seed).choice(GAINS, (len(listeners), len(speakers)))
            mixer.set_conference(key, listeners, speakers, gains)
            oracle.set_conference(key, listeners, speakers, gains)
        mixer.mix()
    for row in released:
        mixer.release_row(row)
        oracle.release_row(row)
        row_rates[row] = 8000
    values = np.random.default_rng(0).integers(-1000, 1000, ROWS_MAX) * 2
    mixer.begin_tick()
    for rate in RATES:
        mixer.pcm[rate][:-1] = values[:, None]
        mixer.out[rate][:] = 12345
        listening = [row for row in sorted(oracle.owner) if row_rates[row] == rate]
        assert mixer.listeners_at(rate).tolist() == listening
        assert mixer.speakers_at(rate).tolist() == np.flatnonzero(oracle.gains[listening].any(axis=0)).tolist()
    mixer.mix()
    for row, rate in ((row, rate) for row in range(ROWS_MAX) for rate in RATES):
        if row in oracle.owner and row_rates[row] == rate:
            assert (heard(mixer, row, rate) == oracle.gains[row] @ values).all()
        else:
            assert (mixer.out[rate][row] == 12345).all()


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(-3, 3), st.integers(-3, 3))
def test_the_mix_is_linear(seed, a, b):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(-500, 500, (2, 4, 160))
    gains = rng.choice(GAINS, (4, 4))

    def mixed(sound):
        mixer = Mixer(4)
        mixer.set_conference("a", range(4), range(4), gains)
        mixer.pcm[8000][:4] = sound
        mixer.begin_tick()
        settled(mixer)
        return mixer.out[8000][:4].astype(int)

    # even numbers: a gain of one half then rounds nothing away
    assert (mixed(2 * (a * first + b * second)) == a * mixed(2 * first) + b * mixed(2 * second)).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=2, max_size=6))
def test_no_change_of_the_matrix_steps(seeds):
    """Speakers hold a constant; so all that moves is the fade: a 160th of the change a sample, from tick to tick too."""
    mixer = Mixer(4)
    say(mixer, {0: 900, 1: -700, 2: 500, 3: -300})
    frames = []
    for seed in seeds:
        mixer.begin_tick()
        rng = np.random.default_rng(seed)
        listeners = [row for row in range(4) if rng.random() < 0.8]
        mixer.set_conference("a", listeners, range(4), rng.choice(GAINS, (len(listeners), 4)))
        mixer.mix()
        frames.append(np.where(mixer.kind[:4, None], mixer.heard(8000, np.arange(4)), 0).astype(int))
    steps = np.diff(np.concatenate(frames, axis=1), axis=1, prepend=0)
    largest_change = 2 * 2 * (900 + 700 + 500 + 300)
    assert np.abs(steps).max() <= largest_change / 160 + 1
