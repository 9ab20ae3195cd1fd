"""From the sockets to the jitter buffers: whose each datagram is, whether it is authentic, and where it plays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relay.codecs.opus import FRAME_SAMPLES, PAYLOAD_BYTES_MAX, is_packet, packet_samples
from relay.media import ControlDatagram, LegLatched, MediaEvent, TelephoneEvent
from relay.plane.dtmf import PAYLOAD_BYTES, EndedEvent
from relay.plane.endpoints import UNKNOWN, Endpoints
from relay.plane.jitter import JitterBuffers, Placement
from relay.plane.latching import Latching, LatchSettings
from relay.plane.legs import OPUS, Leg, LegTable
from relay.plane.opus_stream import HALF_SAMPLES
from relay.plane.outcomes import Outcomes
from relay.plane.packets import OVERSIZED, MediaSockets, PacketTable, Rows, endpoint_socket, ranks, socket_column
from relay.plane.reception import Reception
from relay.plane.rings import HALF_BYTES, PayloadRings
from relay.plane.rtp import COMFORT_NOISE, classify, header_words, payload_bounds
from relay.plane.srtp import OK, REPLAYED, RowCrypto

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
    reports_leg_max: int = 8
    """The same from one leg's addresses."""
    events_max: int = 256
    """Telephone-event packets."""
    events_leg_max: int = 64
    """The same of one leg."""
    packets_leg_max: int = 128
    """Authentic RTP packets of one leg: twice what a buffer holds of 10 ms packets, for ticks that come late."""
    latch: LatchSettings = field(default_factory=LatchSettings)


@dataclass(frozen=True, slots=True)
class Packets:
    """RTP packets of a tick, in order of arrival."""

    rows: Rows
    """Of the packet table, ascending."""
    legs: Rows
    words: NDArray[np.uint32]
    """Their headers, as `header_words` gives them."""

    @property
    def sequences(self) -> NDArray[np.uint16]:
        """RFC 3550 §5.1, as are the others."""
        return self.words[:, 0].astype(np.uint16)

    @property
    def payload_types(self) -> NDArray[np.uint32]:
        """Seven bits."""
        return self.words[:, 0] >> np.uint32(16) & np.uint32(0x7F)

    @property
    def timestamps(self) -> NDArray[np.uint32]:
        """In ticks of the codec's RTP clock."""
        return self.words[:, 1]

    @property
    def ssrcs(self) -> NDArray[np.uint32]:
        """Whose stream each is of."""
        return self.words[:, 2]

    def only(self, which: NDArray[np.bool_] | Rows) -> Packets:
        """Some of them."""
        return Packets(self.rows[which], self.legs[which], self.words[which])


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
        report: Callable[[Leg, bytes, float], bool],
        latched: Callable[[], None],
    ) -> None:
        self.settings = settings or IntakeSettings()
        self.outcomes = Outcomes()
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
            self.outcomes.received += count
            self.outcomes.table_full += count == table.rows
            words = header_words(table, count)
            kinds = classify(words, table.length[:count])
            if kinds.malformed:
                self._count_malformed(kinds.malformed, count)
            owners = self.endpoints.find(table.endpoint[:count])
            if kinds.control.size:
                self._pass_control(kinds.control, owners)
            if kinds.rtcp.size:
                self._receive_reports(kinds.rtcp, owners)
            if kinds.rtp.size:
                packets = Packets(kinds.rtp, owners, words)
                if kinds.rtp.size < count:
                    packets = Packets(kinds.rtp, owners[kinds.rtp], words[kinds.rtp])
                self._receive_packets(packets, now, due)

    def _count_malformed(self, malformed: int, count: int) -> None:
        dropped, lengths = self.outcomes.dropped, self._table.length[:count]
        empty, oversized = int(np.count_nonzero(lengths == 0)), int(np.count_nonzero(lengths == OVERSIZED))
        dropped.empty += empty
        dropped.oversized += oversized
        dropped.malformed += malformed - empty - oversized

    def _pass_control(self, rows: Rows, owners: Rows) -> None:
        """Hand STUN and DTLS to the control plane; strangers cannot crowd out the legs, nor one source the others."""
        settings, table, outcomes = self.settings, self._table, self.outcomes
        expected = socket_column(table.endpoint[rows]) % 2 == 0
        outcomes.dropped.control_misdirected += rows.size - int(np.count_nonzero(expected))
        rows = rows[expected]
        fair = rows[ranks(table.endpoint[rows]) < settings.control_source_max]
        known = owners[fair] != UNKNOWN
        passed = [*fair[known][: settings.control_known_max], *fair[~known][: settings.control_unknown_max]]
        for row in passed:
            endpoint = int(table.endpoint[row])
            local = self._sockets.addresses[endpoint_socket(endpoint) // 2]
            self._events.append(ControlDatagram(local, self._sockets.hosts.address(endpoint), table.datagram(row)))
        outcomes.taken.control += len(passed)
        outcomes.dropped.control_dropped += rows.size - len(passed)

    def _receive_reports(self, rows: Rows, owners: Rows) -> None:
        dropped = self.outcomes.dropped
        known = rows[owners[rows] != UNKNOWN]
        dropped.strangers += rows.size - known.size
        chosen = known[ranks(owners[known]) < self.settings.reports_leg_max][: self.settings.reports_max]
        dropped.reports_dropped += known.size - chosen.size
        for row in chosen.tolist():
            self._legs.at_work = leg = self._legs.leg(int(owners[row]))
            self._receive_report(leg, row)
        self._legs.at_work = None

    def _receive_report(self, leg: Leg, row: int) -> None:
        dropped = self.outcomes.dropped
        packet = self._table.datagram(row)
        if leg.inbound is not None:
            ssrc = int.from_bytes(packet[4:8], "big")
            if not self._legs.has_room_for_reports(leg.row, ssrc):
                dropped.stray_ssrc += 1
                return
            status, packet = leg.inbound.unprotect_rtcp(packet)
            if status in REPLAYED:
                dropped.replayed += 1
                return
            if status != OK:
                dropped.unauthenticated += 1
                self._legs.unauthenticated[leg.row] += 1
                return
            if not self._legs.knows(leg.row, ssrc):
                leg.report_ssrcs |= {ssrc}
        if self._report(leg, packet, float(self._table.arrival[row])):
            self.outcomes.taken.reports += 1
        else:
            dropped.reports_malformed += 1

    def _receive_packets(self, packets: Packets, now: float, due: float) -> None:
        familiar = False
        if packets.legs.min() == UNKNOWN:
            packets = self._receive_strangers(packets, now)
        else:
            familiar = self._are_familiar(packets)
            packets = self._authenticate(packets, familiar=familiar)
        if packets.rows.size:
            self._sort(packets, now, due, familiar=familiar)

    def _are_familiar(self, packets: Packets) -> bool:
        """Whether all are of the streams that their legs are known to send."""
        return bool((packets.ssrcs == self._legs.ssrc.take(packets.legs)).all())

    def _receive_strangers(self, packets: Packets, now: float) -> Packets:
        """Packets of which some come from unknown addresses: what is authentic, and whose it is."""
        adopted = self._adopt(packets.rows[packets.legs == UNKNOWN], now)
        # What else these sources sent in this tick belongs to the legs that were just found.
        packets = Packets(packets.rows, self.endpoints.find(self._table.endpoint[packets.rows]), packets.words)
        plain = np.isin(packets.rows, adopted)
        known = packets.legs != UNKNOWN
        self.outcomes.dropped.strangers += int(np.count_nonzero(~known & ~plain))
        opened = packets.only(plain & known)
        others = self._authenticate(packets.only(known & ~plain), familiar=False)
        rows = np.concatenate([opened.rows, others.rows])
        order = np.argsort(rows)
        legs, words = np.concatenate([opened.legs, others.legs]), np.concatenate([opened.words, others.words])
        return Packets(rows[order], legs[order], words[order])

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

    def _authenticate(self, packets: Packets, *, familiar: bool) -> Packets:
        """Decrypt in place; returns what is authentic, and counts the rest."""
        if not familiar:
            packets = packets.only(self._has_room(packets))
        encrypted = self._legs.encrypted.take(packets.legs)
        if encrypted.all():
            good = self._unprotect(packets)
        else:
            opened = self._unprotect(packets.only(encrypted))
            good = None if opened is None else ~encrypted
            if good is not None:
                good[encrypted] = opened
        return packets if good is None else packets.only(good)

    def _has_room(self, packets: Packets) -> NDArray[np.bool_]:
        """False for an SSRC beyond those that a leg's SRTP context may come to know."""
        room: NDArray[np.bool_] = np.ones(packets.rows.size, np.bool_)
        new: dict[int, set[int]] = {}
        for i in np.flatnonzero(packets.ssrcs != self._legs.ssrc[packets.legs]).tolist():
            leg, ssrc = int(packets.legs[i]), int(packets.ssrcs[i])
            strange = new.setdefault(leg, set())
            room[i] = ssrc in strange or self._legs.has_room(leg, ssrc, len(strange))
            if room[i]:
                strange.add(ssrc)
        self.outcomes.dropped.stray_ssrc += int(np.count_nonzero(~room))
        return room

    def _unprotect(self, packets: Packets) -> NDArray[np.bool_] | None:
        """Which packets are authentic; None: all are."""
        rows, legs = packets.rows, packets.legs.tolist()
        count = rows.size
        stretch = range(count) if count and rows[-1] == count - 1 else rows.tolist()
        statuses = self._crypto.unprotect(stretch, map(self._legs.receive_handles.__getitem__, legs))
        if not any(statuses):
            return None
        for leg, status in zip(legs, statuses, strict=True):
            if status in REPLAYED:
                self._legs.replayed[leg] += 1
                self.outcomes.dropped.replayed += 1
            elif status != OK:
                self._legs.unauthenticated[leg] += 1
                self.outcomes.dropped.unauthenticated += 1
        good: NDArray[np.bool_] = np.array(statuses) == OK
        return good

    def _sort(self, packets: Packets, now: float, due: float, *, familiar: bool) -> None:
        """Sort authentic packets by what they carry; only sound of legs on a contact goes on."""
        table, packets = self._legs, self._ration(packets)
        legs = packets.legs
        if not familiar:
            packets = packets.only(self._follow_ssrcs(packets, now))
            legs = packets.legs
        table.heard[legs] = now
        payload_types = packets.payload_types
        sound = payload_types == table.payload_type.take(legs)
        arrivals = self._table.arrival.take(packets.rows)
        self.reception.receive(legs, packets.sequences, packets.timestamps, arrivals, sound)
        if not sound.all():
            self._receive_other(packets.only(~sound), payload_types[~sound], now)
            packets, arrivals = packets.only(sound), arrivals[sound]
        active = table.active.take(packets.legs)
        if not active.all():
            np.add.at(table.off_contact, packets.legs[~active], 1)
            self.outcomes.dropped.off_contact += int(np.count_nonzero(~active))
            packets, arrivals = packets.only(active), arrivals[active]
        if packets.rows.size:
            self._place(packets, (due - arrivals) * 1000.0)

    def _ration(self, packets: Packets) -> Packets:
        """What a leg sends beyond measure is its own loss, and not the time of all."""
        limit = self.settings.packets_leg_max
        if packets.rows.size <= limit or int(np.bincount(packets.legs).max()) <= limit:
            return packets
        fair = ranks(packets.legs) < limit
        self.outcomes.dropped.flooded += int(np.count_nonzero(~fair))
        return packets.only(fair)

    def _follow_ssrcs(self, packets: Packets, now: float) -> NDArray[np.bool_]:
        """A new SSRC is the leg's from now on; one that it left comes back only into silence (a forked call)."""
        legs, ssrcs = packets.legs, packets.ssrcs
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
        self.outcomes.dropped.stray_ssrc += int(np.count_nonzero(~same))
        return same

    def expect_reports(self, leg: Leg, endpoint: int) -> None:
        """RTCP that is not multiplexed comes from where signalling says, unless another leg's does."""
        self.endpoints.remove(leg.report_endpoint, leg.row)
        leg.report_endpoint = endpoint
        if self.endpoints.owner(endpoint) == UNKNOWN:
            self.endpoints.put(endpoint, leg.row)

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

    def _receive_other(self, packets: Packets, payload_types: NDArray[np.uint32], now: float) -> None:
        """Telephone events; comfort noise, which says that nothing is missing; and what was never negotiated."""
        dropped, taken = self.outcomes.dropped, self.outcomes.taken
        is_event = payload_types == self._legs.event_type[packets.legs]
        is_noise = ~is_event & (payload_types == COMFORT_NOISE)
        taken.comfort_noise += int(np.count_nonzero(is_noise))
        dropped.unexpected_payload += int(np.count_nonzero(~is_event & ~is_noise))
        events = packets.only(is_event)
        fair = np.flatnonzero(ranks(events.legs) < self.settings.events_leg_max)[: self.settings.events_max]
        dropped.events_dropped += events.rows.size - fair.size
        events = events.only(fair)
        offsets, sizes = payload_bounds(self._table, events.rows, events.words)
        whole = sizes >= PAYLOAD_BYTES
        taken.telephone_events += int(np.count_nonzero(whole))
        dropped.events_malformed += int(np.count_nonzero(~whole))
        for i in np.flatnonzero(whole).tolist():
            self._legs.at_work = leg = self._legs.leg(int(events.legs[i]))
            payload = self._table.data[events.rows[i], offsets[i] : offsets[i] + sizes[i]].tobytes()
            for ended in leg.events.receive(payload, int(events.timestamps[i]), now):
                self._events.append(telephone_event(leg, ended, int(self._jitter.clock[leg.row])))
            if leg.events.going_on:
                self._sounding[leg.row] = leg
            else:
                self._sounding.pop(leg.row, None)
        self._legs.at_work = None

    def _place(self, packets: Packets, ages_ms: NDArray[np.float64]) -> None:
        """Put sound where it plays."""
        offsets, sizes = payload_bounds(self._table, packets.rows, packets.words)
        opus = np.flatnonzero(self._legs.encoding.take(packets.legs) == OPUS)
        durations: NDArray[np.int32] = sizes
        units: NDArray[np.int32] | int = HALF_BYTES
        if opus.size:
            durations, units = self._measure_opus(packets.rows, opus, offsets, sizes)
        sound = (durations > 0) & (durations % units == 0)
        if not sound.all():
            self.outcomes.dropped.payload_malformed += int(np.count_nonzero(~sound))
            packets, offsets, sizes = packets.only(sound), offsets[sound], sizes[sound]
            durations, ages_ms = durations[sound], ages_ms[sound]
        placement = self._jitter.place(packets.legs, packets.timestamps, durations, ages_ms)
        self._count_placed(placement, packets.rows.size)
        if opus.size:
            placement = self._keep_opus(packets, offsets, sizes, placement)
        self._rings.put(packets.legs, placement, self._table, packets.rows, offsets)

    def _measure_opus(
        self, rows: Rows, opus: Rows, offsets: NDArray[np.int32], sizes: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """How long packets last, those of Opus (indices `opus`) by what they say themselves, and of what unit."""
        durations, units = sizes.copy(), np.full(sizes.size, HALF_BYTES, np.int32)
        there = sizes[opus] > 0
        first = self._table.data[rows[opus], np.where(there, offsets[opus], 0)]
        # One frame, which nearly all packets hold: whole whatever its bytes are (RFC 6716 §3.2.2).
        is_single = there & (first & 3 == 0) & (sizes[opus] <= PAYLOAD_BYTES_MAX + 1)
        durations[opus] = np.where(is_single, FRAME_SAMPLES[first >> 3], 0)
        for i in opus[there & ~is_single].tolist():
            payload = self._table.data[rows[i], offsets[i] : offsets[i] + sizes[i]]
            durations[i] = packet_samples(payload, payload.size) if is_packet(payload, payload.size) else 0
        units[opus] = HALF_SAMPLES
        return durations, units

    def _count_placed(self, placement: Placement, packets: int) -> None:
        taken, dropped, kept = self.outcomes.taken, self.outcomes.dropped, placement.kept.size
        taken.sound += kept - placement.duplicates
        dropped.duplicates += placement.duplicates
        dropped.late += placement.late
        dropped.early += packets - kept - placement.late

    def _keep_opus(
        self, packets: Packets, offsets: NDArray[np.int32], sizes: NDArray[np.int32], placement: Placement
    ) -> Placement:
        """Keep the packets of Opus legs; returns the others' places."""
        is_opus = self._legs.encoding[packets.legs[placement.kept]] == OPUS
        kept = placement.kept[is_opus]
        columns = (packets.legs[kept], placement.half[is_opus], packets.rows[kept], offsets[kept], sizes[kept])
        for at, half, row, offset, size in zip(*(column.tolist() for column in columns), strict=True):
            self._legs.at_work = leg = self._legs.leg(at)
            assert leg.opus is not None, "legs of this encoding have one"
            leg.opus.put(half, self._table.data[row, offset : offset + size].tobytes())
        self._legs.at_work = None
        return placement.only(~is_opus)


def telephone_event(leg: Leg, ended: EndedEvent, clock: int) -> TelephoneEvent:
    """An event with its duration in milliseconds; `clock` is RTP clock ticks in 20 ms."""
    return TelephoneEvent(leg.leg_id, ended.event, ended.duration * 20 // clock)
