"""GeoPackages that GDAL wrote: checked for what it does not tell, and the same bytes for the same content."""

import sqlite3
from contextlib import closing
from pathlib import Path

WRITTEN = "1970-01-01T00:00:00.000Z"
"""When every table of a settled GeoPackage says that it was changed."""
_APPLICATION_ID = int.from_bytes(b"GPKG", "big")
_USER_VERSION = 10300
"""What a GeoPackage of version 1.3 says it is (OGC 12-128r17, requirement 2)."""
_HEADER_BYTES = 100
_COUNTERS = (24, 92)
"""Where SQLite's header says how often the file was changed, and at which change it was whole."""


def settle_geopackage(path: Path) -> None:
    """Take the time out of a new GeoPackage, and check that it says what it is.

    GDAL writes when it changed a table, and in one file of fifty changes it once more often. Where the disk fails while
    it writes what the file is, it goes on without.

    Args:
        path: A GeoPackage of version 1.3 that nobody has open.

    Raises:
        OSError: If it was not written whole, or cannot be read or written.
    """
    try:
        with closing(sqlite3.connect(path)) as connection, connection:
            names = ("application_id", "user_version")
            found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
            connection.execute("UPDATE gpkg_contents SET last_change = ?", [WRITTEN])
    except sqlite3.Error as error:
        raise OSError(f"{path.name}: {error}") from error
    if found != [_APPLICATION_ID, _USER_VERSION]:
        raise OSError(f"{path.name} was not written whole: its header says {found[0]:#x}, {found[1]}.")
    with path.open("r+b") as file:
        header = bytearray(file.read(_HEADER_BYTES))
        for place in _COUNTERS:
            header[place : place + 4] = (1).to_bytes(4, "big")
        file.seek(0)
        file.write(header)
