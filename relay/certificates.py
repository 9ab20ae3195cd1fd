"""The relay's own certificate authority, the certificate it renews by itself, and TLS contexts made of them.

The authority is for one instance: browsers and trunks that are told to trust its `ca.pem` trust this relay, and the key
never leaves the data directory. An operator with a certificate of a public authority names its files instead.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay import interfaces
from relay.data_directory import read_secret_file, write_secret_file
from relay.errors import OperatorError

__all__ = ["Authority", "Certificates", "client_context", "ensure", "named", "own_names", "server_context"]

AUTHORITY_LIFE = timedelta(days=3650)
CERTIFICATE_LIFE = timedelta(days=397)
"""The longest that browsers accept (CA/Browser Forum ballot SC31)."""
RENEWAL = timedelta(days=30)
"""A certificate with less than this left is made anew."""
CLOCK_SKEW = timedelta(hours=1)
"""How far behind ours a peer's clock may be."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files that a TLS server needs; `ca_file` is what a client must trust, or None for a public authority."""

    certificate_file: Path
    key_file: Path
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class Authority:
    """A self-made certificate authority: its certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load_or_make(cls, folder: Path, *, now: datetime) -> Authority:
        """The authority of `folder`, made at the first call, and anew when its ten years are nearly over."""
        file = folder / "ca.key"
        held = _parse(file) if file.exists() else None
        if held is None or held.certificate.not_valid_after_utc - now <= CERTIFICATE_LIFE:
            held = _make_authority(now)
            write_secret_file(file, _pem_key(held.key) + _pem(held.certificate))
        published = folder / "ca.pem"
        if not published.exists() or published.read_bytes() != _pem(held.certificate):
            write_secret_file(published, _pem(held.certificate))
        return held

    def issue(self, names: Iterable[str], *, now: datetime, client: bool = False) -> tuple[bytes, bytes]:
        """A certificate for `names` (DNS names and addresses) with this authority's behind it, and its key, in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subjects = list(names)
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH] if client else [ExtendedKeyUsageOID.SERVER_AUTH]
        certificate = (
            _begin(_common_name(subjects[0]), self.certificate.subject, key, now, CERTIFICATE_LIFE)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in subjects]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _pem(certificate) + _pem(self.certificate), _pem_key(key)


def ensure(folder: Path, names: Iterable[str], *, now: datetime) -> Certificates:
    """The self-made certificate in `folder`, renewed when it runs out soon or a name is missing in it."""
    authority = Authority.load_or_make(folder, now=now)
    files = Certificates(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    wanted = sorted(set(names))
    if not _still_good(files, authority, wanted, now):
        certificate, key = authority.issue(wanted, now=now)
        write_secret_file(files.key_file, key)
        write_secret_file(files.certificate_file, certificate)
    return files


def named(certificate_file: Path, key_file: Path) -> Certificates:
    """The operator's own certificate, of an authority that clients know."""
    read_secret_file(key_file)
    return Certificates(certificate_file, key_file, None)


def own_names(extra: Iterable[str] = ()) -> tuple[str, ...]:
    """What this machine is called: loopback names, host name, and the addresses of its interfaces."""
    names = ["localhost", "::1", *interfaces.addresses(), socket.gethostname().lower(), *extra]
    return tuple(dict.fromkeys(name for name in names if name))


def server_context(certificates: Certificates, *, client_ca_file: Path | None = None) -> ssl.SSLContext:
    """A server's context; with `client_ca_file` it asks for a client certificate, and takes none for an answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(certificates.certificate_file, certificates.key_file, password="")
    except (OSError, ssl.SSLError) as error:
        raise OperatorError(
            f"{certificates.certificate_file} and {certificates.key_file} are not a certificate in PEM and its "
            f"unencrypted key ({error})"
        ) from None
    if client_ca_file is not None:
        _trust(context, client_ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """A client's context that trusts `ca_file` alone; without one, the public authorities of the machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        _trust(context, ca_file)
    return context


def _trust(context: ssl.SSLContext, ca_file: Path) -> None:
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise OperatorError(f"{ca_file} is not a file of certificates in PEM ({error})") from None


def _still_good(files: Certificates, authority: Authority, names: list[str], now: datetime) -> bool:
    if not (files.certificate_file.exists() and files.key_file.exists()):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
        key = serialization.load_pem_private_key(read_secret_file(files.key_file), None)
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        certificate.not_valid_after_utc - now > RENEWAL
        and certificate.public_key() == key.public_key()
        and {_general_name(name) for name in names} <= set(held)
    )


def _make_authority(now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number in the name keeps the authorities of several instances apart in a browser's list.
    name = _common_name(f"Koppel on {socket.gethostname()[:32]} {x509.random_serial_number() & 0xFFFFFF:06x}")
    certificate = (
        _begin(name, name, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now - CLOCK_SKEW + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _parse(file: Path) -> Authority:
    data = read_secret_file(file)
    try:
        key = serialization.load_pem_private_key(data, None)
        certificate = x509.load_pem_x509_certificate(data)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("not a key of an elliptic curve")
    except (ValueError, TypeError):
        raise OperatorError(
            f"{file} is damaged: remove it, and a new authority is made that clients must trust anew"
        ) from None
    return Authority(certificate, key)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
