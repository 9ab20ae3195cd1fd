"""SeaweedFS, an S3 store of other people's making: over https with a private authority, and with access keys."""

from __future__ import annotations

import json
import random
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from relay.certificates import ensure

ACCESS_KEY, SECRET_KEY = "koppel-test", "the right secret"
BUCKET = "recordings"
START_SECONDS = 30.0
GRPC = 10_000
"""SeaweedFS talks to itself on each port + 10,000."""


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A store that may be running."""

    program: str
    folder: Path
    ports: tuple[int, ...]
    ca_file: Path

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.ports[0]}"

    def environment(self, *, secret: str = SECRET_KEY) -> dict[str, str]:
        """The relay's settings for it."""
        return {
            "KOPPEL_RECORDING__STORE": f"s3://{BUCKET}/calls",
            "KOPPEL_RECORDING__S3__ENDPOINT": self.endpoint,
            "KOPPEL_RECORDING__S3__ACCESS_KEY_ID": ACCESS_KEY,
            "KOPPEL_RECORDING__S3__SECRET_ACCESS_KEY": secret,
            "KOPPEL_RECORDING__S3__CA_FILE": str(self.ca_file),
            "KOPPEL_RECORDING__RETRY_SECONDS_MAX": "1",
            "KOPPEL_LIMITS__DRAIN_SECONDS": "2",
        }

    @contextmanager
    def running(self) -> Iterator[Seaweed]:
        """Until the end of the block."""
        with (self.folder / "weed.log").open("ab") as log:
            process = subprocess.Popen(self._command(), stdout=log, stderr=log, cwd=self.folder)
        try:
            self._wait(process)
            yield self
        finally:
            process.kill()
            process.wait()

    def _command(self) -> list[str]:
        https, plain, master, volume, filer = self.ports
        return [
            self.program,
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.folder}",
            f"-master.port={master}",
            "-master.volumeSizeLimitMB=32",
            "-master.telemetry=false",
            f"-volume.port={volume}",
            "-volume.max=20",
            f"-filer.port={filer}",
            "-s3",
            f"-s3.port={plain}",
            f"-s3.port.https={https}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self.folder / 's3.json'}",
            f"-s3.cert.file={self.folder / 'tls' / 'server.pem'}",
            f"-s3.key.file={self.folder / 'tls' / 'server.key'}",
        ]

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        trusted = ssl.create_default_context(cafile=self.ca_file)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.endpoint, trusted):
            assert process.poll() is None, (self.folder / "weed.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "weed.log").read_text()
            time.sleep(0.1)


def _answers(endpoint: str, trusted: ssl.SSLContext) -> bool:
    try:
        urllib.request.urlopen(f"{endpoint}/healthz", context=trusted, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


def seaweed(program: str, folder: Path) -> Seaweed:
    """Prepare one on free ports, with its keys and its certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tls").mkdir()
    files = ensure(folder / "tls", ["127.0.0.1"], now=datetime.now(UTC))
    assert files.ca_file is not None
    identity = {
        "name": "koppel",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    return Seaweed(program, folder, _free_ports(5), files.ca_file)


def _free_ports(count: int) -> tuple[int, ...]:
    """Ports whose neighbours for gRPC are free too."""
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            port = random.randrange(12_000, 22_000)
            try:
                for each in (port, port + GRPC):
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", each))
            except OSError:
                continue
            found.append(port)
    return tuple(found)
