"""What the machine does beside a benchmark: other programs on the relay's core, datagrams that the kernel dropped."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


def core_seconds(core: int) -> float:
    """Seconds that a core has worked, or was taken from us by the hypervisor, since the machine started."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *counts = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _waiting, interrupts, soft, stolen = (int(count) for count in counts[:8])
            return (user + nice + system + interrupts + soft + stolen) / _TICKS_A_SECOND
    return 0.0


def dropped_datagrams(ports: frozenset[int]) -> int:
    """Datagrams that found the buffers of these UDP ports full."""
    dropped = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) in ports:
            dropped += int(fields[-1])
    return dropped


def description() -> str:
    """The machine, for whoever compares."""
    return f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
