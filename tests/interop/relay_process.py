"""The relay as operators run it: `koppel serve` in a process of its own, stopped, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from relay.ready import DemoAgent, DemoTrunk, Ready

KOPPEL = Path(sys.executable).with_name("koppel")
START_SECONDS = 30.0
STOP_SECONDS = 30.0
LOOK_SECONDS = 0.05
QUIET = {"KOPPEL_HTTPS__PORT": "0", "KOPPEL_SIP__PORT": "0", "KOPPEL_DEMO__CUSTOMER": "false"}
ALWAYS_WRONG = re.compile(r"Traceback|Task exception|never retrieved|was never awaited|ResourceWarning")


async def wait_until(condition: Callable[[], Any], seconds: float = 10.0, *, what: str = "") -> Any:
    """Look until `condition` (which may be asynchronous) gives something true, and return that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert loop.time() < deadline, f"not within {seconds} s: {what or condition}"
        await asyncio.sleep(LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class RelayProcess:
    """One data directory, and the relay that runs on it."""

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str] | None = None, config: str = "", demo: bool = True
    ) -> None:
        self.folder = folder
        self.demo = demo
        self.data = folder / "data"
        self.log_file = folder / "relay.log"
        self.ready_file = folder / "ready.json"
        self.environment = dict(environment or {})
        self.may_log: tuple[str, ...] = ()
        """Events at level error that this test brings about."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: Ready | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if config:
            self.data.mkdir(mode=0o700, exist_ok=True)
            (self.data / "koppel.toml").write_text(config)
            (self.data / "koppel.toml").chmod(0o600)

    # ---- its life

    @property
    def ready(self) -> Ready:
        assert self._ready is not None, "start() reads the ready file"
        return self._ready

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> Self:
        """Returns when its ready file is there."""
        self._process = process = self._spawn()
        await wait_until(lambda: self._has_started(process), START_SECONDS, what="the relay's ready file")
        ready = Ready.parse(self.ready_file.read_bytes())
        assert ready.pid == process.pid
        self._ready = ready if self.demo else await self._with_user(ready)
        return self

    async def _with_user(self, ready: Ready) -> Ready:
        """Without the demo switch: an agent of our own, and the trunk of our own configuration."""
        added = await self.koppel("users", "add", f"agent{ready.pid}", "--json")
        assert added.code == 0, added.err
        (trunk,) = tomllib.loads((self.data / "koppel.toml").read_text())["trunks"]
        dial = f"sip:{trunk['number']}@{ready.sips_address};transport=tls"
        return replace(
            ready,
            agent=DemoAgent(added.json()["user"], added.json()["token"]),
            trunk=DemoTrunk(trunk["name"], trunk["username"], trunk["password"], dial),
        )

    async def stop(self) -> None:
        """SIGTERM: it ends by itself, with exit code 0, and has nothing to complain of."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self._process.wait, STOP_SECONDS) == 0, self.log()
        assert not self.ready_file.exists()
        self.check_log()

    def kill(self) -> None:
        """`kill -9`; returns when it is dead."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, kind: object, *_: object) -> None:
        if not self.is_running:
            return
        if kind is None:
            await self.stop()
        else:
            self.kill()
            sys.stderr.write(f"---- log of the relay in {self.folder}\n{self.log()[-20_000:]}\n")

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.ready_file.unlink(missing_ok=True)
        command = [KOPPEL, "serve", "--data-dir", self.data, "--ready-file", self.ready_file]
        if self.demo:
            command.append("--demo")
        with self.log_file.open("ab") as log:
            return subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)

    def _has_started(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, f"the relay ended with {process.returncode}:\n{self.log()}"
        return self.ready_file.exists()

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOPPEL_")}
        return {**inherited, **QUIET, **self.environment}

    # ---- what it says

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def log_lines(self) -> list[dict[str, Any]]:
        lines = []
        for line in self.log().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
        return lines

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log_lines() if event in str(line.get("event"))]

    def check_log(self) -> None:
        """No traceback, no error that the test did not bring about, no secret that it knows."""
        text = self.log()
        assert not ALWAYS_WRONG.search(text), text
        wrong = [line for line in self.log_lines() if line.get("level") in {"error", "critical"}]
        assert [line for line in wrong if not str(line["event"]).startswith(self.may_log or ("\0",))] == []
        if self._ready is not None and self._ready.agent is not None and self._ready.trunk is not None:
            assert self._ready.agent.token not in text
            assert self._ready.trunk.password not in text
            assert "4930555" not in text

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ready.ca_file)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(verify=self.tls(), trust_env=False) as client:
            return await client.get(self.ready.softphone_url.rstrip("/") + path)

    async def metrics(self) -> dict[str, float]:
        """Every sample: `name` or `name{value of its label}`."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families((await self.get("/metrics")).text):
            for sample in family.samples:
                label = "".join(f"{{{value}}}" for value in sample.labels.values())
                found[sample.name + label] = sample.value
        return found

    # ---- its commands

    async def koppel(self, *arguments: str | Path, data: Path | None = None) -> Ran:
        """Run another command on the same data directory."""
        command = [str(KOPPEL), *map(str, arguments), "--data-dir", str(data or self.data)]
        process = await asyncio.create_subprocess_exec(
            *command, env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        assert "Traceback" not in err.decode(), err.decode()
        return Ran(process.returncode, out.decode(), err.decode())

    async def recordings(self) -> list[dict[str, Any]]:
        ran = await self.koppel("recordings", "--json")
        assert ran.code == 0, ran.err
        return ran.json()

    async def wait_delivered(self, contact_id: str, seconds: float = 20.0) -> None:
        """Wait until the log says that a recording is in the store."""

        def stored() -> bool:
            return any(line.get("contact_id") == contact_id for line in self.logged("recording stored"))

        await wait_until(stored, seconds, what=f"the recording of {contact_id} in the store")

    async def verify(self, contact_id: str, *options: str) -> dict[str, Any]:
        """`koppel verify`, which must find that all is well: to level 3 unless told otherwise."""
        ran = await self.koppel("verify", contact_id, "--json", *(options or ("--replay",)))
        assert ran.code == 0, ran.out + ran.err
        answer = ran.json()
        assert answer["verified"], answer
        return answer
