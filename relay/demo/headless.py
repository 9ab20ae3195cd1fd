"""`koppel demo --headless`: one whole call between two programs, from ring to proof, and what came of it.

A relay, a customer and an agent run in processes of their own. The customer calls over SIP/TLS and SRTP, the agent
answers over the WebSocket with stock WebRTC media; each sends one constant tone and says what it hears. Afterwards the
recording is verified, decrypted and rendered from the store, with the same code as `koppel verify` and `koppel export`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from mixer.sources import MUSIC_STRONGEST_HZ
from relay.config import Settings
from relay.data_directory import DataDirectory
from relay.demo.agent import AgentSetup
from relay.demo.hosting import caller_setup
from relay.demo.processes import DemoProcess
from relay.demo.proof import Archive, Proof
from relay.errors import OperatorError
from relay.ready import Ready

AGENT_HZ = 700.0
CUSTOMER_HZ = 1000.0
TOLERANCE_HZ = 5.0
BEFORE_HOLD_SECONDS = 3.5
HOLD_SECONDS = 4.0
AFTER_HOLD_SECONDS = 4.0
LISTEN_SECONDS = 1.5
START_SECONDS = 20.0
DEADLINE_SECONDS = 44.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Heard:
    """The strongest frequency that each really received."""

    agent: float
    customer: float
    customer_on_hold: float

    @property
    def as_expected(self) -> bool:
        """Whether each heard the other, and the customer on hold heard the music."""
        pairs = ((self.agent, CUSTOMER_HZ), (self.customer, AGENT_HZ), (self.customer_on_hold, MUSIC_STRONGEST_HZ))
        return all(abs(heard - expected) <= TOLERANCE_HZ for heard, expected in pairs)


def run(settings: Settings, *, config_file: Path | None = None, as_json: bool = False) -> int:
    """Make the call; returns 0 only if all of it held, 1 if something did not. Raises OperatorError if it could not."""
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(f"[cyan]·[/] {text}", highlight=False)

    try:
        answer = asyncio.run(_demo(settings, config_file, say))
    except TimeoutError:
        raise OperatorError(
            f"the demo call was not over within {DEADLINE_SECONDS:.0f} s: is the machine busy?"
        ) from None
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        _tell(answer, console)
    return 0 if answer["verified"] and answer["held"] else 1


async def _demo(settings: Settings, config_file: Path | None, say: Say) -> dict[str, object]:
    async with asyncio.timeout(DEADLINE_SECONDS), AsyncExitStack() as stack:
        say(f"starting a relay in {settings.data_dir}")
        ready = await stack.enter_async_context(_relay(settings, config_file))
        data = DataDirectory.existing(settings.data_dir)
        contact_id, heard = await _call(ready, say)
        say("waiting for the recording to be delivered")
        archive = Archive(settings, data)
        await archive.wait_delivered(contact_id)
        wav = Path(tempfile.mkdtemp(prefix="koppel-demo-wav-")) / f"{contact_id}.wav"
        proof = await asyncio.to_thread(archive.prove, contact_id, wav)
        store = settings.recording.store or str(data.store)
        return _answer(contact_id, heard, proof, store, wav)


@asynccontextmanager
async def _relay(settings: Settings, config_file: Path | None) -> AsyncGenerator[Ready]:
    """A relay of its own process, on ports that are free, without the customer that `serve --demo` sends."""
    with tempfile.TemporaryDirectory(prefix="koppel-demo-") as folder:
        ready_file = Path(folder) / "ready.json"
        options = ["--demo", "--data-dir", str(settings.data_dir), "--ready-file", str(ready_file)]
        if config_file is not None:
            options += ["--config", str(config_file)]
        environment = {
            **os.environ,
            "KOPPEL_HTTPS__PORT": "0",
            "KOPPEL_SIP__PORT": "0",
            "KOPPEL_DEMO__CUSTOMER": "false",
            "KOPPEL_LOG__LEVEL": "warning",
        }
        command = [sys.executable, "-c", "from relay.cli import main; main()", "serve", *options]
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)
        try:
            yield await _wait_ready(process, ready_file)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _wait_ready(process: asyncio.subprocess.Process, ready_file: Path) -> Ready:
    async with asyncio.timeout(START_SECONDS):
        while (ready := await asyncio.to_thread(_read_ready, ready_file)) is None:
            if process.returncode is not None:
                raise OperatorError("the relay did not start: what it said stands above")
            await asyncio.sleep(0.05)
    return ready


def _read_ready(file: Path) -> Ready | None:
    return Ready.parse(file.read_bytes()) if file.exists() else None


async def _call(ready: Ready, say: Say) -> tuple[str, Heard]:
    """The call itself; returns its contact and what was heard."""
    assert ready.agent is not None, "the relay runs under the demo switch"
    url = ready.softphone_url.replace("https://", "wss://", 1) + "softphone"
    setup = AgentSetup(url, ready.ca_file, ready.agent.token, tone_hz=AGENT_HZ)
    async with AsyncExitStack() as stack:
        agent = await _Party.start(stack, "relay.demo.agent", asdict(setup))
        await agent.wait("agent.state", state="available")
        say("the agent is logged in, its media is up; a customer calls")
        customer = await _Party.start(stack, "relay.demo.caller", asdict(caller_setup(ready, tone_hz=CUSTOMER_HZ)))
        contact_id = str((await agent.wait("contact.connected"))["contact_id"])
        say("they talk")
        await asyncio.sleep(BEFORE_HOLD_SECONDS)
        await agent.say("hold")
        await agent.wait("contact.held")
        say("the customer is on hold")
        await asyncio.sleep(HOLD_SECONDS - 0.3)
        on_hold = await customer.listen()
        await agent.say("resume")
        await agent.wait("contact.resumed")
        say("they talk again")
        await asyncio.sleep(AFTER_HOLD_SECONDS)
        heard = Heard(await agent.listen(), await customer.listen(), on_hold)
        await customer.say("hang_up")
        await agent.wait("contact.ended")
        await agent.say("complete")
        await agent.wait("contact.closed")
        return contact_id, heard


class _Party:
    """The customer or the agent."""

    def __init__(self, process: DemoProcess) -> None:
        self._process = process
        self._events = process.events()

    @classmethod
    async def start(cls, stack: AsyncExitStack, module: str, setup: Mapping[str, object]) -> _Party:
        process = await DemoProcess.start(module, setup)
        stack.push_async_callback(process.stop)
        return cls(process)

    async def say(self, action: str) -> None:
        await self._process.say({"do": action})

    async def wait(self, name: str, **expected: object) -> dict[str, object]:
        async for event in self._events:
            if event.get("event") == "problem":
                raise OperatorError(f"the demo call failed: {event.get('what')}")
            if event.get("event") == name and expected.items() <= event.items():
                return event
        raise OperatorError("the demo call failed: one of its programs ended; what it said stands above")

    async def listen(self) -> float:
        await self._process.say({"do": "listen", "seconds": LISTEN_SECONDS})
        hertz = (await self.wait("heard"))["hz"]
        assert isinstance(hertz, float), "both programs tell hertz as a number"
        return hertz


def _answer(contact_id: str, heard: Heard, proof: Proof, store: str, wav: Path) -> dict[str, object]:
    on_hold = sum(gap.seconds for gap in proof.gaps if gap.rule == "G2")
    return {
        "contact_id": contact_id,
        "expected_hz": {"agent": AGENT_HZ, "customer": CUSTOMER_HZ, "hold_music": MUSIC_STRONGEST_HZ},
        "heard_hz": asdict(heard),
        "recorded_seconds": proof.recorded_seconds,
        "gaps": [asdict(gap) for gap in proof.gaps],
        "verified": proof.verified,
        "findings": list(proof.findings),
        "held": heard.as_expected and on_hold >= 3.0 and proof.recorded_seconds >= 10.0,
        "store": store,
        "manifest": proof.manifest,
        "wav": str(wav),
        "loss_bound_s": proof.loss_bound_s,
    }


def _tell(answer: Mapping[str, object], console: Console) -> None:
    console.print(
        "[bold green]✓ all of it held[/]" if answer["held"] and answer["verified"] else "[bold red]✗ failed[/]"
    )
    for name, value in answer.items():
        console.print(f"  {name}: {value}", highlight=False, soft_wrap=True)
