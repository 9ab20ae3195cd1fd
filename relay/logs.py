"""What the relay writes about itself: changes of state with ids, never numbers, keys, tokens, digits or packets.

All of it, that of libraries too, passes `redact` before it is formatted, so that a careless log line is not a leak:
values are removed by the name that they are logged under, and by their looks wherever they stand in a text.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO, cast

import h11
import structlog

from relay.config import LogSettings

__all__ = ["configure", "redact", "redact_text"]

CHATTY = ("aioice", "aiortc", "aiosqlite", "alembic", "asyncio", "httpcore", "sqlalchemy", "uvicorn", "websockets")
"""Libraries whose everyday is of interest only at level debug, and whose own debugging (frames, rows) never is."""
REMOVED = "(removed)"
TEXT_MAX = 4_096
"""Longest text of one value; traces of errors may be `TRACE_MAX`."""
TRACE_MAX = 16_384

PEERS_DOING = (
    "ASGI callable returned without completing handshake.",  # said of each WebSocket that was refused
    "Invalid HTTP request received.",
    "Invalid UTF-8 sequence received from client.",
    "socket.send() raised exception.",  # the peer is gone
)
"""What libraries log, some of it as errors with traces, though any peer can bring it about as often as it likes."""

FORBIDDEN_NAMES = frozenset(
    {
        "ani",
        "authorization",
        "called",
        "caller",
        "cookie",
        "credential",
        "credentials",
        "digit",
        "digits",
        "dnis",
        "dtmf",
        "ha1",
        "key",
        "keys",
        "master",
        "nonce",
        "number",
        "numbers",
        "password",
        "phone",
        "salt",
        "sdp",
        "secret",
        "secrets",
        "token",
        "tokens",
        "uri",
    }
)
"""A value is removed if a word of its name is among these, unless the name ends in `_id` or `_ids`."""

PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REMOVED),
    (re.compile(r"\bkpl_[0-9a-f]+_[\w-]+"), REMOVED),
    (re.compile(r"(?i)\binline:[^\s|\"']+"), "inline:" + REMOVED),
    (re.compile(r"(?i)\b(ice-pwd:|bearer\s+|digest\s+(?=\w+=))[^\r\n]+"), r"\1" + REMOVED),
    (re.compile(r"(?i)\b(password|token|secret|response)(=|:\s*)(\"[^\"]*\"|[^\s,;&]+)"), r"\1\2" + REMOVED),
    (re.compile(r"(?i)\b(sips?|tels?):[^\s@<>;,\"']+(@?)"), r"\1:" + REMOVED + r"\2"),
)
"""Looks of secrets: private keys, our tokens, SDES keys, ICE passwords, authorisations, addresses of people."""

NUMBERS = re.compile(
    r"(?P<harmless>\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # UUIDs,
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b"  # network addresses
    r"|\b\d{4}-\d\d-\d\d\b)"  # and dates have as many digits as
    r"|(?<![\w.+-])\+?\d(?:[ ()./-]{0,2}\d){6,17}(?!\w)"  # numbers to dial.
)


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (standard error), for people or as one JSON object a line."""
    target = sys.stderr if stream is None else stream
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    as_json = settings.format == "json" or (settings.format == "auto" and not target.isatty())
    last = structlog.processors.JSONRenderer() if as_json else _for_people(colors=target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    handler.addFilter(_is_not_a_peers_doing)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for library in CHATTY:
        logging.getLogger(library).setLevel("INFO" if settings.level == "debug" else "WARNING")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _is_not_a_peers_doing(record: logging.LogRecord) -> bool:
    # The body of a request was no HTTP, which h11 has answered; then the application's own answer comes too late.
    late = record.exc_info is not None and isinstance(record.exc_info[1], h11.LocalProtocolError)
    return record.msg not in PEERS_DOING and not late


def _for_people(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    # The plain formatter, since rich's shows the local variables of every frame.
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor: every value of a line, by name and by looks."""
    for name, value in event.items():
        if name.startswith("_") or name in {"timestamp", "level", "logger"}:
            continue  # structlog's own
        event[name] = _redacted(name, value, TRACE_MAX if name == "exception" else TEXT_MAX)
    return event


def _redacted(name: str, value: object, text_max: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if _forbidden(name):
        return REMOVED
    if isinstance(value, int | float):
        return value
    if isinstance(value, bytes | bytearray):
        return f"({len(value)} bytes)"
    if isinstance(value, Mapping):
        inner = cast("Mapping[object, object]", value)
        return {str(key): _redacted(str(key), held, text_max) for key, held in inner.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(name, held, text_max) for held in cast("tuple[object, ...]", value)]
    return redact_text(str(value), text_max)


def _forbidden(name: str) -> bool:
    words = name.lower().split("_")
    return words[-1] not in {"id", "ids"} and not FORBIDDEN_NAMES.isdisjoint(words)


def redact_text(text: str, text_max: int = TEXT_MAX) -> str:
    """`text` without what looks like a secret or a number to dial, and not longer than `text_max`."""
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    text = NUMBERS.sub(lambda found: found["harmless"] or REMOVED, text)
    return text if len(text) <= text_max else f"{text[:text_max]}… ({len(text)} characters)"
