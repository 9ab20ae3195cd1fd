"""What comes for legs is decrypted, whatever it is; what is not right is counted against its leg."""

from __future__ import annotations

import numpy as np

from relay.bench.ears import AUTHENTICATED_EVERY, Ears, OpusStream
from relay.bench.work import SSRC_OF_RELAY, Work
from relay.codecs import g711
from relay.codecs.opus import OpusDecoder, OpusEncoder
from relay.plane.packets import PacketTable
from relay.plane.rtp import HEADER_BYTES, write_headers
from relay.plane.srtp import RowCrypto, SrtpContext

WORK = Work(legs=4, conference=2, seed="x")
LEGS = np.arange(4)


class Line:
    """A relay that sends each leg one packet a call, and the ears that get them."""

    def __init__(self, work: Work = WORK, sequence: int = 1001) -> None:
        self.table = PacketTable(8, 512)
        self.ears = Ears(work, self.table)
        self.sequence = sequence
        keys = [work.key_of_relay(leg) for leg in range(4)]
        self._contexts = [SrtpContext(key, inbound=False) for key in keys if key]
        self._crypto = RowCrypto(self.table)

    def send(self, *, payload_type: int = 0, size: int = 160) -> np.ndarray:
        """Encrypted in rows 0 to 3; returns what is in them."""
        said = (np.arange(4 * 160).reshape(4, 160) * 7 + self.sequence & 0xFF).astype(np.uint8)[:, :size]
        write_headers(
            self.table,
            4,
            second=np.full(4, payload_type, np.uint8),
            sequence=np.full(4, self.sequence & 0xFFFF, np.uint16),
            timestamp=np.zeros(4, np.uint32),
            ssrc=(SSRC_OF_RELAY + LEGS).astype(np.uint32),
        )
        self.table.data[:4, HEADER_BYTES : HEADER_BYTES + size] = said
        self.table.length[:4] = HEADER_BYTES + size
        if self._contexts:
            self._crypto.protect(range(4), [context.handle for context in self._contexts])
        self.sequence += 1
        samples = np.empty(said.shape, np.int16)
        g711.decode_int16("PCMU", said, samples)
        return samples


def test_every_packet_is_understood_and_one_in_fifty_authenticated() -> None:
    line = Line()
    for _ in range(2 * AUTHENTICATED_EVERY):
        said = line.send()
        sound = line.ears.understand(4)
        assert sound.legs.tolist() == [0, 1, 2, 3]
        assert np.array_equal(sound.frames, said)
    assert line.ears.understood == 4 * 2 * AUTHENTICATED_EVERY
    assert line.ears.authenticated == 4 * (1 + 2)  # and the first
    assert line.ears.refused.tolist() == [0, 0, 0, 0]


def test_a_rollover_right_after_the_first_packet() -> None:
    line = Line(sequence=65_535)
    for _ in range(2 * AUTHENTICATED_EVERY):
        said = line.send()
        assert np.array_equal(line.ears.understand(4).frames, said)
    assert line.ears.refused.tolist() == [0, 0, 0, 0]


def test_a_forged_packet_is_counted_when_its_turn_comes() -> None:
    line = Line()
    line.send()
    line.ears.understand(4)
    for _ in range(AUTHENTICATED_EVERY):
        line.send()
        line.table.data[2, HEADER_BYTES + 3] ^= 1
        line.ears.understand(4)
    assert line.ears.refused.tolist() == [0, 0, 1, 0]
    line.ears.begin()
    assert (line.ears.refused.sum(), line.ears.understood, line.ears.authenticated) == (0, 0, 0)


def test_another_size_is_refused_and_another_type_passed_over() -> None:
    line = Line()
    line.send(size=80)
    assert line.ears.understand(4).legs.tolist() == []
    assert line.ears.refused.tolist() == [1, 1, 1, 1]
    line.send(payload_type=13)
    assert line.ears.understand(4).legs.tolist() == []
    assert line.ears.refused.tolist() == [1, 1, 1, 1]


def test_a_stranger_is_passed_over() -> None:
    line = Line()
    line.send()
    line.table.header["ssrc"][1] = 77
    assert line.ears.understand(4).legs.tolist() == [0, 2, 3]


def test_nothing_came() -> None:
    assert Line().ears.understand(0).legs.tolist() == []


def test_without_encryption() -> None:
    line = Line(Work(legs=4, conference=2, srtp=False))
    said = line.send()
    assert np.array_equal(line.ears.understand(4).frames, said)
    assert line.ears.authenticated == 0


def test_opus_streams_that_are_the_same_are_decoded_once_until_they_part() -> None:
    encoder, packets = OpusEncoder(48_000), []
    tone = np.rint(np.sin(np.arange(9600) * 2 * np.pi * 440 / 48_000) * 6000).astype(np.int16).reshape(10, 960)
    for frame in tone:
        out = np.zeros(400, np.uint8)
        packets.append(out[: encoder.encode(frame, out)].tobytes())
    alone, expected = OpusDecoder(8000), np.zeros((10, 160), np.int16)
    for packet, out in zip(packets, expected, strict=True):
        alone.decode(packet, len(packet), out)
    one = other = OpusStream.begin()
    for n, packet in enumerate(packets[:6]):
        one, other = one.after(packet), other.after(packet)
        assert one is other
        assert np.array_equal(one.frame, expected[n])
    parted = other.after(packets[8])
    for n, packet in enumerate(packets[6:], 6):
        one = one.after(packet)
        assert one.good
        if n > 6:
            assert not np.array_equal(one.frame, expected[n])  # a decoder that began anew
    assert parted.good
    assert not one.after(b"\xff").good
    assert not one.after(b"").good


def test_the_first_of_each_call_speaks_opus_and_the_others_g711() -> None:
    work = Work(legs=4, conference=2, codec="opus+pcmu", srtp=False)
    assert work.payload_types.tolist() == [111, 0, 111, 0]
    assert work.timestamp_steps.tolist() == [960, 160, 960, 160]
    line = Line(work)
    said = line.send()
    packet = np.zeros(400, np.uint8)
    size = OpusEncoder(48_000).encode(np.zeros(960, np.int16), packet)
    for row in (0, 2):
        line.table.header["second"][row] = 111
        line.table.data[row, HEADER_BYTES : HEADER_BYTES + size] = packet[:size]
        line.table.length[row] = HEADER_BYTES + size
    sound = line.ears.understand(4)
    assert sound.legs.tolist() == [0, 1, 2, 3]
    assert np.array_equal(sound.frames[[1, 3]], said[[1, 3]])
    assert np.abs(sound.frames[[0, 2]]).max() <= 1
    line.table.header["second"][:4] = [0, 111, 111, 0]  # the other's codec
    assert line.ears.understand(4).legs.tolist() == [2, 3]
