"""Both ends of a process of the benchmark, which speaks JSON lines: started, told, listened to, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.errors import LocalError, OperatorError

STOP_SECONDS: Final = 5.0


class BenchProcess:
    """`python -m MODULE` on one core; what it writes to standard error goes to ours."""

    def __init__(self, module: str, core: int, progress: Callable[[str], None]) -> None:
        self._module = module
        self._progress = progress
        self._process = subprocess.Popen(  # noqa: S603 - our own module, by the interpreter that runs us
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # an interrupt at the keyboard is for us, who end it in order
            # Before any thread is there, so that all of them stay on the core.
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no thread of ours runs yet
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def say(self, what: Mapping[str, object]) -> None:
        """One JSON line."""
        assert self._process.stdin is not None, "it was started with a pipe"
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LocalError(f"{self._module} has ended: its last words stand above") from None

    def hear(self, name: str) -> Any:  # noqa: ANN401 - as JSON is
        """The value of the next line that has this name; progress on the way is passed on."""
        assert self._process.stdout is not None, "it was started with a pipe"
        for line in self._process.stdout:
            said = json.loads(line)
            if "progress" in said:
                self._progress(said["progress"])
            elif "error" in said:
                raise OperatorError(said["error"])
            elif name in said:
                return said[name]
        raise LocalError(f"{self._module} has ended: its last words stand above")

    def stop(self) -> None:
        """Let it end: its standard input closes, then it is terminated, then killed."""
        assert self._process.stdin is not None, "it was started with a pipe"
        assert self._process.stdout is not None, "it was started with a pipe"
        self._process.stdin.close()
        for end in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                end()
        self._process.wait()
        self._process.stdout.close()


def heard() -> dict[str, Any]:
    """In the process: the next thing that it is told. Whoever started us being gone is our end."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    told: dict[str, Any] = json.loads(line)
    return told


def tell(**what: object) -> None:
    """In the process: say one thing."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
