"""DTLS-SRTP by aiortc, which hands the SRTP keys to us instead of protecting packets itself (RFC 5764).

Rests on names of aiortc 1.16 that it does not document; `PRIVATE_NAMES` lists them and the tests check each.
"""

from __future__ import annotations

from typing import Literal

from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCIceGatherer, RTCIceTransport
from aiortc.rtcdtlstransport import (
    SRTP_AEAD_AES_128_GCM,
    SRTP_AEAD_AES_256_GCM,
    SRTP_AES128_CM_SHA1_80,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
    State,
)
from OpenSSL import SSL

from relay.media import SrtpKey, SrtpSuite
from relay.webrtc.ice_sockets import SharedSocketConnection

PRIVATE_NAMES = ("_role", "_set_state", "_setup_srtp", "_srtp_profiles", "_ssl", "_set_role")
"""Attributes of `RTCDtlsTransport` that this module uses."""
PRIVATE_NAMES_OF_CERTIFICATE = ("_key", "_cert", "_create_ssl_context")
"""Attributes of `RTCCertificate` that this module uses."""

# The cheapest first: 0.55 µs a packet for GCM-128 against 0.75 for AES-CM with HMAC-SHA1.
PROFILES: tuple[tuple[SRTPProtectionProfile, SrtpSuite], ...] = (
    (SRTP_AEAD_AES_128_GCM, "AEAD_AES_128_GCM"),
    (SRTP_AEAD_AES_256_GCM, "AEAD_AES_256_GCM"),
    (SRTP_AES128_CM_SHA1_80, "AES_CM_128_HMAC_SHA1_80"),
)


_SRTP_PROFILES = [profile for profile, _ in PROFILES]


class SharedContextCertificate(RTCCertificate):
    """One certificate for all legs, with what depends on nothing else made once: TLS context and fingerprints."""

    def __init__(self, certificate: RTCCertificate) -> None:
        super().__init__(certificate._key, certificate._cert)  # noqa: SLF001 - see PRIVATE_NAMES_OF_CERTIFICATE
        self._fingerprints = super().getFingerprints()
        self._context: SSL.Context | None = None

    def getFingerprints(self) -> list[RTCDtlsFingerprint]:  # noqa: N802 - aiortc's name
        """By each algorithm."""
        return self._fingerprints

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            # Nothing is to be resumed, and nothing of a leg is to stay in what all share.
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context


class SharedSocketGatherer(RTCIceGatherer):
    """A gatherer around a connection that owns no socket."""

    def __init__(self, connection: SharedSocketConnection) -> None:
        # Without arguments aiortc would ask a public STUN server. It makes a connection that nobody uses; its
        # credentials would be drawn letter by letter.
        super().__init__(iceServers=[], local_username="none", local_password="n" * 22)
        self._connection = connection


class KeyingDtlsTransport(RTCDtlsTransport):
    """A DTLS transport that ends its handshake with keys in hand."""

    def __init__(
        self, transport: RTCIceTransport, certificate: RTCCertificate, setup: Literal["active", "passive"]
    ) -> None:
        super().__init__(transport, [certificate])
        self._srtp_profiles = _SRTP_PROFILES
        self._set_role("client" if setup == "active" else "server")
        self.receive_key: SrtpKey | None = None
        self.send_key: SrtpKey | None = None
        self.failure = "the DTLS handshake failed"
        """Why, once the state is `failed`."""

    def _validate_peer_identity(self, remoteParameters: RTCDtlsParameters) -> None:  # noqa: N803 - aiortc's name
        self.failure = "the certificate does not have the fingerprint of the offer"
        super()._validate_peer_identity(remoteParameters)

    def _setup_srtp(self) -> None:
        self.failure = "no SRTP protection profile in common"
        assert self._ssl is not None  # aiortc calls this when the handshake is done
        chosen = self._ssl.get_selected_srtp_profile()
        for profile, suite in PROFILES:
            if profile.openssl_profile == chosen:
                self._export_keys(self._ssl, profile, suite)
                return
        self._set_state(State.FAILED)

    def _export_keys(self, ssl: SSL.Connection, profile: SRTPProtectionProfile, suite: SrtpSuite) -> None:
        # RFC 5764 §4.2: client key, server key, client salt, server salt.
        length = 2 * (profile.key_length + profile.salt_length)
        material = ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", length)
        client, server = (SrtpKey(suite, profile.get_key_and_salt(material, side)) for side in (0, 1))
        is_client = self._role == "client"
        self.receive_key, self.send_key = (server, client) if is_client else (client, server)
