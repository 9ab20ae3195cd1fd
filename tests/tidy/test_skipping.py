"""Where everything is installed, a skipped test is a failed one; elsewhere it says how to install what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.source import ROOT

SUITE = """
import pytest
def test_fine(): pass
def test_needs(program, monkeypatch):
    monkeypatch.setenv("PATH", "")
    program("baresip")
@pytest.mark.xfail(strict=True)
def test_known(): assert False
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (tmp_path / "test_suite.py").write_text(SUITE)
    return tmp_path


def result(suite: Path, *, require_all: bool) -> tuple[int, str]:
    environment = os.environ | {"KOPPEL_REQUIRE_ALL": "1" if require_all else "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_skips_are_named_with_how_to_install(suite: Path) -> None:
    code, output = result(suite, require_all=False)
    assert code == 0
    assert "1 × needs baresip: apt-get install baresip-core" in output
    assert "1 passed, 1 skipped, 1 xfailed" in output


@pytest.mark.slow
def test_skips_fail_where_nothing_may_be_skipped(suite: Path) -> None:
    code, output = result(suite, require_all=True)
    assert code == 1
    assert "1 failed, 1 passed, 1 xfailed" in output
    assert "skipped, where nothing may be: needs baresip" in output


@pytest.mark.slow
def test_a_module_that_skips_itself_fails_too(suite: Path) -> None:
    (suite / "test_other.py").write_text("import pytest\npytest.importorskip('a_module_that_is_not_there')\n")
    code, output = result(suite, require_all=True)
    assert code == 2
    assert "skipped, where nothing may be" in output
