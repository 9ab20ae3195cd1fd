"""Media commands carried out: what each does to rows, conferences and taps at the head of a tick."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from typing import assert_never

from recorder.errors import RecorderError
from relay import media
from relay.codecs.opus import BITRATE_MAX, BITRATE_MIN, COMPLEXITY_MAX
from relay.errors import LocalError, RelayError
from relay.media import Address, LegId, MediaCommand, MediaEvent
from relay.plane.dtmf import EventReceiver
from relay.plane.legs import ENCODINGS, Leg
from relay.plane.opus_stream import OpusStream
from relay.plane.rtp import CLOCK_RATE_PER_TICK
from relay.plane.srtp import SrtpContext
from relay.plane.stages import Stages

_log = logging.getLogger(__name__)


class Commands:
    """Carries out steps; a command that cannot be is refused by an event, and the others go on."""

    def __init__(self, stages: Stages, entropy: Callable[[int], bytes]) -> None:
        self._stages = stages
        self._entropy = entropy

    def apply(self, step: media.Step, tick: int, now: float, due: float) -> Iterator[MediaEvent]:
        """All of a step, in this tick: the recording is opened first, then the log entries, then everything else."""
        opening = [command for command in step.commands if isinstance(command, media.OpenRecording)]
        others = [command for command in step.commands if not isinstance(command, media.OpenRecording)]
        for each in opening:
            yield from self._guarded(step, each, tick, now, due)
        if step.contact_id is not None:
            self._stages.taps.log(step.contact_id, step.entries, tick)
        for command in others:
            yield from self._guarded(step, command, tick, now, due)
        if step.contact_id is not None:
            yield media.StepApplied(step.contact_id, tick)

    def close_leg(self, leg: Leg, tick: int, now: float) -> media.LegClosed:
        """Say BYE, free the row, and end whatever hung on it."""
        stages, row = self._stages, leg.row
        statistics = stages.reports.statistics(leg)
        if stages.legs.remote[row]:
            endpoint = leg.report_endpoint or int(stages.legs.remote[row])
            stages.transmission.queue_report(stages.reports.compound(leg, now, goodbye=True), endpoint)
        stages.taps.close_leg(row, tick)
        stages.conferences.forget_leg(row)
        stages.intake.forget(leg)
        stages.loudness.forget(row)
        stages.legs.remove(leg)
        stages.transmission.reorder()
        return media.LegClosed(leg.leg_id, statistics)

    def _guarded(
        self, step: media.Step, command: MediaCommand, tick: int, now: float, due: float
    ) -> Iterator[MediaEvent]:
        try:
            yield from self._command(command, tick, now, due)
        except (RelayError, RecorderError) as error:
            yield _refused(step, command, str(error))
        except Exception:  # noqa: BLE001 - it must not keep the rest of the step, a gate that closes, from being done
            _log.exception("a media command failed: %s", type(command).__name__)
            yield _refused(step, command, "it failed")

    def _command(self, command: MediaCommand, tick: int, now: float, due: float) -> Iterator[MediaEvent]:
        match command:
            case media.OpenLeg():
                self._open_leg(command, now)
            case media.MoveLeg():
                self._move_leg(command)
            case media.RekeyLeg():
                self._rekey_leg(command)
            case media.CloseLeg():
                yield self.close_leg(self._leg(command.leg_id), tick, now)
            case media.SetCrosspoints():
                self._stages.conferences.set(command)
            case _:
                self._record(command, tick, due)

    def _record(
        self,
        command: media.OpenRecording | media.OpenTrack | media.SetGate | media.CloseTrack | media.CloseRecording,
        tick: int,
        due: float,
    ) -> None:
        taps = self._stages.taps
        match command:
            case media.OpenRecording():
                taps.open_recording(command.contact_id, tick, self._stages.wall(due))
            case media.OpenTrack():
                leg = self._leg(command.leg_id)
                taps.open_track(command, leg, ENCODINGS[leg.opened.codec.encoding], tick)
            case media.SetGate():
                taps.set_gate(command, tick)
            case media.CloseTrack():
                taps.close_track(command.contact_id, command.track_id, tick)
            case media.CloseRecording():
                taps.close_recording(command.contact_id, tick)
            case _:
                assert_never(command)

    def _open_leg(self, command: media.OpenLeg, now: float) -> None:
        """What may be refused is made before the row is taken: a leg that cannot be opened costs none."""
        stages = self._stages
        if command.leg_id in stages.legs.by_id:
            raise LocalError("the leg is open already")
        _check_numbers(command)
        socket = self._socket(command.local)
        remote, reports = self._endpoint(socket, command.remote), self._endpoint(socket + 1, command.remote_rtcp)
        codec = command.codec
        inbound = SrtpContext(command.receive_key, inbound=True) if command.receive_key else None
        outbound = SrtpContext(command.send_key, inbound=False) if command.send_key else None
        decoder = OpusStream() if codec.encoding == "opus" else None
        leg = Leg(
            row=stages.legs.take_row(),
            leg_id=command.leg_id,
            opened=command,
            socket=socket,
            inbound=inbound,
            outbound=outbound,
            events=EventReceiver(),
            opus=decoder,
            opened_at=now,
        )
        stages.legs.add(leg)
        stages.jitter.open(leg.row, CLOCK_RATE_PER_TICK[codec.encoding])
        stages.intake.reception.open(leg.row, CLOCK_RATE_PER_TICK[codec.encoding] * 50)
        stages.conferences.open_leg(leg.row)
        # RFC 3550 §5.1: sequence number and timestamp begin at random.
        start = self._entropy(6)
        stages.legs.send_sequence[leg.row] = int.from_bytes(start[:2], "big")
        stages.legs.send_timestamp[leg.row] = int.from_bytes(start[2:], "big")
        self._point(leg, remote, reports)
        if remote and (not command.latch or inbound is None):
            stages.intake.latching.trust(leg, remote)

    def _move_leg(self, command: media.MoveLeg) -> None:
        leg = self._leg(command.leg_id)
        socket = leg.socket if command.local is None else self._socket(command.local)
        remote, reports = self._endpoint(socket, command.remote), self._endpoint(socket + 1, command.remote_rtcp)
        leg.socket = self._stages.legs.socket[leg.row] = socket
        self._point(leg, remote, reports)
        if not leg.opened.latch or leg.inbound is None:
            self._stages.intake.latching.trust(leg, remote)

    def _rekey_leg(self, command: media.RekeyLeg) -> None:
        leg = self._leg(command.leg_id)
        if leg.inbound is None or leg.outbound is None:
            raise LocalError("a leg without keys cannot be given others")
        leg.inbound.renew(command.receive_key)
        leg.outbound.renew(command.send_key)

    def _point(self, leg: Leg, remote: int, reports: int) -> None:
        stages = self._stages
        if remote:
            stages.legs.remote[leg.row] = stages.legs.named[leg.row] = remote
        if reports:
            stages.intake.expect_reports(leg, reports)
        stages.transmission.reorder()

    def _endpoint(self, socket: int, address: Address | None) -> int:
        """The key of a peer's address (Exhausted: its host has none); 0: none was named."""
        if address is None:
            return 0
        if (":" in self._stages.sockets.addresses[socket // 2][0]) != (":" in address[0]):
            raise LocalError("a socket of one address family cannot reach the other")
        try:
            return self._stages.sockets.hosts.key(socket, address)
        except (ValueError, OverflowError, struct.error) as error:
            raise LocalError("no IP address and UDP port") from error

    def _socket(self, local: Address) -> int:
        addresses = list(self._stages.sockets.addresses)
        if local not in addresses:
            raise LocalError(f"no media socket at {local[0]}:{local[1]}")
        return 2 * addresses.index(local)

    def _leg(self, leg_id: LegId) -> Leg:
        leg = self._stages.legs.by_id.get(leg_id)
        if leg is None:
            raise LocalError("no such leg is open")
        return leg


def _check_numbers(command: media.OpenLeg) -> None:
    types = (command.codec.payload_type, 0 if command.telephone_event is None else command.telephone_event)
    if any(not 0 <= each < 128 for each in types) or not 0 <= command.ssrc < 1 << 32:
        raise LocalError("a payload type has seven bits, and an SSRC has 32")
    if not (0 <= command.codec.complexity <= COMPLEXITY_MAX and BITRATE_MIN <= command.codec.bitrate <= BITRATE_MAX):
        # Encoders are made when somebody is first heard: then it would be too late to refuse.
        raise LocalError("no Opus encoder has such a complexity or bit rate")


def _refused(step: media.Step, command: MediaCommand, why: str) -> media.CommandRefused:
    leg_id: LegId | None = getattr(command, "leg_id", None)
    return media.CommandRefused(step.contact_id, leg_id, f"{type(command).__name__}: {why}")
