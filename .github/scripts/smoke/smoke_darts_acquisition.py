"""darts-acquisition alone: a PlanetScope scene from files, and both auxiliary cubes."""

import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

import darts_acquisition

SCENE = "20210821_210019_08_2405"
GRID = GeoBox.from_bbox((500_000, 7_500_000, 500_060, 7_500_030), crs="EPSG:32608", resolution=3, tight=True)


NEEDS_SERVICE = {
    name
    for name in darts_acquisition.__all__
    if name.startswith("download_")
    or any(part in name for part in ("cdse_s2_sr", "gee_", "cdse_s2_mosaics", "earth_engine"))
}
"""Functions that ask a service on the network; the package's tests run them against servers of their own."""


def write_raster(path: Path, values: np.ndarray) -> None:
    count, height, width = values.shape
    profile = {"driver": "GTiff", "dtype": values.dtype, "crs": str(GRID.crs), "transform": GRID.transform}
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as file:
        file.write(values)


def try_planet(folder: Path) -> None:
    numbers = np.arange(1, 4 * 10 * 20 + 1, dtype=np.uint16).reshape(4, 10, 20)
    numbers[:, 0, 0] = 0
    usable = np.zeros((8, 10, 20), np.uint8)
    usable[0] = 1
    usable[5, 2, 3] = 1  # cloud
    folder.mkdir()
    write_raster(folder / f"{SCENE}_3B_AnalyticMS_SR.tif", numbers)
    write_raster(folder / f"{SCENE}_3B_udm2.tif", usable)
    properties = {"sun_azimuth": 170.5, "sun_elevation": 33.25, "acquired": "2021-08-21T21:00:19.08Z"}
    (folder / f"{SCENE}_metadata.json").write_text(json.dumps({"id": SCENE, "properties": properties}))

    assert darts_acquisition.parse_planet_type(folder) == "scene"
    assert list(darts_acquisition.find_planet_scenes(folder.parent)) == [folder]
    assert folder / f"{SCENE}_3B_udm2.tif" in darts_acquisition.list_planet_files(folder)
    darts_acquisition.check_planet_scene(folder)
    scene = darts_acquisition.load_planet_scene(folder)
    np.testing.assert_allclose(scene["nir"][5, 5], numbers[3, 5, 5] / 10_000, rtol=1e-6)
    assert np.isnan(scene["red"][0, 0])
    assert scene.attrs["elevation"] == 33.25
    quality = darts_acquisition.load_planet_masks(folder)["quality_data_mask"]
    assert [int(quality[0, 0]), int(quality[2, 3]), int(quality[5, 5])] == [0, 1, 2]
    footprint = darts_acquisition.get_planet_geometry(folder).to_crs("EPSG:32608")
    assert abs(footprint.area / (60 * 30) - 1) < 1e-3


def try_cubes(folder: Path) -> None:
    with darts_acquisition.cancellable(darts_acquisition.FetchCancellation()):
        fill_and_read(folder)


def fill_and_read(folder: Path) -> None:
    assert darts_acquisition.estimate_arcticdem(GRID, folder / "dem", 32).missing_chunks == 1
    assert darts_acquisition.estimate_tcvis(GRID, folder / "tcvis").missing_chunks == 1
    cube = darts_acquisition.create_arcticdem_cube(folder / "dem", 32)
    assert cube.product.collection == darts_acquisition.arcticdem_product(32).collection
    window = cube.geobox[cube.window(GRID, 20)]
    heights = np.linspace(100, 200, window.shape[0] * window.shape[1], dtype=np.float32).reshape(window.shape)
    cube.write(window, {"dem": heights, "arcticdem_data_mask": np.ones(window.shape, np.uint8)}, complete=True)
    dem = darts_acquisition.load_arcticdem(GRID, folder / "dem", 32, buffer=2, offline=True)
    row, column = (int(np.argmin(abs(window.coordinates[axis].values - dem[axis].values[0]))) for axis in ("y", "x"))
    part = heights[row : row + dem.sizes["y"], column : column + dem.sizes["x"]]
    np.testing.assert_array_equal(dem["dem"], part)
    assert darts_acquisition.estimate_arcticdem(GRID, folder / "dem", 32).missing_chunks == 0
    assert darts_acquisition.inspect_cube(folder / "dem").filled == 1
    check = darts_acquisition.verify_cube(folder / "dem")
    assert (check.checked, check.damaged) == (1, {})

    assert darts_acquisition.tcvis_trend_of_year(2024) == list(darts_acquisition.TRENDS)[-1] == "2005-2024"
    try:
        darts_acquisition.import_cube(folder / "dem", folder / "imported")
    except darts_acquisition.CubeError as error:
        assert "no datacube of smart-geocubes" in str(error)  # noqa: PT017
    try:
        darts_acquisition.inspect_origin(folder / "absent")
    except darts_acquisition.CubeNotFoundError as error:
        assert "nothing" in str(error)  # noqa: PT017
    cube = darts_acquisition.create_tcvis_cube(folder / "tcvis")
    assert cube.product.collection == darts_acquisition.tcvis_product().collection
    window = cube.geobox[cube.window(GRID, 2)]
    trends = {name: np.full(window.shape, number, np.uint8) for number, name in enumerate(NAMES, start=7)}
    cube.write(window, trends, complete=True)
    tcvis = darts_acquisition.load_tcvis(GRID, folder / "tcvis", offline=True)
    assert [int(tcvis[name].max()) for name in NAMES] == [7, 8, 9]


def try_grid(folder: Path) -> None:
    assert darts_acquisition.read_sentinel_2_grid(folder) is None
    darts_acquisition.check_tiles_exist(["33UVP", "08WMA"], folder)
    try:
        darts_acquisition.check_tiles_exist(["33IVP"], folder)
    except ValueError:
        return
    raise AssertionError("there is no latitude band I")


def try_mosaics(folder: Path) -> None:
    mosaic = "Sentinel-2_mosaic_2023_Q3_08WMA_0_0"
    assert darts_acquisition.CDSEMosaicSource(darts_acquisition.CDSEMosaicSettings()).year(mosaic) == 2023
    try:
        darts_acquisition.load_cdse_s2_mosaic(mosaic, folder / "raw", offline=True)
    except darts_acquisition.SceneNotStoredError as error:
        assert mosaic in str(error)  # noqa: PT017
        return
    raise AssertionError("there is no mosaic in an empty store")


NAMES = ("tc_brightness", "tc_greenness", "tc_wetness")

with tempfile.TemporaryDirectory() as temporary:
    try_planet(Path(temporary) / SCENE)
    try_cubes(Path(temporary))
    try_grid(Path(temporary))
    try_mosaics(Path(temporary))
