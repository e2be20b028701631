"""Inspect finished results."""

from collections.abc import Sequence
from pathlib import Path

import typer

from darts.run.names import counted
from darts_export import ManifestError, find_exports, verify_export


def verify(folders: Sequence[Path]) -> None:
    """Compare every file of finished results with its manifest, and list what is wrong.

    Raises:
        SystemExit: With code 1 if a file was changed, is missing or cannot be read, a manifest included.
        ManifestError: If a folder holds no results.
    """
    tiles, failed = 0, 0
    for path in (path for folder in folders for path in find_exports(folder)):
        tiles += 1
        try:
            found = verify_export(path)
        except ManifestError as error:  # of this tile; the others are looked at all the same
            failed += 1
            typer.echo(str(error))
            continue
        failed += bool(found.failures)
        for name, reason in found.failures.items():
            typer.echo(f"{path / name}: {reason}.")
        for name, reason in found.notes.items():
            typer.echo(f"note: {path / name}: {reason}.")
    typer.echo(f"{counted(tiles, 'tile')} compared with the manifests, {failed} not as written.")
    if failed:
        raise SystemExit(1)
