"""A stand-in for the networks of a run, a source of tiny images, and processes that begin with everything imported.

The session multiplies one band by a number and needs no torch; everything around it (planning, records, executors,
datacubes, export) is the real thing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darts.pipelines.options import AbsolutePath, option
from darts.pipelines.sequential_v2 import _BasePipeline
from darts.run.planning import RunContext
from darts_segmentation import ModelCard

SIZE = 48
"""Edge of a tile in pixels."""


@dataclass(frozen=True)
class MultiplyingSession:
    """Takes the first band of each model times its weight for the probability of a slump; others get the rest."""

    weights: dict[str, tuple[str, float]]
    keep_members: bool
    precision: str = "fp32"
    device: str = "cpu"
    classes: tuple[str, ...] = ()

    def segment(self, tile: Any) -> Any:
        parts = {name: (tile[band] * weight).clip(0, 1) for name, (band, weight) in self.weights.items()}
        mean = sum(parts.values()) / len(parts)
        added = {"probabilities": mean.astype(np.float32)}
        if self.keep_members:
            added |= {f"probabilities-{name}": part.astype(np.float32) for name, part in parts.items()}
        added |= {name: (1 - mean).astype(np.float32) for name in self.classes}
        return tile.assign(added)


def open_session(pipeline: Any, context: RunContext) -> MultiplyingSession:
    """Open a stand-in for the networks of a run."""
    from safetensors.numpy import load_file

    weights = {
        name: (str(context.cards[name]["mlm:input"][0]["bands"][0]), float(load_file(path)["weight"][0]))
        for name, path in context.models.items()
    }
    precision = "bf16" if pipeline.precision == "auto" else pipeline.precision
    return MultiplyingSession(weights, bool(context.subsets), precision, classes=context.classes)


def write_model(path: Path, weight: float = 1.0, bands: Sequence[str] = ("nir",), **described: Any) -> Path:
    """Write a model that only the stand-in can run; further fields of its card may be given."""
    from safetensors.numpy import save_file

    architecture = {"arch": "unet", "encoder_name": "resnet18"}
    card = ModelCard(name=path.stem, architecture=architecture, bands=tuple(bands), **described)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.array([weight], np.float32)}, path)
    path.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")
    return path


def write_image(path: Path, seed: int = 0, size: int = SIZE, level: float = 0.4) -> Path:
    """Write an image of four bands: reflectance × 10000, higher in the near infrared in a square."""
    import rasterio
    from affine import Affine

    rng = np.random.default_rng(seed)
    values = rng.integers(500, 3000, (4, size, size)).astype(np.uint16)
    top, left = rng.integers(8, size - 24, 2)
    values[3, top : top + 12, left : left + 12] = round(10000 * (level + 0.4))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 4, "height": size, "width": size, "nodata": 0}
    transform = Affine(10, 0, 500_000 + 10 * size * seed, 0, -10, 7_600_000)
    with rasterio.open(draft, "w", crs="EPSG:32608", transform=transform, **profile) as file:
        file.write(values)
    draft.replace(path)
    return path


@dataclass
class StandInPipeline(_BasePipeline):
    """Maps GeoTIFFs of four bands in a folder."""

    images_dir: AbsolutePath = option(help="Folder of images.")

    def _arcticdem_resolution(self) -> int:
        return 10

    def _get_tile_id(self, tilekey: Path) -> str:
        return tilekey.stem

    def _tileinfos(self) -> list[tuple[Path, Path]]:
        return [(path, self.output_data_dir / path.stem) for path in sorted(self.images_dir.glob("*.tif"))]

    def _tile_inputs(self, tilekey: Path) -> list[Path]:
        return [tilekey] if tilekey.exists() else []

    def _load_tile(self, tilekey: Path) -> Any:
        import odc.geo.xr  # noqa: F401
        import rasterio
        import xarray as xr
        from odc.geo.geobox import GeoBox
        from odc.geo.xr import xr_coords

        from darts_utils import NoDataError

        with rasterio.open(tilekey) as file:
            values = file.read()
            coords = xr_coords(GeoBox(file.shape, file.transform, file.crs))
        if not values.any():
            raise NoDataError(f"{tilekey} holds no data.")
        seen = values.all(axis=0)
        bands = {
            name: (("y", "x"), np.where(seen, band / 10000, np.nan).astype(np.float32))
            for name, band in zip(("blue", "green", "red", "nir"), values, strict=True)
        }
        bands["quality_data_mask"] = (("y", "x"), np.where(seen, 2, 0).astype(np.uint8))
        attrs = {"tile_id": tilekey.stem, "time": "2021-08-21T21:00:19Z"}
        return xr.Dataset(bands, coords=coords, attrs=attrs)

    def _tile_aoi(self) -> Any:
        import geopandas as gpd
        import rasterio
        from shapely.geometry import box

        bounds = []
        for key, _ in self._tileinfos():
            with rasterio.open(key) as file:
                bounds.append(box(*file.bounds))
        names = [key.stem for key, _ in self._tileinfos()]
        return gpd.GeoDataFrame({"tile_id": names}, geometry=bounds, crs="EPSG:32608")


def make_pipeline(folder: Path, **values: Any) -> StandInPipeline:
    """Make a pipeline over ``folder/images`` with the model ``folder/model.safetensors``."""
    defaults = {
        "images_dir": folder / "images",
        "output_data_dir": folder / "results",
        "model_files": folder / "model.safetensors",
        "mask_erosion_size": 2,
        "min_object_size": 4,
        "patch_size": 32,
        "overlap": 8,
        "device": "cpu",
        "offline": True,
        "export_bands": ["probabilities", "binarized", "polygonized", "extent"],
    }
    return StandInPipeline(**(defaults | values))


def make_folder(folder: Path, count: int) -> Path:
    """Write a model and some images."""
    write_model(folder / "model.safetensors")
    for number in range(count):
        write_image(folder / "images" / f"tile-{number:03}.tif", number)
    return folder


RECORDS = (".jsonl", ".log", ".toml", ".parquet", ".lock", ".reserve")


def describe(output: Path) -> dict[str, Any]:
    """Describe a folder of results: the digest of every file of every tile, but for what says when it was made."""
    content: dict[str, Any] = {}
    for manifest in sorted(output.glob("*/manifest.json")):
        read = json.loads(manifest.read_text())
        files = {name: found["sha256"] for name, found in read["files"].items()}
        content[manifest.parent.name] = (read.get("status", "success"), files, sorted(read["files"]))
    return content


IMPORTS = [
    *("support.standin", "darts.run", "darts_export.export", "darts_postprocessing.export", "darts_preprocessing"),
    *("odc.geo.xr", "rasterio", "geopandas", "pyogrio", "pandas", "pyarrow.parquet", "shapely", "safetensors.numpy"),
    *("darts_segmentation", "darts.cli.inference", "skimage.measure", "PIL.Image", "pystac.extensions.view"),
]
"""What a run with the stand-in imports and may be forked."""


def run_pipeline(folder: str, values: dict[str, Any]) -> dict[str, Any]:
    """Run the pipeline over a folder with the stand-in; return its exit code, its records and what it said."""
    import io
    import logging

    import darts_export.export
    from darts.run import RunInterrupted, exit_code, run
    from darts_utils import DartsError

    darts_export.export._WORKERS = 1  # so that calls to the system come in one order
    said = io.StringIO()
    logging.basicConfig(stream=said, level=logging.INFO, format="%(levelname)s %(message)s", force=True)
    records: list[Any] = []
    try:
        made = run(make_pipeline(Path(folder), **values), open_session)
        code = exit_code(made)
        records = [(tile.tile_id, tile.status, tile.error) for tile in made.tiles]
    except RunInterrupted as interrupted:
        code = interrupted.code
    except DartsError as error:
        code = 2
        said.write(f"Error: {error}")
    return {"code": code, "records": records, "said": said.getvalue()}


def warm_up() -> None:
    """Run the pipeline once, so that what is compiled or imported late is there before the first fork."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = run_pipeline(str(make_folder(Path(folder), 1)), {"executor": "serial"})
    if made["code"]:
        raise RuntimeError(made["said"])


def plan_pipeline(folder: str, values: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Plan the run of the pipeline over a folder; return what would be done about each tile and why."""
    import logging

    from darts.run import plan

    logging.disable()
    decisions = plan(make_pipeline(Path(folder), **values)).decisions
    return [(decision.task.tile_id, decision.action, decision.why) for decision in decisions]
