"""The many ways in which a PlanetScope delivery can be broken, each done to a good copy of one."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine

DAMAGES: dict[str, Callable[[Path], object]] = {}
"""What was done to a delivery, by name; each function takes the delivery's folder."""


def _damage(function: Callable[[Path], object]) -> Callable[[Path], object]:
    DAMAGES[function.__name__] = function
    return function


def copy_scene(scene: Path, folder: Path, name: str) -> Path:
    """Copy a delivery under another name, as another delivery has it."""
    target = folder / name
    target.mkdir(parents=True)
    for path in scene.iterdir():
        shutil.copy2(path, target / path.name.replace(scene.name, name))
    return target


def image(folder: Path) -> Path:
    return next(folder.glob("*_SR.tif"))


def mask(folder: Path) -> Path:
    return next(folder.glob("*_udm2.tif"))


def metadata(folder: Path) -> Path:
    return next(folder.glob("*_metadata.json"))


def _rewrite(path: Path, change: Callable[[np.ndarray, dict[str, Any]], np.ndarray]) -> None:
    with rasterio.open(path) as source:
        pixels, profile = source.read(), source.profile
    pixels = change(pixels, profile)
    profile.update(count=pixels.shape[0], height=pixels.shape[1], width=pixels.shape[2], dtype=pixels.dtype)
    path.unlink()
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)


@_damage
def image_missing(folder: Path) -> None:
    image(folder).unlink()


@_damage
def image_doubled(folder: Path) -> None:
    shutil.copy(image(folder), folder / "another_3B_AnalyticMS_SR.tif")


@_damage
def image_empty(folder: Path) -> None:
    image(folder).write_bytes(b"")


@_damage
def image_truncated(folder: Path) -> None:
    path = image(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@_damage
def image_header_only(folder: Path) -> None:
    path = image(folder)
    path.write_bytes(path.read_bytes()[:200])


@_damage
def image_is_text(folder: Path) -> None:
    image(folder).write_text("<html>404 Not Found</html>")


@_damage
def image_is_a_folder(folder: Path) -> None:
    path = image(folder)
    path.unlink()
    path.mkdir()


@_damage
def image_is_a_dangling_link(folder: Path) -> None:
    path = image(folder)
    path.unlink()
    path.symlink_to(folder / "nowhere.tif")


@_damage
def image_links_to_itself(folder: Path) -> None:
    path = image(folder)
    path.unlink()
    path.symlink_to(path)


@_damage
def image_has_three_bands(folder: Path) -> None:
    _rewrite(image(folder), lambda pixels, profile: pixels[:3])


@_damage
def image_has_eight_bands(folder: Path) -> None:
    _rewrite(image(folder), lambda pixels, profile: np.concatenate([pixels, pixels]))


@_damage
def image_is_float(folder: Path) -> None:
    def change(pixels: np.ndarray, profile: dict[str, Any]) -> np.ndarray:
        profile.pop("nodata", None)
        return pixels.astype(np.float32) / 10000

    _rewrite(image(folder), change)


@_damage
def image_is_bytes(folder: Path) -> None:
    _rewrite(image(folder), lambda pixels, profile: (pixels // 256).astype(np.uint8))


@_damage
def image_without_crs(folder: Path) -> None:
    def change(pixels: np.ndarray, profile: dict[str, Any]) -> np.ndarray:
        profile.pop("crs")
        return pixels

    _rewrite(image(folder), change)


@_damage
def image_in_degrees(folder: Path) -> None:
    def change(pixels: np.ndarray, profile: dict[str, Any]) -> np.ndarray:
        profile.update(crs="EPSG:4326", transform=Affine(3e-5, 0, -135, 0, -3e-5, 68))
        return pixels

    _rewrite(image(folder), change)


@_damage
def image_rotated(folder: Path) -> None:
    def change(pixels: np.ndarray, profile: dict[str, Any]) -> np.ndarray:
        profile["transform"] = profile["transform"] * Affine.rotation(10)
        return pixels

    _rewrite(image(folder), change)


@_damage
def image_south_up(folder: Path) -> None:
    def change(pixels: np.ndarray, profile: dict[str, Any]) -> np.ndarray:
        profile["transform"] = profile["transform"] * Affine.scale(1, -1)
        return pixels

    _rewrite(image(folder), change)


@_damage
def image_all_nodata(folder: Path) -> None:
    _rewrite(image(folder), lambda pixels, profile: np.zeros_like(pixels))


@_damage
def image_is_one_pixel(folder: Path) -> None:
    _rewrite(image(folder), lambda pixels, profile: pixels[:, :1, :1])


@_damage
def image_claims_to_be_enormous(folder: Path) -> None:
    path = image(folder)
    path.unlink()
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=2_000_000,
        height=2_000_000,
        count=4,
        dtype="uint16",
        crs="EPSG:32608",
        transform=Affine(3, 0, 500_000, 0, -3, 7_550_000),
        tiled=True,
        blockxsize=32768,
        blockysize=32768,
        sparse_ok=True,
        bigtiff="YES",
    ):
        pass


@_damage
def mask_missing(folder: Path) -> None:
    mask(folder).unlink()


@_damage
def mask_doubled(folder: Path) -> None:
    shutil.copy(mask(folder), folder / "another_3B_udm2.tif")


@_damage
def mask_truncated(folder: Path) -> None:
    path = mask(folder)
    path.write_bytes(path.read_bytes()[:300])


@_damage
def mask_has_one_band(folder: Path) -> None:
    _rewrite(mask(folder), lambda pixels, profile: pixels[:1])


@_damage
def mask_is_smaller(folder: Path) -> None:
    _rewrite(mask(folder), lambda pixels, profile: pixels[:, :-1])


@_damage
def mask_is_shifted(folder: Path) -> None:
    def change(pixels: np.ndarray, profile: dict[str, Any]) -> np.ndarray:
        profile["transform"] = profile["transform"] * Affine.translation(0.5, 0)
        return pixels

    _rewrite(mask(folder), change)


@_damage
def mask_in_another_zone(folder: Path) -> None:
    def change(pixels: np.ndarray, profile: dict[str, Any]) -> np.ndarray:
        profile["crs"] = "EPSG:32609"
        return pixels

    _rewrite(mask(folder), change)


@_damage
def metadata_missing(folder: Path) -> None:
    metadata(folder).unlink()


@_damage
def metadata_is_no_json(folder: Path) -> None:
    metadata(folder).write_text('{"properties": {"sun_azimuth": 132.8,')


@_damage
def metadata_is_a_list(folder: Path) -> None:
    metadata(folder).write_text("[1, 2, 3]")


@_damage
def metadata_with_words_for_angles(folder: Path) -> None:
    content = json.loads(metadata(folder).read_text())
    content["properties"]["sun_azimuth"] = "south"
    metadata(folder).write_text(json.dumps(content))


@_damage
def metadata_is_binary(folder: Path) -> None:
    metadata(folder).write_bytes(os.urandom(256))


@_damage
def folder_empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


@_damage
def folder_name_is_no_scene(folder: Path) -> None:
    folder.rename(folder.with_name("20211399_210019_08_2405"))


@_damage
def folder_links_to_itself(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)
