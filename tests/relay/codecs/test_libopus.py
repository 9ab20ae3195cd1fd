import ctypes.util
import importlib.machinery

import pytest

from relay.codecs import libopus
from relay.errors import OperatorError


def test_the_av_wheel_brings_it():
    path = libopus.bundled_path()
    assert path is not None
    assert path.parent.name in {"av.libs", ".dylibs"}
    assert libopus.load().opus_get_version_string().startswith(b"libopus 1.")


def test_without_any_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(libopus, "bundled_path", lambda: None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    with pytest.raises(OperatorError, match=r"libopus was not found: install PyAV .* apt install libopus0"):
        libopus.load()


def test_the_system_library_is_the_second_choice(monkeypatch):
    bundled = libopus.bundled_path()
    asked = []

    def find_library(name):
        asked.append(name)
        return str(bundled)

    monkeypatch.setattr(libopus, "bundled_path", lambda: None)
    monkeypatch.setattr(ctypes.util, "find_library", find_library)
    assert libopus.load().opus_get_version_string().startswith(b"libopus")
    assert asked == ["opus"]


def test_a_library_without_the_functions_is_named(monkeypatch):
    monkeypatch.setattr(libopus, "bundled_path", lambda: None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: "libc.so.6")
    with pytest.raises(OperatorError, match=r"libc\.so\.6 cannot be used .*opus_strerror.*reinstall"):
        libopus.load()


def test_a_file_that_is_no_library_is_named(monkeypatch, tmp_path):
    broken = tmp_path / "libopus.so.0"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(libopus, "bundled_path", lambda: broken)
    with pytest.raises(OperatorError, match="cannot be used"):
        libopus.load()


@pytest.mark.parametrize("name", ["libopus-114e2b1a.so.0.11.1", "libopus.so.0"])
def test_it_is_found_whatever_the_wheel_named_it(monkeypatch, tmp_path, name):
    (tmp_path / "av").mkdir()
    (tmp_path / "av.libs").mkdir()
    (tmp_path / "av.libs" / name).touch()
    (tmp_path / "av.libs" / "libopusenc.so").touch()
    spec = importlib.machinery.ModuleSpec("av", None, origin=str(tmp_path / "av" / "__init__.py"))
    monkeypatch.setattr(libopus, "find_spec", lambda _: spec)
    assert libopus.bundled_path() == tmp_path / "av.libs" / name


def test_without_av_nothing_is_bundled(monkeypatch):
    monkeypatch.setattr(libopus, "find_spec", lambda _: None)
    assert libopus.bundled_path() is None
