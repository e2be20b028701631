"""Files over HTTP, whole or in parts, on 127.0.0.1; faults can be injected, see `local_server.Fault`."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.local_server import Answer, LocalServer, Request


def _respond(folder: Path, request: Request, ranges: bool) -> Answer:
    file = (folder / request.path.lstrip("/")).resolve()
    if not file.is_file() or not file.is_relative_to(folder.resolve()):
        return Answer(b"no such file", 404)
    content = file.read_bytes()
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"', "Content-Type": "application/octet-stream"}
    if ranges:
        headers["Accept-Ranges"] = "bytes"
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")) if ranges else None
    if wanted is None:
        return Answer(content, 200, headers)
    first = int(wanted[1])
    last = min(int(wanted[2] or len(content) - 1), len(content) - 1)
    if first > last:
        return Answer(b"", 416, headers | {"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    return Answer(content[first : last + 1], 206, headers)


@contextmanager
def serve_files(folder: Path, *, ranges: bool = True) -> Iterator[LocalServer]:
    """Serve a folder until the block ends.

    Args:
        folder: What lies at the root of the server; may change meanwhile.
        ranges: Answer range requests, as object stores do.
    """
    with LocalServer(lambda request: _respond(folder, request, ranges)).running() as server:
        yield server
