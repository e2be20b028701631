"""The commands of `darts cube`: what a datacube holds, and whether all of it can still be read."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

import darts_acquisition
from darts.cli.tables import print_table
from darts.errors import ConfigurationError
from darts.run.checks import import_hint
from darts_utils import DefaultPaths, original_cube


def show_cube(path: str, geojson: Path | None = None) -> None:
    """Print what a datacube holds: extent, size and, as the last line, the filled area as GeoJSON.

    Raises:
        ConfigurationError: If the file cannot be written.
    """
    try:
        info = darts_acquisition.inspect_cube(path)
    except darts_acquisition.ForeignCubeError as error:
        raise ConfigurationError(f"{error} {import_hint(path)}") from error
    print_table(_describe(info).items())
    area = json.dumps(info.area)
    if geojson is None:
        typer.echo(area)
        return
    try:
        geojson.write_text(area + "\n", "utf-8")
    except OSError as error:
        raise ConfigurationError(f"{geojson} cannot be written ({error.strerror}); correct --geojson.") from error
    typer.echo(f"Wrote {geojson}.")


def verify(path: str, *, repair: bool = False) -> None:
    """Read all that a datacube holds, and list what is damaged.

    Raises:
        SystemExit: With code 1 if something is damaged, also if it was repaired.
    """
    with _telling("Reading") as tell:
        try:
            found = darts_acquisition.verify_cube(path, repair=repair, progress=tell)
        except darts_acquisition.CubeDamagedError as error:  # its lists; what is damaged beyond them is in `found`
            typer.echo(str(error))
            raise SystemExit(1) from error
        except darts_acquisition.ForeignCubeError as error:
            raise ConfigurationError(f"{error} {import_hint(path)}") from error
    for chunk, reason in found.damaged.items():
        typer.echo(f"row {chunk.row}, column {chunk.col}: {reason}")
    typer.echo(f"{found.checked} chunks read, {len(found.damaged)} damaged.")
    if not found.damaged:
        return
    how = "They count as missing now" if repair else "With --repair they count as missing"
    typer.echo(f"{how}, and are fetched again when they are needed.")
    raise SystemExit(1)


def take_over(origin: Path, product: str | None, to: str | None) -> None:
    """Import a datacube or a mosaic that another program filled, and print what was taken over.

    Raises:
        SystemExit: With code 1 if a part of the origin is damaged.
    """
    holds = darts_acquisition.inspect_origin(origin, product)
    uri = to or str(_uri_of(origin, holds))
    with _telling("Importing") as tell:
        report = darts_acquisition.import_cube(origin, uri, product, progress=tell)
    typer.echo(
        f"{report.filled} chunks of {report.product.collection} are in {uri} now, {report.empty} hold nothing, "
        f"{report.present} were there before. {report.incomplete} are not provably complete, and are fetched when they "
        "are needed."
    )
    for chunk, reason in report.damaged.items():
        typer.echo(f"row {chunk.row}, column {chunk.col}: {reason}")
    if report.damaged:
        typer.echo(f"{len(report.damaged)} chunks cannot be read, and are fetched when they are needed.")
        raise SystemExit(1)


@contextmanager
def _telling(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far something is with the chunks of a cube."""
    with Console(stderr=True).status(f"{what} …") as status:
        yield lambda done, total: status.update(f"{what} chunk {done} of {total} …")


def _uri_of(origin: Path, product: "darts_acquisition.CubeProduct") -> Path:
    """Return where a new datacube of a product lies: beside that of the original, else where a run looks for it."""
    defaults = DefaultPaths()
    if product.name == "arcticdem":
        found = defaults.find_arcticdem(round(product.geobox.affine.a))
    else:
        found = defaults.find_tctrend(int(product.version[-4:]))
    beside = origin.absolute().parent / found.path.name
    return beside if original_cube(beside) == origin.absolute() else found.path


def _describe(info: "darts_acquisition.CubeInfo") -> dict[str, str]:
    product = info.product
    grid, box = product.geobox, product.geobox.boundingbox
    digits = 5 if abs(grid.affine.a) < 0.1 else 0  # degrees or metres
    rows, cols = (-(-size // product.chunk_px) for size in grid.shape)
    described = {
        "path": info.path,
        "product": f"{product.name} {product.version}, {product.collection}",
        "variables": ", ".join(f"{variable.name} ({variable.dtype})" for variable in product.variables),
        "grid": f"{grid.shape[1]} × {grid.shape[0]} pixels of {grid.affine.a:.10g} in {grid.crs}",
        "extent of the grid": f"x {box.left:.{digits}f} to {box.right:.{digits}f}, "
        f"y {box.bottom:.{digits}f} to {box.top:.{digits}f}",
        "chunks": f"{info.filled} filled, {info.empty} empty at the provider, "
        f"{rows * cols - info.filled - info.empty} missing; {product.chunk_px} × {product.chunk_px} pixels each",
        "size on its storage": f"{info.stored_bytes / 1e6:.1f} MB",
    }
    if info.bounds is not None:
        west, south, east, north = info.bounds
        across = " (across the antimeridian)" if west > east else ""
        described["filled area"] = f"longitude {west:.3f} to {east:.3f}{across}, latitude {south:.3f} to {north:.3f}"
    return described
