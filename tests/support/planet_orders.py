"""Orders of PlanetScope scenes in the layouts in which they arrive."""

import shutil
import zipfile

from darts_acquisition import load_planet_masks, load_planet_scene

SCENES = ("20240710_201530_07_24c3", "20240710_201532_11_24c3", "20151119_025740_0c74")
ORTHOTILE = "5790392_4372514_2022-07-16_2459"
FILES = ("_3B_AnalyticMS_SR.tif", "_3B_udm2.tif", "_metadata.json")


def tile_of(path):
    scene = load_planet_scene(path)
    return scene.assign(load_planet_masks(path, scene).data_vars)


def flat(plain, target, names=SCENES):
    target.mkdir(parents=True)
    for name in names:
        for file in (plain / name).iterdir():
            shutil.copy(file, target)
    (target / "manifest.json").write_text("{}")
    return target


def zipped(folder, target, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(target, "w", compression) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return target


def order(plain, tmp_path):
    return flat(plain, tmp_path / "order" / "PSScene").parent
