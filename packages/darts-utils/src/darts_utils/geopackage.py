"""GeoPackages that GDAL wrote: checked for what it does not tell, and the same bytes for the same content."""

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

WRITTEN = "1970-01-01T00:00:00.000Z"
"""When every table of a settled GeoPackage, and what is said about it, says that it was changed."""
_APPLICATION_ID = int.from_bytes(b"GPKG", "big")
_USER_VERSION = 10300
"""What a GeoPackage of version 1.3 says it is (OGC 12-128r17, requirement 2)."""
_HEADER_BYTES = 100
_COUNTERS = (24, 92)
"""Where SQLite's header says how often the file was changed, and at which change it was whole."""


def settle_geopackage(path: Path, change: Callable[[sqlite3.Connection], object] = lambda _: None) -> None:
    """Take the time out of a new GeoPackage, and check that it says what it is, see :func:`write_geopackage`.

    Args:
        path: A GeoPackage of version 1.3 that nobody has open.
        change: Changes it further, or raises a ValueError.

    Raises:
        OSError: If it was not written whole, or cannot be read or written.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # Whoever puts it in place syncs it, once.
            change(connection)
            _settle(connection)
    except (sqlite3.Error, ValueError) as error:
        raise OSError(f"{path.name}: {error}") from error
    with path.open("r+b") as file:
        header = _counted_once(file.read(_HEADER_BYTES))
        file.seek(0)
        file.write(header)


def write_geopackage(path: Path, content: io.BytesIO, change: Callable[[sqlite3.Connection], None]) -> None:
    """Write a new GeoPackage that GDAL made in memory, without the time and checked for what GDAL does not tell.

    GDAL writes when it changed a table, and in one file of fifty it counts one change more. Where the disk fails, it
    goes on without the statement that failed; in memory no disk fails.

    Args:
        path: The file; equal for equal content.
        content: A GeoPackage of version 1.3. Closed, so that there are never more than two of it in memory.
        change: Changes it further.

    Raises:
        OSError: If it is no GeoPackage, or cannot be written.
    """
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            with content, content.getbuffer() as buffer:
                connection.deserialize(buffer)
            change(connection)
            _settle(connection)
            settled = memoryview(connection.serialize())
    except (sqlite3.Error, ValueError) as error:
        raise OSError(f"{path.name}: {error}") from error
    with path.open("wb") as file:
        file.writelines([_counted_once(settled[:_HEADER_BYTES]), settled[_HEADER_BYTES:]])


def _settle(connection: sqlite3.Connection) -> None:
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if found != [_APPLICATION_ID, _USER_VERSION]:
        raise ValueError(f"it was not written whole: its header says {found[0]:#x}, {found[1]}")
    connection.execute("UPDATE gpkg_contents SET last_change = ?", [WRITTEN])
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_metadata_reference'").fetchone():
        connection.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", [WRITTEN])
    connection.commit()


def _counted_once(header: bytes | memoryview) -> bytearray:
    changed = bytearray(header)
    for offset in _COUNTERS:
        changed[offset : offset + 4] = (1).to_bytes(4, "big")
    return changed
