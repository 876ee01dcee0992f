"""The server: of the standard library, reading alone, a thread a client, and every wait has an end."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qs, urlsplit

from ...background import work_alone
from ...files import OutputError
from .access import Doors, Refusal
from .hub import Hub

__all__ = ["Content", "Server"]

PATIENCE = 10.0
"""Seconds that a client may take to ask, or to take what it is sent."""
BEAT = 5.0
"""Seconds after which a client that nothing was sent to is sent a comment: so one that has gone is found."""
THREADS = 128
"""Connections at a time; a further one is closed at once."""

HEADS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Content(Protocol):
    """What is shown."""

    def page(self) -> bytes:
        """The page as HTML."""

    def past(self, number: int) -> bytes | None:
        """The message of an earlier moment; None where it is not kept any more."""

    def greeting(self) -> bytes:
        """What a client is sent first."""


class Server(ThreadingHTTPServer):
    """Listens on `host`; `port` 0 takes a free one. `serve_forever` is run in a thread."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, doors: Doors, hub: Hub, content: Content) -> None:
        self.doors, self.hub, self.content = doors, hub, content
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = threading.BoundedSemaphore(THREADS)
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise OutputError(
                f"The live view cannot listen on {host}, port {port}: {reason}. Choose another."
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            work_alone()
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off, or sends what is no request, is its own affair."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = PATIENCE
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "spikescope", ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    places: ClassVar[frozenset[str]] = frozenset(("/", "/events", "/past"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # whatever the method: what is not allowed is refused in one place
            return self._answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: an address holds the token."""

    def _answer(self) -> None:
        self.close_connection = True
        heads = {name: ", ".join(self.headers.get_all(name, [])) for name in ("Host", "Origin") if name in self.headers}
        refusal = self.server.doors.refusal(self.command, self.path, heads)
        place = urlsplit(self.path).path if refusal is None else ""
        if refusal is None and place not in self.places:
            refusal = Refusal(404, "There is nothing here.")
        if refusal is not None:
            self._send(refusal.status, "text/plain; charset=utf-8", f"{refusal.words}\n".encode())
        elif self.command == "HEAD":
            self._send(200, "text/html; charset=utf-8", b"")
        elif place == "/events":
            self._events()
        else:
            self._send(*self._made(place))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        if status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", str(len(body)))
        self._send_heads(kind)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_heads(self, kind: str) -> None:
        for name, held in {**HEADS, "Content-Type": kind, "Connection": "close"}.items():
            self.send_header(name, held)
        self.end_headers()

    def _made(self, place: str) -> tuple[int, str, bytes]:
        """Status, kind and content of the page, or of an earlier moment."""
        plain, content = "text/plain; charset=utf-8", self.server.content
        try:
            if place == "/":
                return 200, "text/html; charset=utf-8", content.page()
            text = parse_qs(urlsplit(self.path).query).get("number", [""])[0]
            held = content.past(int(text)) if text.isdecimal() and len(text) < 16 else None
        except Exception as error:  # said to whoever looks, and to nobody else
            return 500, plain, f"The page could not be made: {type(error).__name__}: {error}\n".encode()
        if held is None:
            return 404, plain, b"That moment is not kept any more.\n"
        return 200, "application/json", held

    def _events(self) -> None:
        hub = self.server.hub
        client = hub.join()
        if client is None:
            self._send(503, "text/plain; charset=utf-8", b"Too many look at this view, or it has ended.\n")
            return
        try:
            self.send_response(200)
            self._send_heads("text/event-stream")
            self.wfile.write(self.server.content.greeting())
            while not client.done:
                message = client.get(BEAT)
                self.wfile.write(b": still there\n\n" if message is None else message)
        except OSError:  # it has gone, or takes nothing any more
            pass
        finally:
            hub.leave(client)
