"""HTTP servers on 127.0.0.1 that answer like real services, and misbehave on request."""

import fnmatch
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """A request as it came in; `query` is decoded, `body` is raw."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Answer:
    """What a server answers; `headers` replace those that follow from the body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, content: Any, status: int = 200, **headers: str) -> "Answer":
        return cls(json.dumps(content).encode(), status, {"Content-Type": "application/json"} | headers)


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path fits the pattern.

    Attributes:
        path: Pattern of paths as in the shell.
        times: How many requests it strikes.
        after: How many that fit pass unharmed first.
        status: Answer with this status instead.
        retry_after: Header of that answer.
        reset_after: Reset the connection after this many bytes of the body.
        truncate_to: End the connection in good order after this many bytes of the body, whose length was announced.
        cut_to: Announce and send only this many bytes: a file that lost its end.
        announce: Content-Length to announce instead of the true one.
        delay_s: Seconds before the answer begins.
        methods: What it strikes.
        headers: Further headers of the answer.
        body: Body that replaces the true one; headers stay.
    """

    path: str = "*"
    times: int = 1
    after: int = 0
    status: int | None = None
    retry_after: str | None = None
    reset_after: int | None = None
    truncate_to: int | None = None
    cut_to: int | None = None
    announce: int | None = None
    delay_s: float = 0.0
    methods: tuple[str, ...] = ("GET", "POST")
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


class _Http(ThreadingHTTPServer):
    """Says nothing of a client that has gone away."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LocalServer:
    """A server whose answers a function gives. Use `running` to start and stop one.

    Attributes:
        requests: The requests that came, in their order.
        most_at_once: The largest number of requests that were answered at the same time.
        errors: Errors of the server itself, which `running` raises at its end.
    """

    def __init__(self, respond: Callable[[Request], Answer]) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.most_at_once = 0
        self.errors: list[Exception] = []
        self._now = 0
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._http.block_on_close = False

    @property
    def url(self) -> str:
        """Address of the server, without a slash at its end."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def inject(self, **fault: Any) -> Fault:
        """Let something go wrong, see `Fault`."""
        self.faults.append(Fault(**fault))
        return self.faults[-1]

    def paths(self, method: str | None = None) -> list[str]:
        """List the paths that were asked for."""
        return [request.path for request in self.requests if method in (None, request.method)]

    def answer(self, request: Request) -> Answer:
        try:
            return self.respond(request)
        except Exception as error:  # noqa: BLE001 - raised again where the server ends
            self.errors.append(error)
            return Answer(repr(error).encode(), 418)

    def take_fault(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if request.method in fault.methods and fnmatch.fnmatch(request.path, fault.path) and fault.times:
                    if fault.after:
                        fault.after -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    @contextmanager
    def counting(self, request: Request) -> Iterator[None]:
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            yield
        finally:
            with self._lock:
                self._now -= 1

    @contextmanager
    def running(self) -> Iterator["LocalServer"]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()
        if self.errors:
            raise self.errors[0]


def _handler(server: LocalServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        disable_nagle_algorithm = True  # or the body would wait 40 ms for the head to be acknowledged

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            request = Request(self.command, unquote(parts.path), query, dict(self.headers), body)
            with server.counting(request):
                fault = server.take_fault(request)
                if fault is not None and fault.delay_s:
                    time.sleep(fault.delay_s)
                if fault is not None and fault.status is not None:
                    headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
                    answer = Answer(fault.body or b"out of order", fault.status, headers | fault.headers)
                else:
                    answer = server.answer(request)
            try:  # Not counted: who has read the end may make the next request before this thread is done.
                self._send(answer, fault)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = do_HEAD = do_PUT = _serve  # noqa: N815

        def _send(self, answer: Answer, fault: Fault | None) -> None:
            body = answer.body
            headers = dict(answer.headers)
            if fault is not None:
                body = body if fault.body is None else fault.body
                body = body[: fault.cut_to]
                headers |= fault.headers
            length = len(body) if fault is None or fault.announce is None else fault.announce
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(length)} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault is not None and fault.reset_after is not None:
                self.wfile.write(body[: fault.reset_after])
                self.wfile.flush()
                # A linger time of 0 makes close() send a reset instead of an orderly end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(body if fault is None else body[: fault.truncate_to])
            if length != len(body) or (fault is not None and fault.truncate_to is not None):
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            """Say nothing: what came is in `requests`."""

    return Handler
