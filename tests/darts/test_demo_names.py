"""What made the landscapes of the demonstration is in darts-demo now; its names can still be had where they were."""

import importlib
import subprocess
import sys

import pytest

import darts.demo
import darts_demo

SUBMODULES = {
    "auxiliary": ["arcticdem_dataset", "tcvis_dataset", "write_cubes"],
    "landscape": ["MARGIN_PX", "Landscape", "image_geobox", "make_landscape"],
    "sample": [
        *("DEMO_SEED", "SampleArea", "SampleAreaError", "find_sample_area", "make_inputs", "make_sample_area"),
        *("optical_dataset", "read_truth", "truth_polygons"),
    ],
    "slumps": ["Slump"],
}
BEFORE = [
    *("DEMO_SEED", "Landscape", "SampleArea", "SampleAreaError", "arcticdem_dataset", "find_sample_area"),
    *("make_inputs", "make_landscape", "make_sample_area", "optical_dataset", "read_truth", "tcvis_dataset"),
    "truth_polygons",
]


def test_every_public_name_is_that_of_the_package():
    assert set(BEFORE) < set(darts.demo.__all__)
    for name in BEFORE:
        assert getattr(darts.demo, name) is getattr(darts_demo, name), name


@pytest.mark.parametrize("name", SUBMODULES)
def test_modules_are_found_where_they_were(name):
    before, now = (importlib.import_module(f"{package}.{name}") for package in ("darts.demo", "darts_demo"))
    for public in SUBMODULES[name]:
        assert getattr(before, public) is getattr(now, public), public


def test_the_demo_model_needs_no_landscape():
    code = "import sys, darts.demo; darts.demo.demo_model(); print('darts_demo' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "False\n"
