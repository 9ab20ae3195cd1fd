from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from relay.certificates import (
    CERTIFICATE_LIFE,
    Authority,
    Certificates,
    client_context,
    ensure,
    named,
    own_names,
    server_context,
)
from relay.errors import OperatorError

NOW = datetime.now(UTC)


def certificate_in(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict[str, object] | None:
    """Shake hands over a socket pair; what the server saw of the client's certificate."""
    near, far = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as tls:
                seen.append(tls.getpeercert())
                tls.recv(1)
        except OSError as error:
            seen.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(near, server_hostname=name) as tls:
            tls.send(b"x")
    finally:
        near.close()
        thread.join(10)
    if isinstance(seen[0], Exception):
        raise seen[0]
    return seen[0]  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "phone.example.org"])
def test_a_client_that_trusts_the_authority_trusts_the_relay(tmp_path: Path, name: str) -> None:
    files = ensure(tmp_path, own_names(["phone.example.org"]), now=NOW)
    assert handshake(server_context(files), client_context(files.ca_file), name) is None


def test_nobody_else_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = ensure(tmp_path / "a", ["localhost"], now=NOW)
    other = ensure(tmp_path / "b", ["localhost"], now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(ours), client_context(other.ca_file), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(ours), client_context(ours.ca_file), "example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server_context(ours), client_context(), "localhost")


def test_old_protocols_are_refused(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    assert server_context(files).minimum_version == ssl.TLSVersion.TLSv1_2
    assert client_context(files.ca_file).minimum_version == ssl.TLSVersion.TLSv1_2


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    ensure(tmp_path, ["localhost"], now=NOW)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == dict.fromkeys(
        ["ca.key", "ca.pem", "server.key", "server.pem"], 0o600
    )


def test_the_authority_signs_nothing_but_ends(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    assert files.ca_file is not None
    authority = certificate_in(files.ca_file)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    server = certificate_in(files.certificate_file)
    assert server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert server.not_valid_after_utc - server.not_valid_before_utc == CERTIFICATE_LIFE
    assert authority.not_valid_after_utc - authority.not_valid_before_utc == timedelta(days=3650)


def test_a_good_certificate_is_kept(tmp_path: Path) -> None:
    first = ensure(tmp_path, ["localhost", "10.0.0.1"], now=NOW).certificate_file.read_bytes()
    assert ensure(tmp_path, ["localhost"], now=NOW + timedelta(days=360)).certificate_file.read_bytes() == first


@pytest.mark.parametrize(
    ("days", "names"), [(368, ["localhost"]), (0, ["localhost", "10.0.0.2"])], ids=["runs out soon", "address changed"]
)
def test_a_certificate_is_renewed_under_the_same_authority(tmp_path: Path, days: int, names: list[str]) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    assert files.ca_file is not None
    before, authority = certificate_in(files.certificate_file), files.ca_file.read_bytes()
    after = certificate_in(ensure(tmp_path, names, now=NOW + timedelta(days=days)).certificate_file)
    assert after != before
    after.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    assert files.ca_file.read_bytes() == authority


def test_an_authority_near_its_end_is_replaced_with_all_it_signed(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    later = NOW + timedelta(days=3650 - 300)
    files = ensure(tmp_path, ["localhost"], now=later)
    assert files.ca_file is not None
    authority = certificate_in(files.ca_file)
    assert authority.not_valid_after_utc > later + timedelta(days=3600)
    certificate_in(files.certificate_file).verify_directly_issued_by(authority)


@pytest.mark.parametrize("lost", ["server.key", "server.pem", "ca.pem"])
def test_lost_files_come_back(tmp_path: Path, lost: str) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    (tmp_path / lost).unlink()
    assert ensure(tmp_path, ["localhost"], now=NOW) == files
    assert handshake(server_context(files), client_context(files.ca_file), "localhost") is None


def test_a_certificate_of_another_key_or_authority_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = ensure(tmp_path / "a", ["localhost"], now=NOW)
    other = ensure(tmp_path / "b", ["localhost"], now=NOW)
    for file in (files.certificate_file, files.key_file):
        file.write_bytes((other.certificate_file if file.suffix == ".pem" else other.key_file).read_bytes())
        ensure(tmp_path / "a", ["localhost"], now=NOW)
        assert handshake(server_context(files), client_context(files.ca_file), "localhost") is None
    files.certificate_file.write_text("garbage")
    ensure(tmp_path / "a", ["localhost"], now=NOW)
    assert handshake(server_context(files), client_context(files.ca_file), "localhost") is None


def test_a_damaged_authority_is_the_operators_choice(tmp_path: Path) -> None:
    ensure(tmp_path, ["localhost"], now=NOW)
    (tmp_path / "ca.key").write_text("garbage")
    with pytest.raises(OperatorError, match=r"ca\.key is damaged: remove it"):
        ensure(tmp_path, ["localhost"], now=NOW)


def test_clients_may_show_a_certificate_and_need_not(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    server = server_context(files, client_ca_file=files.ca_file)
    assert handshake(server, client_context(files.ca_file), "localhost") is None
    chain, key = Authority.load_or_make(tmp_path, now=NOW).issue(["carrier.example.org"], now=NOW, client=True)
    (tmp_path / "c.pem").write_bytes(chain)
    (tmp_path / "c.key").write_bytes(key)
    client = client_context(files.ca_file)
    client.load_cert_chain(tmp_path / "c.pem", tmp_path / "c.key")
    seen = handshake(server, client, "localhost")
    assert seen is not None
    assert seen["subjectAltName"] == (("DNS", "carrier.example.org"),)


def test_the_operators_own_certificate(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    own = named(files.certificate_file, files.key_file)
    assert own == Certificates(files.certificate_file, files.key_file, None)
    assert handshake(server_context(own), client_context(files.ca_file), "localhost") is None
    files.key_file.chmod(0o644)
    with pytest.raises(OperatorError, match="chmod 600"):
        named(files.certificate_file, files.key_file)


def test_files_that_are_no_certificates_are_said(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["localhost"], now=NOW)
    text = tmp_path / "text"
    text.write_text("hello")
    with pytest.raises(OperatorError, match="not a certificate in PEM and its unencrypted key"):
        server_context(Certificates(text, files.key_file, None))
    with pytest.raises(OperatorError, match="not a file of certificates"):
        client_context(text)
    with pytest.raises(OperatorError, match="not a file of certificates"):
        server_context(files, client_ca_file=tmp_path / "none")


def test_own_names_hold_loopback_and_host(tmp_path: Path) -> None:
    names = own_names(["x.example.org", "localhost"])
    assert {"localhost", "127.0.0.1", "::1", "x.example.org", socket.gethostname().lower()} <= set(names)
    assert len(set(names)) == len(names)
