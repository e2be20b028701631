"""A landscape, its image and its truth load nothing of what only datacubes and files need."""

import subprocess
import sys

import pytest

CUBES = {"icechunk", "zarr", "darts_acquisition"}
NEVER = {"darts", "darts_segmentation", "darts_training", "torch", "typer", "rich", "pydantic"}


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after running some code."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "landscape = darts_demo.make_landscape(1, 64)",
        "darts_demo.truth_polygons(darts_demo.make_landscape(1, 64))",
        "darts_demo.optical_dataset(darts_demo.make_landscape(1, 64))",
    ],
)
def test_an_image_and_its_truth_need_no_datacube(code):
    assert not loaded_by(f"import darts_demo\n{code}") & {*CUBES, *NEVER}


def test_a_sample_area_needs_neither_the_pipelines_nor_torch(tmp_path):
    loaded = loaded_by(f"import darts_demo\ndarts_demo.make_sample_area({str(tmp_path / 'area')!r}, 1, 64)")
    assert loaded >= CUBES
    assert not loaded & NEVER
