"""From the sockets to the jitter buffers: whose each datagram is, whether it is authentic, and where it plays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relay.codecs.opus import packet_samples
from relay.media import ControlDatagram, LegLatched, MediaEvent, TelephoneEvent
from relay.plane.dtmf import EndedEvent
from relay.plane.endpoints import UNKNOWN, Endpoints
from relay.plane.jitter import JitterBuffers, Placement
from relay.plane.latching import Latching, LatchSettings
from relay.plane.legs import OPUS, Leg, LegTable
from relay.plane.opus_stream import HALF_SAMPLES
from relay.plane.packets import MediaSockets, PacketTable, Rows, endpoint_socket
from relay.plane.reception import Reception
from relay.plane.rings import HALF_BYTES, PayloadRings
from relay.plane.rtp import COMFORT_NOISE, classify, payload_bounds
from relay.plane.srtp import OK, REPLAYED, SSRCS_MAX, RowCrypto

_INTERLEAVED_SECONDS = 0.2
"""An SSRC that a leg left comes back only when the present one has been silent for so long."""


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """How much of each kind one tick takes."""

    packets_max: int = 4096
    """Datagrams; the rest waits in the kernel."""
    control_known_max: int = 128
    """STUN and DTLS datagrams from addresses of legs."""
    control_unknown_max: int = 64
    """The same from strangers."""
    control_source_max: int = 16
    """The same from one address."""
    reports_max: int = 256
    """RTCP packets."""
    events_max: int = 256
    """Telephone-event packets."""
    latch: LatchSettings = field(default_factory=LatchSettings)


@dataclass(slots=True)
class IntakeCounters:
    """What became of datagrams that are no leg's sound; all since the start."""

    received: int = 0
    table_full: int = 0
    """Ticks whose table was full."""
    malformed: int = 0
    control_dropped: int = 0
    reports_dropped: int = 0
    events_dropped: int = 0
    strangers: int = 0
    """RTP and RTCP from addresses of no leg."""
    unauthenticated: int = 0
    unexpected_payload: int = 0
    """Authentic packets of a payload type that was not negotiated."""
    stray_ssrc: int = 0
    """Authentic packets of an SSRC that the leg has left, or of one too many."""


class Intake:
    """One tick's datagrams, batch by batch."""

    def __init__(
        self,
        legs: LegTable,
        sockets: MediaSockets,
        jitter: JitterBuffers,
        rings: PayloadRings,
        settings: IntakeSettings | None = None,
        *,
        report: Callable[[Leg, bytes, float], None],
        latched: Callable[[], None],
    ) -> None:
        self.settings = settings or IntakeSettings()
        self.counters = IntakeCounters()
        self.endpoints = Endpoints()
        self.reception = Reception(legs.legs_max)
        self.latching = Latching(legs, self.endpoints, sockets.hosts, self.settings.latch)
        self._legs = legs
        self._sockets = sockets
        self._jitter = jitter
        self._rings = rings
        self._report = report
        self._order_changed = latched
        self._table = PacketTable(self.settings.packets_max)
        self._crypto = RowCrypto(self._table)
        self._events: list[MediaEvent] = []
        self._sounding: dict[int, Leg] = {}
        """Legs whose telephone event has begun and not ended."""

    def receive(self, now: float, due: float, events: list[MediaEvent]) -> None:
        """Take what came, and add to `events`; `due` is when the tick that plays next should have begun."""
        self._events = events
        table = self._table
        count = self._sockets.receive(table, now)
        if count:
            self.counters.received += count
            self.counters.table_full += count == table.rows
            kinds = classify(table, count)
            self.counters.malformed += kinds.malformed
            owners = self.endpoints.find(table.endpoint[:count])
            if kinds.control.size:
                self._pass_control(kinds.control, owners)
            if kinds.rtcp.size:
                self._receive_reports(kinds.rtcp, owners)
            if kinds.rtp.size:
                self._receive_packets(kinds.rtp, owners, now, due)

    def _pass_control(self, rows: Rows, owners: Rows) -> None:
        """Hand STUN and DTLS to the control plane; strangers cannot crowd out the legs, nor one source the others."""
        settings, table = self.settings, self._table
        known = owners[rows] != UNKNOWN
        sources: dict[int, int] = {}
        for chosen, limit in ((rows[known], settings.control_known_max), (rows[~known], settings.control_unknown_max)):
            passed = 0
            for row in chosen[: 4 * limit].tolist():
                endpoint = int(table.endpoint[row])
                socket = endpoint_socket(endpoint)
                sources[endpoint] = sources.get(endpoint, 0) + 1
                if passed == limit:
                    break
                if sources[endpoint] <= settings.control_source_max and socket % 2 == 0:
                    local = self._sockets.addresses[socket // 2]
                    self._events.append(
                        ControlDatagram(local, self._sockets.hosts.address(endpoint), table.datagram(row))
                    )
                    passed += 1
            self.counters.control_dropped += chosen.size - passed

    def _receive_reports(self, rows: Rows, owners: Rows) -> None:
        known = rows[owners[rows] != UNKNOWN]
        self.counters.strangers += rows.size - known.size
        self.counters.reports_dropped += max(0, known.size - self.settings.reports_max)
        for row in known[: self.settings.reports_max].tolist():
            self._legs.at_work = leg = self._legs.leg(int(owners[row]))
            packet = self._table.datagram(row)
            plain = packet if leg.inbound is None else leg.inbound.unprotect_rtcp(packet)
            if plain is None:
                self.counters.unauthenticated += 1
                self._legs.unauthenticated[leg.row] += 1
            else:
                self._report(leg, plain, float(self._table.arrival[row]))
        self._legs.at_work = None

    def _receive_packets(self, rows: Rows, owners: Rows, now: float, due: float) -> None:
        legs = owners[rows]
        plain: Rows = rows[:0]
        if (legs == UNKNOWN).any():
            plain = self._adopt(rows[legs == UNKNOWN], now)
            # What else these sources sent in this tick belongs to the legs that were just found.
            rows = rows[~np.isin(rows, plain)]
            legs = self.endpoints.find(self._table.endpoint[rows])
            self.counters.strangers += int(np.count_nonzero(legs == UNKNOWN))
            rows, legs = rows[legs != UNKNOWN], legs[legs != UNKNOWN]
        rows, legs = self._authenticate(rows, legs)
        if plain.size:
            rows = np.concatenate([plain, rows])
            legs = self.endpoints.find(self._table.endpoint[rows])
        if rows.size:
            self._sort(rows, legs, now, due)

    def _adopt(self, rows: Rows, now: float) -> Rows:
        adopted = self.latching.adopt(self._table, rows, now)
        for row, leg in adopted:
            self.latch(leg, int(self._table.endpoint[row]))
        return np.array([row for row, _ in adopted], np.intp)

    def latch(self, leg: Leg, endpoint: int) -> None:
        """A leg's authenticated packets come from here."""
        self.latching.latch(leg, endpoint)
        self._order_changed()
        self._say_latched(leg)

    def _say_latched(self, leg: Leg) -> None:
        leg.latch_said = True
        self._events.append(LegLatched(leg.leg_id, self._sockets.hosts.address(leg.endpoint)))

    def _authenticate(self, rows: Rows, legs: Rows) -> tuple[Rows, Rows]:
        """Decrypt in place; returns what is authentic, and counts the rest."""
        table = self._legs
        if not (self._table.header["ssrc"][rows] == table.ssrc[legs]).all():
            room = self._has_room(rows, legs)
            rows, legs = rows[room], legs[room]
        encrypted = table.encrypted[legs]
        if not encrypted.all():
            secured = np.flatnonzero(encrypted)
            good = np.ones(rows.size, np.bool_)
            good[secured] = self._unprotect(rows[secured], legs[secured])
        else:
            good = self._unprotect(rows, legs)
        return (rows, legs) if good.all() else (rows[good], legs[good])

    def _has_room(self, rows: Rows, legs: Rows) -> NDArray[np.bool_]:
        """False for an SSRC beyond those that a leg's SRTP context may come to know."""
        room: NDArray[np.bool_] = np.ones(rows.size, np.bool_)
        ssrcs = self._table.header["ssrc"][rows]
        for i in np.flatnonzero(ssrcs != self._legs.ssrc[legs]).tolist():
            known = self._legs.leg(int(legs[i])).ssrcs
            room[i] = len(known) < SSRCS_MAX - 1 or int(ssrcs[i]) in known
        self.counters.stray_ssrc += int(np.count_nonzero(~room))
        return room

    def _unprotect(self, rows: Rows, legs: Rows) -> NDArray[np.bool_]:
        handles = self._legs.receive_handles
        statuses = self._crypto.unprotect(rows.tolist(), [handles[leg] for leg in legs.tolist()])
        if not any(statuses):
            return np.ones(rows.size, np.bool_)
        good: NDArray[np.bool_] = np.array(statuses) == OK
        for i in np.flatnonzero(~good).tolist():
            leg = int(legs[i])
            if statuses[i] in REPLAYED:
                self._legs.replayed[leg] += 1
            else:
                self._legs.unauthenticated[leg] += 1
                self.counters.unauthenticated += 1
        return good

    def _sort(self, rows: Rows, legs: Rows, now: float, due: float) -> None:
        """Sort authentic packets by what they carry; only sound of legs on a contact goes on."""
        header = self._table.header
        if not (header["ssrc"][rows] == self._legs.ssrc[legs]).all():
            same = self._follow_ssrcs(rows, legs, now)
            rows, legs = rows[same], legs[same]
        self._legs.heard[legs] = now
        payload_type = header["second"][rows].astype(np.uint8) & np.uint8(0x7F)
        sound = payload_type == self._legs.payload_type[legs]
        self.reception.receive(
            legs,
            header["sequence"][rows].astype(np.uint16),
            header["timestamp"][rows].astype(np.uint32),
            self._table.arrival[rows],
            self._jitter.clock[legs],
            sound,
        )
        if not sound.all():
            self._receive_other(rows[~sound], legs[~sound], payload_type[~sound], now)
            rows, legs = rows[sound], legs[sound]
        active = self._legs.active[legs]
        if not active.all():
            np.add.at(self._legs.off_contact, legs[~active], 1)
            rows, legs = rows[active], legs[active]
        if rows.size:
            self._place(rows, legs, due)

    def _follow_ssrcs(self, rows: Rows, legs: Rows, now: float) -> NDArray[np.bool_]:
        """A new SSRC is the leg's from now on; one that it left comes back only into silence (a forked call)."""
        ssrcs = self._table.header["ssrc"][rows].astype(np.int64)
        for i in np.flatnonzero(ssrcs != self._legs.ssrc[legs]).tolist():
            row, ssrc = int(legs[i]), int(ssrcs[i])
            leg, present = self._legs.leg(row), int(self._legs.ssrc[row])
            if ssrc == present:
                continue
            if ssrc in leg.ssrcs and now - float(self._legs.heard[row]) < _INTERLEAVED_SECONDS:
                continue
            if present >= 0:
                leg.ssrcs |= {present}
                self.restart(leg)
            elif not leg.latch_said:
                self._say_latched(leg)
            self._legs.ssrc[row] = ssrc
        same: NDArray[np.bool_] = ssrcs == self._legs.ssrc[legs]
        self.counters.stray_ssrc += int(np.count_nonzero(~same))
        return same

    def expect_reports(self, leg: Leg) -> None:
        """RTCP that is not multiplexed comes from where signalling said, unless another leg's does."""
        if self.endpoints.owner(leg.report_endpoint) == UNKNOWN:
            self.endpoints.put(leg.report_endpoint, leg.row)

    def begin_playout(self, leg: Leg) -> None:
        """A leg comes onto a contact: what it sent before is not played."""
        self._jitter.reset(leg.row)
        if leg.opus is not None:
            leg.opus.reset()

    def forget(self, leg: Leg) -> None:
        """A leg closes."""
        self.latching.forget(leg)
        self._sounding.pop(leg.row, None)

    def expire_events(self, now: float) -> list[tuple[Leg, EndedEvent]]:
        """Telephone events whose end packets were all lost."""
        ended = [(leg, event) for leg in self._sounding.values() for event in leg.events.expire(now)]
        for leg, _ in ended:
            del self._sounding[leg.row]
        return ended

    def restart(self, leg: Leg) -> None:
        """Another stream begins on a leg: its own sequence numbers, its own timeline."""
        self.reception.restart(leg.row)
        self.begin_playout(leg)

    def _receive_other(self, rows: Rows, legs: Rows, payload_types: NDArray[np.uint8], now: float) -> None:
        """Telephone events; comfort noise, which says that nothing is missing; and what was never negotiated."""
        events = np.flatnonzero(payload_types == self._legs.event_type[legs])
        self.counters.events_dropped += max(0, events.size - self.settings.events_max)
        noise = int(np.count_nonzero(payload_types == COMFORT_NOISE))
        self.counters.unexpected_payload += rows.size - events.size - noise
        events = events[: self.settings.events_max]
        offsets, sizes = payload_bounds(self._table, rows[events])
        for i, offset, size in zip(events.tolist(), offsets.tolist(), sizes.tolist(), strict=True):
            row = int(rows[i])
            self._legs.at_work = leg = self._legs.leg(int(legs[i]))
            payload = self._table.data[row, offset : offset + max(size, 0)].tobytes()
            for ended in leg.events.receive(payload, int(self._table.header["timestamp"][row]), now):
                self._events.append(telephone_event(leg, ended, int(self._jitter.clock[leg.row])))
            if leg.events.going_on:
                self._sounding[leg.row] = leg
            else:
                self._sounding.pop(leg.row, None)
        self._legs.at_work = None

    def _place(self, rows: Rows, legs: Rows, due: float) -> None:
        """Put sound where it plays."""
        table = self._table
        offsets, durations = payload_bounds(table, rows)
        units = np.full(rows.size, HALF_BYTES, np.int32)
        opus = np.flatnonzero(self._legs.encoding[legs] == OPUS)
        for i in opus.tolist():
            # By the packet's own first bytes (RFC 6716 §3.1), not by its size.
            payload = table.data[rows[i], offsets[i] : offsets[i] + max(durations[i], 0)]
            durations[i] = packet_samples(payload, payload.size)
        units[opus] = HALF_SAMPLES
        sound = (durations > 0) & (durations % units == 0)
        if not sound.all():
            self.counters.malformed += int(np.count_nonzero(~sound))
            rows, legs, offsets, durations = rows[sound], legs[sound], offsets[sound], durations[sound]
        timestamps = table.header["timestamp"][rows].astype(np.uint32)
        ages_ms = (due - table.arrival[rows]) * 1000.0
        placement = self._jitter.place(legs, timestamps, durations, ages_ms)
        if opus.size:
            placement = self._keep_opus(rows, legs, offsets, placement)
        self._rings.put(legs, placement, table, rows, offsets)

    def _keep_opus(self, rows: Rows, legs: Rows, offsets: NDArray[np.int32], placement: Placement) -> Placement:
        """Keep the packets of Opus legs; returns the others' places."""
        table = self._table
        opus = self._legs.encoding[legs[placement.kept]] == OPUS
        for kept in np.flatnonzero(opus).tolist():
            i = int(placement.kept[kept])
            self._legs.at_work = leg = self._legs.leg(int(legs[i]))
            stream = leg.opus
            assert stream is not None, "legs of this encoding have one"
            _, size = payload_bounds(table, rows[i : i + 1])
            payload = table.data[rows[i], offsets[i] : offsets[i] + int(size[0])].tobytes()
            stream.put(int(placement.half[kept]), payload)
        self._legs.at_work = None
        return Placement(placement.kept[~opus], placement.half[~opus], placement.halves[~opus])


def telephone_event(leg: Leg, ended: EndedEvent, clock: int) -> TelephoneEvent:
    """An event with its duration in milliseconds; `clock` is RTP clock ticks in 20 ms."""
    return TelephoneEvent(leg.leg_id, ended.event, ended.duration * 20 // clock)
