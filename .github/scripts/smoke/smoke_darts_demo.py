"""darts-demo alone: a landscape as arrays, as tiles and as files, with the truth."""

import sys
import tempfile
from pathlib import Path

import numpy as np

import darts_demo
from darts_acquisition import load_arcticdem, load_planet_scene, load_tcvis

SIZE = 128

landscape = darts_demo.make_landscape(darts_demo.DEMO_SEED, SIZE)
assert landscape.geobox == darts_demo.image_geobox(SIZE)
truth = darts_demo.truth_polygons(landscape)
assert truth["npixel"].sum() == np.count_nonzero(landscape.label) > 0
optical = darts_demo.optical_dataset(landscape)
np.testing.assert_array_equal(optical["nir"], landscape.reflectance[3])
dem, trends = darts_demo.arcticdem_dataset(landscape), darts_demo.tcvis_dataset(landscape)
assert np.isfinite(dem["dem"]).any()
for made, again in zip(darts_demo.make_inputs(SIZE), (optical, dem, trends), strict=True):
    assert made.identical(again)

with tempfile.TemporaryDirectory() as temporary:
    folder = Path(temporary) / "area"
    assert darts_demo.find_sample_area(folder) is None
    area = darts_demo.make_sample_area(folder, size=SIZE)
    assert darts_demo.find_sample_area(folder) == area
    scene = load_planet_scene(area.scene_dir)
    np.testing.assert_allclose(scene["nir"], optical["nir"], atol=0.501e-4)
    loaded = load_arcticdem(landscape.geobox, area.arcticdem_dir, 2, buffer=8, offline=True)
    np.testing.assert_array_equal(loaded["dem"], dem["dem"].sel(x=loaded.x, y=loaded.y))
    assert (load_tcvis(landscape.geobox, area.tcvis_dir, offline=True)["tc_wetness"] > 0).all()
    np.testing.assert_array_equal(darts_demo.read_truth(area), landscape.label)
    try:
        darts_demo.make_sample_area(folder)
    except darts_demo.SampleAreaError:
        pass
    else:
        sys.exit("What is there is overwritten.")
assert not {"darts", "torch", "typer", "rich", "pydantic"} & set(sys.modules)
