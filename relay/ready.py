"""The ready file: where everything is, once all of it is up; read by scripts, and by the demo's own processes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoAgent:
    """Who may log in to the demo's softphone."""

    user: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DemoTrunk:
    """What to put into a SIP client to call in."""

    name: str
    username: str
    password: str = field(repr=False)
    dial: str
    """The SIP URI to call."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The contents of the ready file."""

    softphone_url: str
    api_url: str
    metrics_url: str
    sips_address: str
    """Host and port of the SIP listener with TLS."""
    ca_file: str
    """The authority that signed the certificate of all of these."""
    pid: int
    agent: DemoAgent | None = None
    trunk: DemoTrunk | None = None

    def encode(self) -> bytes:
        """One JSON object; agent and trunk only under the demo switch."""
        present = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(present, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Ready:
        """Read a ready file; raises ValueError, KeyError or TypeError for anything else."""
        content = dict(json.loads(data))
        agent, trunk = content.pop("agent", None), content.pop("trunk", None)
        return cls(
            **content,
            agent=None if agent is None else DemoAgent(**agent),
            trunk=None if trunk is None else DemoTrunk(**trunk),
        )

    def write(self, file: Path) -> None:
        """Write it whole or not at all, 0600; raises OSError."""
        partial = file.with_name(f".{file.name}.{self.pid}")
        partial.unlink(missing_ok=True)
        # Exclusive: in a folder that others may write to, the file could be theirs.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(self.encode())
        partial.replace(file)
