"""A machine without IPv4: a whole call over IPv6 alone, signalling and media, from ring to proof."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.interop.relay_process import KOPPEL, QUIET

pytestmark = [pytest.mark.interop, pytest.mark.slow]

HOST = "2001:db8::1"
ONLY_IPV6 = f"ip link set lo up && ip -4 address flush dev lo && ip address add {HOST}/128 dev lo nodad"
SECONDS_MAX = 100.0


def alone(program) -> list[str]:
    """A command in a network of its own, in which nothing but its loopback interface is."""
    program("ip")
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = [program("unshare"), *as_root, "--net", "sh", "-c", f'{ONLY_IPV6} && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], check=False).returncode != 0:
        pytest.skip("needs a network namespace: run as root, or allow user namespaces")
    return command


@pytest.mark.parametrize(
    "named",
    [
        {"KOPPEL_SIP__HOST": "::", "KOPPEL_HTTPS__HOST": "::"},
        {"KOPPEL_SIP__HOST": HOST, "KOPPEL_HTTPS__HOST": HOST, "KOPPEL_MEDIA__ADDRESSES": f'["{HOST}"]'},
    ],
    ids=["every address", "one address"],
)
async def test_a_whole_call_without_ipv4(program, tmp_path: Path, named: dict[str, str]) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KOPPEL_")}
    environment = {**inherited, **QUIET, **named}
    command = [*alone(program), str(KOPPEL), "demo", "--headless", "--json", "--data-dir", str(tmp_path / "data")]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    answer = json.loads(out)
    assert (answer["held"], answer["verified"]) == (True, True)
    assert answer["heard_hz"]["agent"] == answer["expected_hz"]["customer"]
    assert answer["heard_hz"]["customer"] == answer["expected_hz"]["agent"]
