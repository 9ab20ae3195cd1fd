"""The few operations of a file system that the stage rests on, and the real ones."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

from recorder.errors import Unavailable


class Disk(Protocol):
    """One folder of append-only files. Every method raises OSError as the system does."""

    def names(self) -> list[str]:
        """The files there are."""
        ...

    def create(self, name: str) -> None:
        """Make an empty file that does not exist yet, and make its name durable."""
        ...

    def append(self, name: str, data: bytes) -> None:
        """Write at the end, all of it."""
        ...

    def sync(self, name: str) -> None:
        """Make durable what was appended."""
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on."""
        ...

    def size(self, name: str) -> int:
        """Bytes in a file."""
        ...

    def remove(self, name: str) -> None:
        """Free a file."""
        ...

    def rename(self, name: str, new: str) -> None:
        """Set a file aside."""
        ...

    def close(self) -> None:
        """Give back everything."""
        ...


class Folder:
    """A real folder, made 0700 and held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptors: dict[str, int] = {}
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"stage {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise Unavailable(f"stage {path} is in use by another process") from error

    def names(self) -> list[str]:
        """The files there are."""
        return sorted(each.name for each in self._path.iterdir() if each.name != "lock")

    def create(self, name: str) -> None:
        """Make an empty file, and its name durable."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._descriptors[name] = os.open(self._path / name, flags, 0o600)
        self._sync_folder()

    def append(self, name: str, data: bytes) -> None:
        """Write at the end, all of it."""
        rest = memoryview(data)
        while rest:
            written = os.write(self._descriptors[name], rest)
            if not written:
                raise OSError(errno.EIO, "nothing was written")
            rest = rest[written:]

    def sync(self, name: str) -> None:
        """Make durable what was appended."""
        os.fdatasync(self._descriptors[name])

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on; safe from any thread."""
        with (self._path / name).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def size(self, name: str) -> int:
        """Bytes in a file."""
        return (self._path / name).stat().st_size

    def remove(self, name: str) -> None:
        """Free a file."""
        if (descriptor := self._descriptors.pop(name, None)) is not None:
            os.close(descriptor)
        (self._path / name).unlink()
        self._sync_folder()

    def rename(self, name: str, new: str) -> None:
        """Set a file aside."""
        (self._path / name).rename(self._path / new)
        self._sync_folder()

    def close(self) -> None:
        """Close every file and let the folder go."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        os.close(self._lock)

    def _sync_folder(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
