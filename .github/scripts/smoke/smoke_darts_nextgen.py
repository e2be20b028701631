"""darts-nextgen alone: the command answers, and a sample area goes through the whole pipeline."""

import subprocess
import sysconfig
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio

from darts import demo
from darts.pipelines.sequential_v2 import PlanetPipeline

COMMAND = Path(sysconfig.get_path("scripts")) / "darts"


def darts(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), *map(str, words)], capture_output=True, text=True, check=False)


def try_command() -> None:
    shown = darts("--version")
    assert (shown.returncode, shown.stdout) == (0, f"darts {version('darts-nextgen')}\n"), shown
    for words in (["--help"], ["inference", "planet-sequential", "--help"], ["paths"], ["env-info"]):
        assert darts(*words).returncode == 0, words
    wrong = darts("inference", "planet-sequential", "--patch-size", "256", "--overlap", "200")
    assert wrong.returncode == 2
    assert "overlap is 200 px" in wrong.stderr


def try_run(folder: Path) -> None:
    area = demo.make_sample_area(folder / "area", seed=3, size=512)
    pipeline = PlanetPipeline(
        model_files=demo.demo_model(),
        scenes_dir=area.scenes_dir,
        arcticdem_dir=area.arcticdem_dir,
        tcvis_dir=area.tcvis_dir,
        output_data_dir=folder / "results",
        device="cpu",
        offline=True,
    )
    records = pipeline.run()
    assert records.count("success") == 1, records.tiles
    results = records.tiles[0].output_path
    with (
        rasterio.open(results / "probabilities.tif") as probabilities,
        rasterio.open(results / "binarized.tif") as file,
    ):
        percent, slumps = probabilities.read(1), file.read(1)
    assert (slumps[percent == 255] == 255).all()  # Nobody saw it.
    assert (percent[slumps == 1] >= 50).all()
    objects = pd.read_parquet(results / "prediction_segments.parquet", columns=["npixel"])
    assert objects["npixel"].sum() == np.count_nonzero(slumps == 1)
    again = darts("inference", "planet-sequential", "--config-file", records.path("config.toml"))
    assert again.returncode == 0, again.stderr
    assert "1 skipped" in again.stderr


if __name__ == "__main__":
    try_command()
    with tempfile.TemporaryDirectory() as temporary:
        try_run(Path(temporary))
