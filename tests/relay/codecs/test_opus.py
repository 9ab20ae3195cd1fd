"""Real packets through the real library: levels by correlation, losses, errors, and memory."""

import gc
import threading

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer.speech_like import speech_like
from relay.codecs import opus
from relay.codecs.opus import (
    FRAME_SAMPLES,
    OpusDecoder,
    OpusEncoder,
    error_text,
    is_packet,
    packet_frames,
    packet_samples,
)
from relay.errors import LocalError

RATES = [8000, 12000, 16000, 24000, 48000]


def tone(rate, seconds=1.0, hertz=440.0):
    return np.rint(8000 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.int16)


def packets(sound, rate, **settings):
    encoder, out = OpusEncoder(rate, **settings), np.zeros(1500, np.uint8)
    coded = []
    for frame in sound.reshape(-1, rate // 50):
        length = encoder.encode(frame, out)
        assert length > 0
        coded.append(bytes(out[:length]))
    return coded


def decoded(coded, rate):
    decoder, out = OpusDecoder(rate), np.zeros(rate // 50, np.int16)
    sound = []
    for packet in coded:
        assert decoder.decode(packet, len(packet), out) == rate // 50
        sound.append(out.copy())
    return np.concatenate(sound)


def snr_db(original, heard):
    """Signal to noise after the best delay (found by correlation) and gain."""
    a, b = original.astype(float), heard.astype(float)
    size = 1 << (a.size * 2 - 1).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)))
    delay = int(correlation[: a.size // 4].argmax())
    a, b = a[: a.size - delay], b[delay:]
    gain = a @ b / (a @ a)
    return 10 * np.log10((gain * gain * (a @ a)) / ((b - gain * a) @ (b - gain * a)))


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_comes_back(rate):
    sound = tone(rate)
    assert snr_db(sound[rate // 5 :], decoded(packets(sound, rate), rate)[rate // 5 :]) > 15


@pytest.mark.parametrize("listening_rate", RATES)
def test_any_packet_decodes_at_any_rate(listening_rate):
    heard = decoded(packets(tone(48000), 48000), listening_rate)
    expected = tone(listening_rate)
    assert heard.size == expected.size
    assert snr_db(expected[listening_rate // 5 :], heard[listening_rate // 5 :]) > 15


def test_speech_comes_back():
    """SILK codes the sound rather than the wave: 4 dB is a correlation of 0.85."""
    voice = speech_like(48000, 3, 1).astype(np.int16)
    assert snr_db(voice, decoded(packets(voice, 48000), 48000)) > 4


def test_another_decoder_understands_our_packets():
    """FFmpeg's own Opus decoder, not libopus."""
    decoder = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = 48000, "mono"
    assert decoder.codec.name == "opus"
    sound = tone(48000)
    frames = [frame for packet in packets(sound, 48000) for frame in decoder.decode(av.Packet(packet))]
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    assert snr_db(sound[9600:], heard[9600 : sound.size] * 32768) > 15


def test_we_understand_another_encoder_stereo_too():
    """PyAV's coder, as a browser sends it: two channels, decoded to one."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = 48000, "stereo", "s16", 64000
    encoder.open()
    sound = tone(48000)
    coded = []
    for index, frame in enumerate(sound.reshape(-1, 960)):
        audio = av.AudioFrame.from_ndarray(np.repeat(frame, 2)[None], "s16", "stereo")
        audio.sample_rate, audio.pts = 48000, index * 960
        coded += [bytes(packet) for packet in encoder.encode(audio)]
    heard = decoded(coded, 48000)
    assert snr_db(sound[9600 : heard.size], heard[9600:]) > 15


@pytest.mark.parametrize("complexity", [0, 5, 10])
@pytest.mark.parametrize("bitrate", [16000, 32000, 64000])
def test_the_bitrate_is_kept_and_no_packet_is_left_out(bitrate, complexity):
    """No DTX: a packet for silence too."""
    sound = np.concatenate([speech_like(48000, 2, 3).astype(np.int16), np.zeros(48000, np.int16)])
    coded = packets(sound, 48000, bitrate=bitrate, complexity=complexity)
    assert len(coded) == 150
    assert min(map(len, coded)) > 2
    assert sum(map(len, coded[:100])) * 8 / 2 < bitrate * 1.3


def test_a_frame_of_the_wrong_length_is_refused():
    encoder, out = OpusEncoder(48000), np.zeros(1500, np.uint8)
    assert encoder.encode(np.zeros(959, np.int16), out) == opus.BAD_ARGUMENT
    assert encoder.encode(np.zeros(960, np.int16), out[:0]) == opus.BAD_ARGUMENT
    assert encoder.encode(np.zeros(960, np.int16), out) > 0


def test_losses_are_concealed_and_the_stream_goes_on():
    coded = packets(tone(16000), 16000)
    decoder, out = OpusDecoder(16000), np.zeros(320, np.int16)
    for packet in coded[:20]:
        decoder.decode(packet, len(packet), out)
    before = np.abs(out.astype(int)).max()
    assert decoder.conceal(out) == 320
    # The first concealed frame goes on sounding like the last one, and a long gap falls silent.
    assert np.abs(out.astype(int)).max() > before / 3
    for _ in range(30):
        decoder.conceal(out)
    assert np.abs(out.astype(int)).max() < before / 20
    assert decoder.decode(coded[21], len(coded[21]), out) == 320


def test_fec_recovers_a_lost_packet_better_than_concealment():
    voice = speech_like(16000, 4, 11).astype(np.int16)
    encoder, out = OpusEncoder(16000, 32000, 10, fec=True), np.zeros(1500, np.uint8)
    encoder.set_expected_loss(25)
    coded = []
    for frame in voice.reshape(-1, 320):
        length = encoder.encode(frame, out)
        coded.append(bytes(out[:length]))
    whole = decoded(coded, 16000).reshape(-1, 320)
    frame = np.zeros(320, np.int16)
    error = {"fec": 0.0, "conceal": 0.0}
    for way in error:
        decoder = OpusDecoder(16000)
        for index, packet in enumerate(coded[:-1]):
            if index % 5 != 4:
                decoder.decode(packet, len(packet), frame)
                continue
            following = coded[index + 1]
            got = decoder.decode_fec(following, len(following), frame) if way == "fec" else decoder.conceal(frame)
            assert got == 320
            error[way] += float(np.sum((frame - whole[index].astype(float)) ** 2))
    assert error["fec"] < error["conceal"] / 3


def test_packets_tell_their_length():
    (packet, *_) = packets(tone(48000, 0.1), 48000)
    assert packet_samples(packet, len(packet)) == 960
    assert packet_samples(packet, len(packet), 8000) == 160
    assert packet_frames(packet, len(packet)) == 1
    # RFC 6716 §3.1, by hand: configuration 16 (CELT NB, 2.5 ms) with code 3, two frames; then 60 ms of SILK.
    assert packet_samples(bytes([16 << 3 | 3, 2]), 2) == 240
    assert packet_frames(bytes([16 << 3 | 3, 2]), 2) == 2
    assert packet_samples(bytes([3 << 3]), 1) == 2880


def test_malformed_packets_are_negative_numbers_with_a_name():
    decoder, out = OpusDecoder(48000), np.zeros(5760, np.int16)
    junk = b"\xff\xff\xff"
    assert decoder.decode(junk, 3, out) == opus.INVALID_PACKET
    assert error_text(opus.INVALID_PACKET) == "corrupted stream"
    assert packet_samples(b"\xff", 1) == opus.INVALID_PACKET
    assert packet_samples(b"", 0) == packet_frames(b"", 0) == opus.BAD_ARGUMENT


def test_lengths_beyond_the_payload_are_refused():
    decoder, out = OpusDecoder(48000), np.zeros(960, np.int16)
    for length in (-1, 0, 4):
        assert decoder.decode(b"\x08aa", length, out) == opus.BAD_ARGUMENT
        assert decoder.decode_fec(b"\x08aa", length, out) == opus.BAD_ARGUMENT
        assert packet_samples(b"\x08aa", length) == opus.BAD_ARGUMENT


def test_a_packet_longer_than_the_room_is_refused_and_writes_nothing_beyond():
    decoder, table = OpusDecoder(48000), np.full((2, 480), 77, np.int16)
    (packet, *_) = packets(tone(48000, 0.1), 48000)
    assert decoder.decode(packet, len(packet), table[0]) == opus.BUFFER_TOO_SMALL
    assert (table[1] == 77).all()


@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_break_a_decoder(junk):
    decoder, out = OpusDecoder(8000), np.zeros(960, np.int16)
    assert decoder.decode(junk, len(junk), out) <= 960
    packet_samples(junk, len(junk))
    assert decoder.conceal(out[:160]) == 160


def test_by_addresses_it_is_the_same():
    table, payloads = np.zeros((3, 960), np.int16), np.zeros((3, 256), np.uint8)
    table[1] = tone(48000, 0.02)
    encoder, plain = OpusEncoder(48000), OpusEncoder(48000)
    length = encoder.encode_at(table[1].ctypes.data, 960, payloads[2].ctypes.data, 256)
    expected = np.zeros(256, np.uint8)
    assert plain.encode(table[1], expected) == length
    assert (payloads[2] == expected).all()
    decoder = OpusDecoder(48000)
    assert decoder.decode_at(payloads[2].ctypes.data, length, table[0].ctypes.data, 960) == 960
    assert table[0].any()
    assert decoder.conceal_at(table[2].ctypes.data, 960) == 960
    assert table[2].any()


def test_reset_forgets():
    coded = packets(tone(8000), 8000)
    decoder, first, again = OpusDecoder(8000), np.zeros(160, np.int16), np.zeros(160, np.int16)
    decoder.decode(coded[0], len(coded[0]), first)
    for packet in coded[1:10]:
        decoder.decode(packet, len(packet), again)
    decoder.reset()
    decoder.decode(coded[0], len(coded[0]), again)
    assert (first == again).all()
    encoder, out = OpusEncoder(8000), np.zeros(1500, np.uint8)
    sound = tone(8000).reshape(-1, 160)
    for frame in sound[:10]:
        encoder.encode(frame, out)
    encoder.reset()
    length = encoder.encode(sound[0], out)
    assert bytes(out[:length]) == coded[0]


@pytest.mark.parametrize("make", [OpusDecoder, OpusEncoder])
def test_rates_that_opus_does_not_know_are_our_own_fault(make):
    with pytest.raises(LocalError, match="invalid argument"):
        make(44100)


def test_settings_out_of_range_are_our_own_fault():
    with pytest.raises(LocalError, match="refused setting 4010"):
        OpusEncoder(48000, 32000, 11)
    OpusEncoder(48000).set_expected_loss(1000)


def test_coders_are_freed_once_whether_closed_or_not(monkeypatch):
    freed = []
    real = {name: getattr(opus._LIBRARY, name) for name in ("opus_decoder_destroy", "opus_encoder_destroy")}
    for name, destroy in real.items():
        monkeypatch.setattr(
            opus._LIBRARY, name, lambda pointer, destroy=destroy: (freed.append(pointer), destroy(pointer))
        )
    closed, dropped, encoder = OpusDecoder(8000), OpusDecoder(8000), OpusEncoder(8000)
    pointers = {coder._pointer for coder in (closed, dropped, encoder)}
    closed.close()
    closed.close()
    encoder.close()
    del dropped
    gc.collect()
    assert len(freed) == 3
    assert set(freed) == pointers


def test_threads_code_apart():
    """Coders of one thread each, as the tick's workers hold them: the same packets as one after the other."""
    sounds = [tone(48000, 0.4, hertz) for hertz in (300, 500, 700, 900)]
    expected = [packets(sound, 48000) for sound in sounds]
    got = [[] for _ in sounds]
    threads = [
        threading.Thread(target=lambda i=i, sound=sound: got[i].extend(packets(sound, 48000)))
        for i, sound in enumerate(sounds)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_it_says_its_version():
    assert opus.version().startswith("libopus 1.")


@pytest.mark.parametrize("configuration", range(32))
def test_the_length_of_a_frame_is_what_libopus_says(configuration):
    payload = bytes([configuration << 3]) + bytes(20)
    assert packet_samples(payload, len(payload)) == FRAME_SAMPLES[configuration]


@pytest.mark.parametrize("size", [1, 2, 3, 160, 1276])
def test_any_packet_of_one_frame_is_whole(size):
    for first in range(0, 256, 4):
        payload = bytes([first]) + b"\xff" * (size - 1)
        assert is_packet(payload, len(payload))
    assert not is_packet(bytes(1277), 1277)
