"""GeoPackages that GDAL wrote, checked for what it does not tell."""

import sqlite3
from contextlib import closing
from pathlib import Path

_APPLICATION_ID = int.from_bytes(b"GPKG", "big")
_USER_VERSION = 10300
"""What a GeoPackage of version 1.3 says it is (OGC 12-128r17, requirement 2)."""


def check_geopackage(path: Path) -> None:
    """Check that a new GeoPackage says what it is; where the disk fails just then, GDAL goes on without it.

    Args:
        path: A GeoPackage of version 1.3.

    Raises:
        OSError: If it does not, or cannot be read.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            names = ("application_id", "user_version")
            found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    except sqlite3.Error as error:
        raise OSError(f"{path.name}: {error}") from error
    if found != [_APPLICATION_ID, _USER_VERSION]:
        raise OSError(f"{path.name} was not written whole: its header says {found[0]:#x}, {found[1]}.")
