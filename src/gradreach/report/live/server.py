"""The live page's server: the standard library's, GET only, a thread for every browser."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from gradreach import __version__
from gradreach.report.live.access import Access, Refusal
from gradreach.report.live.feed import RunFeed
from gradreach.report.live.page import live_page
from gradreach.report.live.runs import ServedRuns
from gradreach.report.live.story import Position
from gradreach.report.page import json_in_page
from gradreach.report.playground.page import playground_page

__all__ = ["LiveServer", "open_server"]

PORTS_TRIED = 20
CONNECTIONS = 256  # threads; whoever comes then is turned away until one is free
IDLE_SECONDS = 10.0  # of a browser that neither asks nor takes what it is sent
PUSH_SECONDS = 0.2  # between two parts, so that a fast training does not flood a page
BEAT_SECONDS = 5.0  # a page that hears nothing for longer knows that we are gone
RUNS_AT_ONCE = 4  # side by side

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'"


class LiveServer(ThreadingHTTPServer):
    """Shows runs to whoever has the address with its token, until it is closed.

    Args:
        address: Host and port to listen on; port 0 for any.
        runs: What it shows.
        token: Must stand in every address.
        hosts: Names in the Host header that are ours. any_address: see `Access`.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], runs: ServedRuns, token: str, hosts: frozenset[str],
        *, any_address: bool = False,
    ) -> None:  # fmt: skip
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.runs = runs
        self.closing = threading.Event()
        self.access = Access(self.server_port, token, hosts, any_address)
        self.boot = secrets.token_hex(4)  # of a page's position: rows of another server are others
        self.watching = 0
        self._count = threading.Lock()
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    @property
    def url(self) -> str:
        """The address to open, on this machine."""
        return self.address_of("/")

    def address_of(self, path: str) -> str:
        """Return the address of one of our pages, its token in it."""
        host = str(self.server_address[0])
        host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  only compared
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.server_port}{path}?token={self.access.token}"

    def watched(self, by: int) -> None:
        """Count pages that are open."""
        with self._count:
            self.watching += by

    def close(self) -> None:
        """Stop answering; pages that are open hear nothing more."""
        self.closing.set()
        self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Bind without the reverse look-up of our own name that the base class makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, if one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer and free the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a browser that goes away in the middle is no error of ours."""


def open_server(
    host: str, port: int, runs: ServedRuns, token: str, hosts: frozenset[str],
    *, any_address: bool = False,
) -> LiveServer:  # fmt: skip
    """Return a server on ``port`` or, where that is taken, on the next one that is free.

    Raises:
        OSError: None of twenty is free, or the host is not this machine's.
    """
    last = port + (PORTS_TRIED if port else 1)
    for each in range(port, min(last, 65536)):
        try:
            return LiveServer((host, each), runs, token, hosts, any_address=any_address)
        except OSError:
            if each + 1 == min(last, 65536):
                raise
    raise OSError(f"port {port} is none: name one from 0 to 65535")


class _Handler(BaseHTTPRequestHandler):
    """One connection. Every request is judged before anything else happens with it."""

    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version = "gradreach"
    sys_version = ""
    timeout = IDLE_SECONDS

    def parse_request(self) -> bool:
        """Read the head of a request; refuse it here, whatever its method, where it must be."""
        if not super().parse_request():
            return False
        refused = self.server.access.refusal(self.command, self.path, self.headers)
        if refused is None and (self.headers.get("Content-Length") or "0").strip("0"):
            refused = Refusal(413, "a question has no body")
        if refused is None and self.headers.get("Transfer-Encoding"):
            refused = Refusal(413, "a question has no body")
        if refused is None:
            return True
        self._refuse(refused)
        return False

    def do_HEAD(self) -> None:
        """Answer with the head alone."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer one of the four addresses there are."""
        path, _, query = self.path.partition("?")
        if path == "/":
            nonce = secrets.token_urlsafe(16)
            policy = (
                f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
                "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
            self._answer(200, "text/html; charset=utf-8", live_page(nonce), policy)
        elif path == "/playground":
            nonce = secrets.token_urlsafe(16)
            policy = (
                f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
                "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
            page = playground_page(nonce=nonce, version=__version__)
            self._answer(200, "text/html; charset=utf-8", page, policy)
        elif path == "/runs":
            self.server.runs.scan()
            told = json_in_page({"schema_version": 1, "runs": self.server.runs.listed()})
            self._answer(200, "application/json", told)
        elif path == "/events":
            self._events(parse_qs(query))
        else:
            self._refuse(Refusal(404, "there is no such page"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Write no log: addresses hold the token."""

    def _answer(self, status: int, kind: str, text: str, policy: str = NOTHING) -> None:
        body = text.encode("utf-8")
        self._head(status, kind, policy)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, refusal: Refusal) -> None:
        self.close_connection = True
        body = f"{refusal.sentence}\n".encode()
        self._head(refusal.status, "text/plain; charset=utf-8", NOTHING)
        if refusal.status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, kind: str, policy: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", policy)
        for name, value in HEADERS.items():
            self.send_header(name, value)

    def _events(self, query: dict[str, list[str]]) -> None:
        """Send parts of the chosen runs as they come, until the page is closed."""
        wanted = query.get("runs", [""])[0].split(",")[:RUNS_AT_ONCE]
        feeds = [feed for feed in map(self.server.runs.feed, wanted) if feed is not None]
        self._head(200, "text/event-stream", NOTHING)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        self.server.watched(1)
        try:
            for part in self._parts(feeds):
                self.wfile.write(part)
                self.wfile.flush()
        finally:
            self.server.watched(-1)

    def _parts(self, feeds: list[RunFeed]) -> Iterator[bytes]:
        """Yield what the page lacks, from the position that it says it has come to."""
        positions = self._positions(feeds)
        sent: dict[str, int] = {}
        listed = ""
        beat = time.monotonic()
        yield b"retry: 500\n\n"
        while not self.server.closing.is_set():
            self.server.runs.scan()
            runs = json_in_page(self.server.runs.listed())
            if _names(runs) != _names(listed):
                yield b"event: runs\ndata: " + runs.encode() + b"\n\n"
                listed = runs
            for feed in feeds:
                feed.look()
                if sent.get(feed.id) == feed.version:
                    continue
                sent[feed.id] = feed.version
                told, positions[feed.id] = feed.told(positions.get(feed.id))
                id_ = ";".join(f"{name}:{at}" for name, at in positions.items() if at is not None)
                yield f"id: {self.server.boot};{id_}\nevent: run\n".encode()
                yield b"data: " + json_in_page(told).encode() + b"\n\n"
                beat = time.monotonic()
            if time.monotonic() - beat > BEAT_SECONDS:
                beat = time.monotonic()
                yield b"event: beat\ndata: {}\n\n"
            self.server.closing.wait(PUSH_SECONDS)

    def _positions(self, feeds: list[RunFeed]) -> dict[str, Position | None]:
        """Return where the page stands after a break, as it was told with the last part."""
        boot, _, rest = (self.headers.get("Last-Event-ID") or "")[:400].partition(";")
        if boot != self.server.boot:
            return {}
        known = dict(part.partition(":")[::2] for part in rest.split(";"))
        return {feed.id: Position.read(known[feed.id]) for feed in feeds if feed.id in known}


def _names(listed: str) -> list[str]:
    """Return ids and names of a list of runs; when they were last written changes all the time."""
    return [f"{run['id']} {run['name']}" for run in json.loads(listed or "[]")]
