"""What loading synthetic scenes and cubes gives, against what RESULTS_VERSION stands for."""

from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_acquisition import (
    RESULTS_VERSION,
    create_arcticdem_cube,
    create_tcvis_cube,
    load_arcticdem,
    load_planet_masks,
    load_planet_scene,
    load_tcvis,
)
from darts_acquisition.scenes.download import download_scene, load_scene
from darts_acquisition.scenes.raw import SCL, RawBand, RawGrid, S2Band, bands_of_scene
from darts_acquisition.scenes.store import RawStore
from support.made_up_scene import LEFT, MADE_UP, TOP, MadeUp
from support.reference import assert_light, check_reference, waves

FILE = Path(__file__).parent / "reference" / "results.npz"
EDGE = 24


class Waves(MadeUp):
    """A provider of a scene whose bands are made of integers alone, and are 0 here and there."""

    def raw(self, band: S2Band) -> RawBand:
        size, r = EDGE // band.factor, float(band.resolution)
        values = waves((size, size), (3, 5, 11), (7, 2, 23))
        values = values % 12 if band is SCL else (values * (1009 + len(band.name))) % 9_001 * (values % 9 > 0)
        scaling = (1.0, 0.0) if band is SCL else (1e-4, -0.1)
        grid = RawGrid("EPSG:32608", (r, 0, LEFT, 0, -r, TOP), values.shape, *scaling)
        return RawBand(band, grid, values.astype(band.dtype))


def planet(delivery) -> dict[str, np.ndarray]:
    made = delivery(shape=(20, 24))
    base = waves((20, 24), (3, 5, 17), (2, 7, 29))
    made.image(
        np.stack([(base * factor % 10_007) * (base % 7 > 0) for factor in (311, 523, 701, 997)]).astype("uint16")
    )
    udm = np.stack([base % (3 + band) == 0 for band in range(8)]).astype("uint8")
    udm[7] = np.where(base % 3 == 0, base % 128, 0)
    made.mask(udm)
    made.metadata()
    scene = load_planet_scene(made.folder)
    masks = load_planet_masks(made.folder, scene)
    found = {name: scene[name].values for name in ("blue", "green", "red", "nir", "y", "x")}
    return found | {name: masks[name].values for name in ("quality_data_mask", "planet_udm")}


def sentinel2(folder: Path) -> dict[str, np.ndarray]:
    provider = Waves()
    download_scene(provider, MADE_UP.scene_id, RawStore(folder), bands_of_scene("all"))
    tile = load_scene(provider, MADE_UP.scene_id, folder, bands_of_scene("all"), offline=True)
    return {str(name): tile[name].values for name in tile.variables if name != "spatial_ref"}


def auxiliary(folder: Path) -> dict[str, np.ndarray]:
    tile = GeoBox((12, 14), Affine(10, 0, 470_890, 0, -10, 7_550_020), "EPSG:32608")
    cube = create_arcticdem_cube(folder / "dem", 10)
    window = cube.window(tile, 4)
    base = waves(window.shape, (3, 5, 50), (7, 2, 90))
    dem = np.where(base % 11 == 0, np.nan, base * 30 - 200).astype("float32")
    cube.write(window, {"dem": dem, "arcticdem_data_mask": (~np.isnan(dem)).astype("uint8")}, complete=True)
    trends = create_tcvis_cube(folder / "tcvis")
    window = trends.window(tile, 4)
    base = waves(window.shape, (3, 5, 50), (7, 2, 90))
    names = ("tc_brightness", "tc_greenness", "tc_wetness")
    trends.write(window, {name: (base * (3 + len(name)) % 256).astype("uint8") for name in names}, complete=True)
    dem = load_arcticdem(tile, folder / "dem", 10, buffer=2, offline=True)
    tcvis = load_tcvis(tile, folder / "tcvis", offline=True)
    found = {name: dem[name].values for name in ("dem", "arcticdem_data_mask")}
    return found | {name: tcvis[name].values for name in names}


def test_reference_results(delivery, tmp_path: Path) -> None:
    parts = {"planet": planet(delivery), "s2": sentinel2(tmp_path / "raw"), "aux": auxiliary(tmp_path)}
    results = {f"{part}-{name}": values for part, found in parts.items() for name, values in found.items()}
    check_reference(FILE, results, RESULTS_VERSION, "darts_acquisition.version.RESULTS_VERSION")


def test_the_version_is_read_lightly() -> None:
    assert_light("darts_acquisition")
