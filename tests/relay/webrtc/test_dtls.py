from __future__ import annotations

import contextlib

import pytest
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_AES128_CM_SHA1_80
from OpenSSL import SSL

from relay.webrtc import dtls
from tests.relay.shared_socket import CERTIFICATE


def handshake(client: SSL.Connection, server: SSL.Connection) -> None:
    ends = ((client, server), (server, client))
    for _ in range(10):
        for end, other in ends:
            with contextlib.suppress(SSL.WantReadError):
                end.do_handshake()
            while True:
                try:
                    other.bio_write(end.bio_read(1500))
                except SSL.WantReadError:
                    break


def test_one_context_serves_all_legs_on_either_side_and_keeps_nothing_of_them():
    certificate = dtls.SharedContextCertificate(CERTIFICATE)
    context = certificate._create_ssl_context([SRTP_AES128_CM_SHA1_80])
    assert certificate._create_ssl_context([SRTP_AES128_CM_SHA1_80]) is context
    assert context.get_session_cache_mode() == SSL.SESS_CACHE_OFF
    materials = set()
    for _ in range(2):
        client, server = SSL.Connection(context), SSL.Connection(context)
        client.set_connect_state()
        server.set_accept_state()
        handshake(client, server)
        keys = [end.export_keying_material(b"EXTRACTOR-dtls_srtp", 60) for end in (client, server)]
        assert keys[0] == keys[1]
        assert client.get_selected_srtp_profile() == b"SRTP_AES128_CM_SHA1_80"
        materials.add(keys[0])
    assert len(materials) == 2


def test_it_is_the_certificate_that_it_was_made_of():
    certificate = dtls.SharedContextCertificate(CERTIFICATE)
    assert certificate.getFingerprints() == CERTIFICATE.getFingerprints()
    assert certificate.expires == CERTIFICATE.expires


@pytest.mark.parametrize("name", dtls.PRIVATE_NAMES_OF_CERTIFICATE)
def test_the_private_names_are_there(name):
    assert hasattr(RTCCertificate.generateCertificate(), name)
