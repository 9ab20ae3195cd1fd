"""The crosspoint mixer: states to matrix, matrix to sound, numpy and nothing else."""

from mixer import crosspoints, speech_like
from mixer.crosspoints import Crosspoint, Party
from mixer.frame import FULL_SCALE, RATES, SAMPLES_A_TICK, Pcm, Rate, Rows, Samples
from mixer.levels import REPORT_TICKS, SILENCE_DBOV, Levels
from mixer.matrix import Kind
from mixer.mix import Mixer
from mixer.resample import Resamplers
from mixer.sources import BEEP_HZ, MUSIC_STRONGEST_HZ, RINGBACK_HZ, Source, SourceName

__all__ = [
    "BEEP_HZ",
    "FULL_SCALE",
    "MUSIC_STRONGEST_HZ",
    "RATES",
    "REPORT_TICKS",
    "RINGBACK_HZ",
    "SAMPLES_A_TICK",
    "SILENCE_DBOV",
    "Crosspoint",
    "Kind",
    "Levels",
    "Mixer",
    "Party",
    "Pcm",
    "Rate",
    "Resamplers",
    "Rows",
    "Samples",
    "Source",
    "SourceName",
    "crosspoints",
    "speech_like",
]
