"""A server on 127.0.0.1 that answers byte by byte as a test says, however wrong that is."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Talk = Callable[[socket.socket, bytes], None]
"""Answers a request, the head of which is given; the connection is closed afterwards."""


class RawServer:
    """Where a server is, and how many requests came.

    Attributes:
        url: Its address.
        heads: The heads of the requests.
        ended: Set when the test ends; an answer without an end looks at it.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.heads: list[bytes] = []
        self.ended = threading.Event()


@contextmanager
def serve_raw(talk: "Callable[[RawServer, socket.socket, bytes], None]") -> Iterator[RawServer]:
    """Answer each request by a function, in a thread of its own, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = RawServer(listening.getsockname()[1])

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                server.heads.append(head)
                talk(server, connection, head)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def head(status: str = "200 OK", **headers: object) -> bytes:
    """Return the head of an answer; underscores in names are hyphens."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def endless(server: RawServer, connection: socket.socket, block: bytes, pause_s: float = 0.0) -> None:
    """Send a block again and again, until nobody takes it or the test ends."""
    while not server.ended.wait(pause_s):
        connection.sendall(block)
