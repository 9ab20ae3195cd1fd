"""The object store of an instance by URL: a folder, S3, or memory; writes are conditional and read back."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from recorder.errors import LocalError, RemoteError, Unavailable

_CREDENTIAL_SECONDS = 60.0
_REFUSED = ("401 Unauthorized", "403 Forbidden")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where recordings are delivered; empty texts mean the provider's own defaults."""

    url: str
    """`file:///folder`, `s3://bucket/prefix`, `memory://`."""
    endpoint: str = ""
    region: str = ""
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    ca_file: Path | None = None
    """Private certificate authority of the endpoint."""
    allow_http: bool = False
    """Plain HTTP to the endpoint, only where the operator says so."""
    timeout_s: float = 30.0


class Store:
    """One store. Errors: Unavailable (away, refused: try again), RemoteError (other bytes stand there)."""

    def __init__(self, store: object, folder: Path | None = None) -> None:
        self._store = cast("Any", store)
        self._folder = folder

    @classmethod
    def open(cls, settings: StoreSettings) -> Store:
        """Make the store; a folder is created, nothing else is asked yet. Raises LocalError."""
        parts = urlsplit(settings.url)
        try:
            if parts.scheme == "file":
                folder = Path(unquote(parts.path))
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                return cls(from_url(settings.url), folder)
            if parts.scheme == "memory":
                return cls(from_url("memory:///"))
            if parts.scheme == "s3":
                return cls(_open_s3(settings))
        except (BaseError, OSError, ValueError) as error:
            raise LocalError(f"store {parts.scheme}: {_first_line(error)}") from error
        raise LocalError(f"store URL must begin with file://, s3:// or memory://, not {parts.scheme}://")

    async def deliver(self, key: str, data: bytes) -> None:
        """Store an object for good and read it back; the same bytes standing there already are success."""
        try:
            # A try before a crash or a lost answer may have got through: reading back tells whether it is ours.
            with contextlib.suppress(AlreadyExistsError):
                await obstore.put_async(self._store, key, data, mode="create", use_multipart=False)
            self._make_durable(key)
            stored = bytes(await (await obstore.get_async(self._store, key)).bytes_async())
        except (BaseError, OSError) as error:
            raise _unavailable(error) from error
        if hashlib.sha256(stored).digest() != hashlib.sha256(data).digest():
            raise RemoteError("another object stands where a recording is to be delivered", place=key)

    def object_keys(self, prefix: str = "") -> Iterator[str]:
        """Object keys below a prefix that is a whole path."""
        try:
            for batch in cast("Any", obstore).list(self._store, prefix or None):
                yield from (each["path"] for each in batch)
        except (BaseError, OSError) as error:
            raise _unavailable(error) from error

    def read(self, key: str) -> bytes:
        """A whole object; Unavailable where it is not to be had."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (BaseError, OSError) as error:
            raise _unavailable(error) from error

    def _make_durable(self, key: str) -> None:
        # obstore renames into place but does not sync: the stage must not be freed while this is only in the cache.
        if self._folder is None:
            return
        path = self._folder / key
        _fsync(path)
        for parent in path.parents:
            _fsync(parent)
            if parent == self._folder:
                break


def _open_s3(settings: StoreSettings) -> object:
    options: dict[str, Any] = {"timeout": timedelta(seconds=settings.timeout_s), "allow_http": settings.allow_http}
    if settings.ca_file is not None:
        options["root_certificate"] = settings.ca_file.read_bytes()
    given: Mapping[str, str] = {
        "endpoint": settings.endpoint,
        "region": settings.region,
        "access_key_id": settings.access_key_id,
        "secret_access_key": settings.secret_access_key,
    }
    config = {name: value for name, value in given.items() if value}
    # Retrying is `recorder.delivery`'s: it knows the age of a recording, and says so.
    retry: dict[str, Any] = {"max_retries": 0}
    return from_url(
        settings.url, config=cast("Any", config), client_options=cast("Any", options), retry_config=cast("Any", retry)
    )


def _unavailable(error: Exception) -> Unavailable:
    # A refused listing comes as any other error: only its text says the status.
    said = any(status in str(error) for status in _REFUSED)
    if said or isinstance(error, UnauthenticatedError | PermissionDeniedError):
        return Unavailable(
            "the store refuses our credentials: check access key, secret and bucket policy",
            retry_after=_CREDENTIAL_SECONDS,
            refused=True,
        )
    return Unavailable(f"store: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
