"""The folder of an instance: its identity, its secret files, and the lock that keeps it to one relay.

`DataDirectory.open` makes what is missing with permissions for its owner alone, and refuses secrets that others can
read. Two relays on one folder would write one journal: `lock` refuses the second. Commands that only read take none.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.errors import OperatorError

__all__ = ["DataDirectory", "Identity", "Layout", "read_secret_file", "write_secret_file"]

OTHERS = stat.S_IRWXG | stat.S_IRWXO
NOT_OURS = {"koppel.toml", "lost+found"}
"""What may lie in a folder that is about to become a data directory."""
SECRET_BYTES_MAX = 65_536
RECORDS_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """Who owns what this relay writes: in every row, every object key and all associated data."""

    account_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in a data directory, whether there is one or not."""

    path: Path

    @property
    def tls(self) -> Path:
        """The relay's own authority and certificate."""
        return self.path / "tls"

    @property
    def keys(self) -> Path:
        """Wrapping and signing keys: outside stage and store, and to be kept apart from backups of the store."""
        return self.path / "keys"

    @property
    def stage(self) -> Path:
        """The recorder's journal."""
        return self.path / "stage"

    @property
    def store(self) -> Path:
        """Delivered recordings, where no other store is set."""
        return self.path / "store"

    @property
    def database(self) -> Path:
        """Contact records, users and the audit log, where no other database is set."""
        return self.path / "koppel.sqlite"

    @property
    def admin_token_file(self) -> Path:
        """The token with which local commands speak to the relay."""
        return self.path / "admin.token"


@dataclass(frozen=True, slots=True)
class DataDirectory(Layout):
    """An existing folder of a relay."""

    identity: Identity

    @classmethod
    def open(cls, path: Path) -> DataDirectory:
        """Use `path`, making it and its folders at the first start."""
        _adopt(path)
        _make_private(path)
        for name in ("tls", "keys", "stage", "store"):
            _make_private(path / name)
        return cls(path, _identity(path / "instance.json"))

    @classmethod
    def existing(cls, path: Path) -> DataDirectory:
        """Use `path` only if a relay has made it before: what commands that read want."""
        if not (path / "instance.json").exists():
            raise OperatorError(
                f"{path} is not a data directory of Koppel: start the relay once (koppel serve), or name another "
                "with --data-dir"
            )
        return cls.open(path)

    def admin_token(self) -> str:
        """The admin token, made at the first call."""
        if not self.admin_token_file.exists():
            write_secret_file(self.admin_token_file, secrets.token_urlsafe(32).encode())
        return read_secret_file(self.admin_token_file).decode().strip()

    def records_key(self) -> bytes:
        """The 32 bytes that wrap the keys of contact records, made at the first call."""
        file = self.keys / "records.key"
        if not file.exists():
            _write_once(file, secrets.token_bytes(RECORDS_KEY_BYTES))
        key = read_secret_file(file)
        if len(key) != RECORDS_KEY_BYTES:
            raise OperatorError(
                f"{file} is damaged: restore it from a backup. What records hold of people opens with no other key"
            )
        return key

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the folder for this process; the system lets go of it however the process ends."""
        file = self.path / "lock"
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, file)
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def write_secret_file(file: Path, data: bytes) -> None:
    """Write `file` readable by its owner alone, whole or not at all, durable on return."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(file.parent)


def read_secret_file(file: Path) -> bytes:
    """Read a file that nobody but its owner may read, or say how to repair it."""
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & OTHERS:
                raise OperatorError(f"{file} holds a secret but others may read it: run  chmod 600 {file}")
            return stream.read(SECRET_BYTES_MAX)
    except OSError as error:
        raise OperatorError(f"{file}: cannot be read ({error.strerror})") from None


def _adopt(folder: Path) -> None:
    """A folder that somebody has just made for us is usually open to others: close it while nothing is in it."""
    try:
        if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= NOT_OURS:
            folder.chmod(0o700)
    except OSError:
        return  # `_make_private` says what is wrong with it


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise OperatorError(f"{folder} is not a folder: move it away, or name another with --data-dir")
        if status.st_mode & OTHERS:
            raise OperatorError(f"{folder} will hold secrets but others may enter it: run  chmod 700 {folder}")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise OperatorError(f"{folder} cannot be written by this user: change its owner, or name another")
    except FileExistsError:
        raise OperatorError(f"{folder} is not a folder: move it away, or name another with --data-dir") from None
    except OSError as error:
        raise OperatorError(f"{folder} cannot be made ({error.strerror}): name another with --data-dir") from None


def _identity(file: Path) -> Identity:
    if not file.exists():
        made = {"account_id": str(uuid.uuid4()), "instance_id": str(uuid.uuid4())}
        _write_once(file, json.dumps(made, indent=2).encode() + b"\n")
    try:
        held: dict[str, Any] = json.loads(read_secret_file(file))
        return Identity(str(uuid.UUID(held["account_id"])), str(uuid.UUID(held["instance_id"])))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise OperatorError(
            f"{file} is damaged: restore it from a backup. Recordings carry its ids, so a new one would orphan them"
        ) from None


def _write_once(file: Path, data: bytes) -> None:
    """Like `write_secret_file`, but of two processes that start at once the first one wins."""
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    write_secret_file(fresh, data)
    try:
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    _sync_folder(file.parent)


def _lock(descriptor: int, file: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read_text().strip() or "unknown"
        raise OperatorError(
            f"{file.parent} is in use by another relay (process {holder}): stop it, or name another with --data-dir"
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
