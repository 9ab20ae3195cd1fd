"""The https origin: the softphone's page, its WebSocket, health and metrics, behind security headers.

One origin serves all, so that the page needs no other address than the one it came from, and the WebSocket can insist
on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from signaling.addresses import plain_host
from signaling.listening import bind
from signaling.softphone.socket import SoftphoneSocket

PAGE = Path(__file__).parent / "softphone" / "web"

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "media-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), display-capture=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
STRICT_TRANSPORT = "max-age=31536000"
UNACKNOWLEDGED_MS_MAX = 30_000
"""How long sent bytes may wait for an acknowledgement (RFC 5482)."""


@dataclass(frozen=True, slots=True)
class DemoAgent:
    """The agent whose token `/api/demo` gives to browsers on this machine; only under the demo switch."""

    user: str
    token: str = field(repr=False)


def create_app(
    softphones: SoftphoneSocket,
    *,
    health: Callable[[], Mapping[str, object]],
    metrics: Callable[[], bytes] | None = None,
    may_read_metrics: Callable[[Request], bool] | None = None,
    demo: DemoAgent | None = None,
) -> FastAPI:
    """The application. `health` returns an object with `ok`; metrics go to this machine alone unless told otherwise."""
    app = FastAPI(title="Koppel", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.add_middleware(SecurityHeaders)
    allowed = may_read_metrics or is_local

    @app.websocket("/softphone")
    async def softphone(websocket: WebSocket) -> None:
        await softphones.serve(websocket)

    @app.get("/api/health")
    async def read_health() -> JSONResponse:
        state = dict(health())
        return JSONResponse(state, 200 if state.get("ok") else 503)

    @app.get("/api/demo", include_in_schema=False)
    async def read_demo(request: Request) -> JSONResponse:
        if demo is None or not is_local(request):
            return JSONResponse({"demo": False})
        return JSONResponse({"demo": True, "user": demo.user, "token": demo.token})

    @app.get("/metrics", include_in_schema=False)
    async def read_metrics(request: Request) -> Response:
        if metrics is None or not allowed(request):
            return Response("not found\n", 404, media_type="text/plain")
        return Response(metrics(), media_type="text/plain; version=0.0.4")

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine."""
    return request.client is not None and _is_loopback(request.client.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(plain_host(host)).is_loopback
    except ValueError:
        return host == "localhost"


class SecurityHeaders:
    """Adds the security headers to every HTTP response, and keeps what the API says out of caches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                is_api = str(scope["path"]).startswith(("/api/", "/metrics"))
                headers["Cache-Control"] = "no-store" if is_api else "no-cache"
                if _may_pin(scope):
                    headers["Strict-Transport-Security"] = STRICT_TRANSPORT
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _may_pin(scope: Scope) -> bool:
    # Pinned for localhost, it would break every other server that somebody develops there (RFC 6797 §8.1.1 keeps
    # numeric addresses out by itself).
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return bool(name) and not name.endswith("localhost") and not _is_numeric(name.strip("[]"))


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """Limits of the https server."""

    connections_max: int = 4_000
    frame_bytes_max: int = 65_536
    headers_bytes_max: int = 16_384
    keep_alive_s: int = 30
    ping_interval_s: float = 20.0
    """A WebSocket that does not answer a ping for as long is gone."""
    stop_grace_s: int = 5
    backlog: int = 512


class HttpsServer:
    """uvicorn on the running loop, without its signal handlers."""

    def __init__(self, server: _Uvicorn, listening: socket.socket) -> None:
        self._server = server
        address = listening.getsockname()
        self.host: str = address[0]
        self.port: int = address[1]
        self._task = asyncio.create_task(server.serve(sockets=[listening]), name="https server")

    @classmethod
    async def start(
        cls, app: FastAPI, host: str, port: int, context: ssl.SSLContext, settings: HttpsSettings | None = None
    ) -> HttpsServer:
        """Listen and serve; raises OSError when the address cannot be had. Port 0: any free one (see `port`)."""
        server = _Uvicorn(_configuration(app, context, settings or HttpsSettings()))
        https = cls(server, _listen(host, port))
        started = asyncio.create_task(server.has_started.wait())
        await asyncio.wait({started, https._task}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if https._task.done():
            https._task.result()
        return https

    async def stop(self) -> None:
        """Stop listening, close WebSockets, let requests end within the grace time."""
        self._server.should_exit = True
        await self._task


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """The process that runs us has its own."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


def _configuration(app: FastAPI, context: ssl.SSLContext, settings: HttpsSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=settings.frame_bytes_max,
        ws_ping_interval=settings.ping_interval_s,
        ws_ping_timeout=settings.ping_interval_s,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.connections_max,
        backlog=settings.backlog,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.stop_grace_s,
        h11_max_incomplete_event_size=settings.headers_bytes_max,
        ssl_context_factory=lambda _config, _default: context,
    )


def _listen(host: str, port: int) -> socket.socket:
    listening = bind(host, port, socket.SOCK_STREAM)
    # Connections inherit both: a peer that takes nothing more is cut off by the kernel, whatever is still to be sent.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS_MAX)
    return listening
