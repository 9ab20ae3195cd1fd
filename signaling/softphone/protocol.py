"""The softphone's wire protocol: JSON-RPC 2.0 text to typed requests and back, with every limit of a session.

Sans-IO. `RequestReader.read` turns one text frame into a `Call` (answer it with `result` or `failure`), a
`Refused` (send its text) or a `Dropped` (count it). Specification: https://www.jsonrpc.org/specification; the
methods are documented in docs/softphone-protocol.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import NoReturn, cast

from signaling.softphone.messages import (
    AgentStateChanged,
    ConnectMedia,
    ContactAction,
    ContactChanged,
    ContactEnded,
    ContactRequest,
    ContactRinging,
    DisconnectMedia,
    ErrorCode,
    Levels,
    LogIn,
    MediaStateChanged,
    Notification,
    Ping,
    Problem,
    Quality,
    Request,
    RequestError,
    SessionReplaced,
    SetState,
    SettableState,
)

RequestId = str | int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may ask for."""

    text_max: int = 65_536
    depth_max: int = 4
    token_max: int = 512
    id_max: int = 64
    sdp_max: int = 32_768
    requests_per_second: float = 20.0
    requests_burst: int = 40


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is well formed and within the limits."""

    request_id: RequestId
    request: Request


@dataclass(frozen=True, slots=True)
class Refused:
    """What came cannot be served: send `text`."""

    code: ErrorCode
    text: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A client notification or response, which this protocol does not have: JSON-RPC forbids an answer."""


class RequestReader:
    """Reads the text frames of one session."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._allowance = float(limits.requests_burst)
        self._at = now

    def read(self, text: str, now: float) -> Call | Refused | Dropped:
        """Parse one text frame; never raises."""
        request_id: RequestId | None = None
        try:
            self._spend(now)
            message = _message(text, self._limits)
            request_id = _request_id(message, self._limits)
            if request_id is None:
                return Dropped()
            return Call(request_id, _request(message, self._limits))
        except RequestError as error:
            return Refused(error.code, failure(request_id, error))

    def _spend(self, now: float) -> None:
        limits = self._limits
        earned = max(0.0, now - self._at) * limits.requests_per_second
        self._allowance = min(float(limits.requests_burst), self._allowance + earned)
        self._at = now
        if self._allowance < 1.0:
            wait = (1.0 - self._allowance) / limits.requests_per_second
            raise RequestError(ErrorCode.TOO_MANY, "too many requests", retry_after=wait)
        self._allowance -= 1.0


def _message(text: str, limits: Limits) -> dict[str, object]:
    if len(text) > limits.text_max:
        raise RequestError(ErrorCode.INVALID_REQUEST, f"longer than {limits.text_max} characters")
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise RequestError(ErrorCode.PARSE_ERROR, "nested too deeply") from None
    except ValueError:
        raise RequestError(ErrorCode.PARSE_ERROR, "not JSON") from None
    if isinstance(value, list):
        raise RequestError(ErrorCode.INVALID_REQUEST, "batches are not served")
    if not isinstance(value, dict):
        raise RequestError(ErrorCode.INVALID_REQUEST, "not a JSON-RPC request object")
    message = cast("dict[str, object]", value)
    if _depth(message, limits.depth_max) > limits.depth_max:
        raise RequestError(ErrorCode.INVALID_REQUEST, "nested too deeply")
    return message


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # RFC 8259 §6: Infinity and NaN are not permitted


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # RFC 8259 §4 leaves repeated names open; two readers that choose differently are a way round a check.
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name is repeated")
    return unique


def _depth(value: object, depth_max: int) -> int:
    if depth_max < 0:
        return 0
    if isinstance(value, dict):
        children = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        children = cast("list[object]", value)
    else:
        return 0
    return 1 + max((_depth(child, depth_max - 1) for child in children), default=0)


def _request_id(message: Mapping[str, object], limits: Limits) -> RequestId | None:
    if message.get("jsonrpc") != "2.0":
        raise RequestError(ErrorCode.INVALID_REQUEST, '"jsonrpc" must be "2.0"')
    if "id" not in message or "method" not in message:
        return None
    request_id = message["id"]
    if isinstance(request_id, str) and len(request_id) <= limits.id_max and _is_unicode(request_id):
        return request_id
    if isinstance(request_id, int) and not isinstance(request_id, bool) and abs(request_id) < 2**53:
        return request_id
    raise RequestError(ErrorCode.INVALID_REQUEST, f'"id" must be an integer or a string up to {limits.id_max} long')


def _request(message: Mapping[str, object], limits: Limits) -> Request:
    method = message["method"]
    if not isinstance(method, str):
        raise RequestError(ErrorCode.INVALID_REQUEST, '"method" must be a string')
    parse = METHODS.get(method)
    if parse is None:
        raise RequestError(ErrorCode.METHOD_NOT_FOUND, "no such method")
    given = message.get("params", {})
    if not isinstance(given, dict):
        raise RequestError(ErrorCode.INVALID_PARAMS, '"params" must be an object')
    return parse(_Params(cast("dict[str, object]", given), limits))


class _Params:
    """Parameters by name, each read exactly once; unknown ones are ignored, so that newer pages still work."""

    def __init__(self, given: dict[str, object], limits: Limits) -> None:
        self._given = given
        self.limits = limits

    def text(self, name: str, length_max: int) -> str:
        value = self._given.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= length_max or not _is_unicode(value):
            raise RequestError(ErrorCode.INVALID_PARAMS, f'"{name}" must be a string of 1 to {length_max} characters')
        return value


def _is_unicode(text: str) -> bool:
    # JSON can spell lone surrogates, which no UTF-8 frame, file or database takes.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _log_in(params: _Params) -> Request:
    return LogIn(params.text("token", params.limits.token_max))


def _ping(_params: _Params) -> Request:
    return Ping()


def _connect_media(params: _Params) -> Request:
    return ConnectMedia(params.text("sdp", params.limits.sdp_max))


def _disconnect_media(_params: _Params) -> Request:
    return DisconnectMedia()


def _set_state(params: _Params) -> Request:
    state = SETTABLE_STATES.get(params.text("state", 16))
    if state is None:
        raise RequestError(ErrorCode.INVALID_PARAMS, '"state" must be "available", "break" or "offline"')
    return SetState(state)


SETTABLE_STATES: Mapping[str, SettableState] = {"available": "available", "break": "break", "offline": "offline"}


def _contact(action: ContactAction) -> Callable[[_Params], Request]:
    return lambda params: ContactRequest(action, params.text("contact_id", 64))


METHODS: Mapping[str, Callable[[_Params], Request]] = {
    "session.log_in": _log_in,
    "session.ping": _ping,
    "media.connect": _connect_media,
    "media.disconnect": _disconnect_media,
    "agent.set_state": _set_state,
    "contact.accept": _contact("accept"),
    "contact.reject": _contact("reject"),
    "contact.hang_up": _contact("hang_up"),
    "contact.hold": _contact("hold"),
    "contact.resume": _contact("resume"),
    "contact.mute": _contact("mute"),
    "contact.unmute": _contact("unmute"),
    "contact.complete": _contact("complete"),
}


def result(request_id: RequestId, value: Mapping[str, object]) -> str:
    """The response to a request that was served."""
    return _text({"jsonrpc": "2.0", "id": request_id, "result": dict(value)})


def failure(request_id: RequestId | None, error: RequestError) -> str:
    """The response to a request that was refused; id null where it could not be read."""
    told: dict[str, object] = {"code": int(error.code), "message": str(error)}
    if error.retry_after is not None:
        told["data"] = {"retry_after_s": round(error.retry_after, 3)}
    return _text({"jsonrpc": "2.0", "id": request_id, "error": told})


def notification(told: Notification) -> str:
    """A notification as text."""
    params = asdict(told)
    match told:
        case ContactChanged(what=what):
            method = f"contact.{what}"
            del params["what"]
        case AgentStateChanged():
            method = "agent.state"
        case ContactRinging():
            method = "contact.ringing"
        case ContactEnded():
            method = "contact.ended"
        case MediaStateChanged():
            method = "media.state"
        case Levels():
            method = "media.levels"
        case Quality():
            method = "media.quality"
        case SessionReplaced():
            method = "session.replaced"
        case Problem():
            method = "error"
    return _text({"jsonrpc": "2.0", "method": method, "params": params})


def _text(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
