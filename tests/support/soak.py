"""Run a pipeline over many small tiles in processes of their own, and compare folders of results."""

import json
import os
import sys
from pathlib import Path

from support.damage import copy_scene

LONGEST_LIFE = 4.0
"""Seconds after which a child is killed at the latest."""
RECORD_KINDS = ("config.toml", "journal.jsonl", "log", "results.parquet", "stopwatch.parquet", "timer.parquet")


def make_scenes(scene: Path, folder: Path, count: int) -> None:
    """Copy a scene so often under names of its own."""
    for number in range(count):
        day, hour = number % 336, number // 336
        copy_scene(scene, folder, f"2021{day // 28 + 1:02}{day % 28 + 1:02}_{hour:02}0000_01_2405")


def pipeline(values: dict):
    """Make the pipeline that these tests run: small patches, on the CPU, offline."""
    from darts.demo import demo_model
    from darts.pipelines.sequential_v2 import PlanetPipeline

    defaults = {
        "model_files": demo_model(),
        "patch_size": 64,
        "overlap": 16,
        "mask_erosion_size": 2,
        "batch_size": 4,
        "device": "cpu",
        "report": False,
        "offline": True,
    }
    return PlanetPipeline(**(defaults | values))


def describe(output: Path) -> dict[str, str]:
    """Describe a folder of results: a hash or the rows of every file, but for records of a run and its report."""
    import geopandas as gpd
    import pyogrio

    from darts_export import read_manifest

    content = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_dir() or name.endswith(RECORD_KINDS) or name.startswith((".darts-", "report/")):
            continue
        if path.suffix == ".gpkg":
            table = gpd.read_file(path, layer=pyogrio.list_layers(path)[0, 0])
            content[name] = table.to_wkt().to_csv()
        elif path.name in ("manifest.json", "item.json"):
            content[name] = "written"
        else:
            content[name] = read_manifest(path.parent)["files"][path.name]["sha256"]
    return content


def finished(output: Path) -> dict[str, tuple[int, int]]:
    """Return the identity of the manifest of every finished tile, which changes when a tile is computed again."""
    manifests = output.glob("*/manifest.json")
    return {path.parent.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in manifests}


def kill_and_restart(values: dict, kills: int) -> dict:
    """Run a pipeline in children, kill as many of them at random moments, and let the last one end.

    The children are forked from a process that has loaded all libraries and used none of them.
    """
    import random
    import signal
    import time

    import torch  # noqa: F401 - loaded once, for all children

    import darts_acquisition  # noqa: F401
    import darts_export.export  # noqa: F401
    import darts_preprocessing
    import darts_segmentation  # noqa: F401

    _ = darts_preprocessing.preprocess_v2
    moments = random.Random(kills)
    output = Path(values["output_data_dir"])
    twice: list[str] = []
    killed = 0
    while True:
        before = finished(output)
        child = os.fork()
        if child == 0:
            pipeline(values).run()
            os._exit(0)
        ended, status = 0, 0
        if killed < kills:
            time.sleep(moments.uniform(0.05, LONGEST_LIFE))
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                os.kill(child, signal.SIGKILL)
                killed += 1
        if not ended:
            _, status = os.waitpid(child, 0)
        after = finished(output)
        twice += [name for name, identity in before.items() if after.get(name) != identity]
        if os.WIFEXITED(status):
            return {"killed": killed, "code": os.WEXITSTATUS(status), "computed twice": twice}


if __name__ == "__main__":
    for run in json.loads(sys.argv[1]):
        print(json.dumps(kill_and_restart(**run)), flush=True)
