"""The parts of a plane, made once and wired to one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from relay.plane.conferences import Conferences
from relay.plane.intake import Intake, IntakeSettings
from relay.plane.jitter import JitterBuffers, JitterSettings
from relay.plane.legs import Leg, LegTable
from relay.plane.packets import MediaSockets
from relay.plane.playout import Playout
from relay.plane.reports import Loudness, Reports
from relay.plane.rings import PayloadRings
from relay.plane.taps import Taps
from relay.plane.transmission import Transmission


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """The limits of the plane."""

    legs_max: int = 2000
    tracks_max: int = 4000
    """Tracks of one codec at a time."""
    steps_max: int = 10_000
    """Steps that may wait for the next tick; more are refused."""
    steps_per_tick_max: int = 40
    """Steps that one tick carries out; the rest waits. Opening a leg takes 0.05 ms, with Opus 0.45 ms."""
    silent_seconds: float = 30.0
    """After so long without anything authentic, a leg on a contact is said to be silent."""
    catch_up_ticks: int = 25
    """Missed ticks that are played into the taps; more leave a hole."""
    intake: IntakeSettings = field(default_factory=IntakeSettings)
    jitter: JitterSettings = field(default_factory=JitterSettings)


class Stages:
    """What a packet passes, in order, and what is told of it."""

    def __init__(self, settings: PlaneSettings, sockets: MediaSockets, wall: Callable[[float], float]) -> None:
        self.sockets = sockets
        self.wall = wall
        self.legs = LegTable(settings.legs_max)
        sockets.hosts.alive = self.legs.endpoints
        self.jitter = JitterBuffers(settings.legs_max, settings.jitter)
        self.rings = PayloadRings(settings.legs_max, settings.jitter.slots)
        self.intake = Intake(
            self.legs,
            sockets,
            self.jitter,
            self.rings,
            settings.intake,
            report=self._receive_report,
            latched=self._reorder,
        )
        self.conferences = Conferences(self.legs)
        mixer = self.conferences.mixer
        self.playout = Playout(self.legs, self.jitter, self.rings, mixer.pcm[8000], mixer.pcm[48000])
        self.taps = Taps(settings.tracks_max)
        self.transmission = Transmission(self.legs, mixer, self.playout, sockets)
        self.reports = Reports(self.legs, self.intake.reception, self.jitter, wall)
        self.loudness = Loudness(self.legs, mixer)

    def _reorder(self) -> None:
        self.transmission.reorder()

    def _receive_report(self, leg: Leg, packet: bytes, arrival: float) -> bool:
        return self.reports.receive(leg, packet, arrival)
