"""The steps of gpu.sh, each in a process of its own, within one budget of time; the report is written after each.

A step that fails, or finds no time left, does not keep the next from running; the exit code is that of the worst.
"""

import argparse
import gc
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUDGET_S = 600
TESTS = tuple(f"tests/darts-{name}" for name in ("utils", "preprocessing", "postprocessing", "segmentation"))
_CHATTER = re.compile(r"^(nanobind: .*| - (leaked|\.\.\.) .*|See https://nanobind.*)\n", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: What it is called in the report.
        command: What is run, from the root of the repository.
        most_s: Seconds that it may take.
        environment: Variables that it gets besides.
    """

    name: str
    command: Sequence[str]
    most_s: float
    environment: tuple[tuple[str, str], ...] = ()


def steps(*, check: bool, size: int) -> list[Step]:
    """List the steps; with `check` those that need a device use the CPU, and tests run on the stand-in."""
    python, device = sys.executable, "cpu" if check else "cuda"
    pytest = (python, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "--no-header")
    own = (python, __file__, "--size", str(size), "--device", device)
    marked = Step("tests marked gpu", (*pytest, "-m", "gpu", *TESTS), 240, (("DARTS_REQUIRE_GPU", "1"),))
    listed = Step("tests marked gpu, listed", (*pytest, "-m", "gpu", "--collect-only", *TESTS), 120)
    kernels = ("tests/darts-preprocessing/test_kernels.py", "tests/darts-postprocessing/test_backends.py")
    stand_in = Step("kernels on the stand-in", (*pytest, "-k", "stand-in", *kernels), 120)
    return [
        Step("machine", (*own, "--step", "machine"), 60),
        Step("names in the wheels", (*pytest, "-W", "default", "tests/integration/test_standin_gpu.py"), 60),
        *([listed, stand_in] if check else [marked]),
        Step("equal results", (*own, "--step", "compare"), 130),
        Step("seconds", (*own, "--step", "seconds"), 100),
        Step("lanes", (*own, "--step", "lanes"), 120),
        Step("memory", (*own, "--step", "memory"), 100),
    ]


def run_steps(
    wanted: Sequence[Step], report: Path, budget_s: float, clock: Callable[[], float] = time.monotonic
) -> int:
    """Run steps within a budget, and write the report after each.

    Args:
        wanted: The steps.
        report: The file, Markdown.
        budget_s: Seconds for all of them.
        clock: Tells the time.

    Returns:
        0 where every step went well, else 1.
    """
    begun, parts, worst = clock(), [f"# Report of {platform.node() or 'a machine'}\n"], 0
    for step in wanted:
        left = budget_s - (clock() - begun)
        if left <= 0:
            outcome, said, seconds = "not run: no time left", "", 0.0
        else:
            at = clock()
            outcome, said = run_step(step, min(left, step.most_s))
            seconds = clock() - at
        worst = max(worst, int(outcome != "ok"))
        parts.append(f"## {step.name}: {outcome} ({seconds:.0f} s)\n\n```text\n{said.strip()[-6000:]}\n```\n")
        report.write_text("\n".join(parts), encoding="utf-8")
        print(f"{step.name}: {outcome} ({seconds:.0f} s)", flush=True)
    return worst


def run_step(step: Step, most_s: float) -> tuple[str, str]:
    """Run a step; return how it ended and what it said."""
    environment = os.environ | dict(step.environment)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(step.command, cwd=ROOT, env=environment, start_new_session=True, **pipes) as process:
        try:
            said, _ = process.communicate(timeout=most_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the step and what it has started
            said, _ = process.communicate()
            return f"stopped after {most_s:.0f} s", said
    return ("ok" if process.returncode == 0 else f"exit code {process.returncode}"), _CHATTER.sub("", said)


# What the steps of this script do, in a process of their own.


def machine(device: str, size: int) -> None:
    """Say what the machine is, and on which device each library computes."""
    import torch

    from darts_postprocessing.postprocess import CUCIM_AVAILABLE
    from darts_utils import Device, try_cupy, usable_cpus

    print(f"Python {platform.python_version()}, {usable_cpus()} CPUs")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        about = f"{properties.total_memory / 2**30:.0f} GiB, sm_{properties.major}{properties.minor}"
        print(f"GPU {index}: {properties.name}, {about}")
    print(f"cucim {'is' if CUCIM_AVAILABLE else 'is not'} installed; tile of {size} × {size} px")
    trouble = try_cupy("pip install cupy")(Device("cuda", 0))
    print(trouble or "cupy computes on GPU 0")
    if device != "cpu" and (trouble or not torch.cuda.is_available()):
        sys.exit("The GPU does not work for cupy, or not for torch.")


def make_inputs(size: int) -> tuple[Any, Any, Any]:
    """Make a tile with everything that preprocessing takes, the same each time."""
    import numpy as np
    import xarray as xr
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    rng = np.random.default_rng(1)
    grid = GeoBox.from_bbox((500_000, 7_600_000, 500_000 + 3 * size, 7_600_000 + 3 * size), "EPSG:32608", resolution=3)
    wide = grid.pad(60)
    rows, cols = np.ogrid[: wide.shape.y, : wide.shape.x]
    dem = 300 + 60 * np.cos(rows / 70) + 40 * np.sin(cols / 90) + rng.random(wide.shape)
    dem[wide.shape.y // 3 : wide.shape.y // 3 + 30, 100:180] = np.nan
    bands = {name: rng.uniform(0, 0.5, grid.shape) for name in ("blue", "green", "red", "nir")}
    bands["nir"][rng.random(grid.shape) < 0.01] = np.nan

    def dataset(geobox: Any, layers: dict[str, Any], dtype: str) -> Any:
        variables = {name: (("y", "x"), values.astype(dtype)) for name, values in layers.items()}
        return xr.Dataset(variables, coords=xr_coords(geobox), attrs={"azimuth": 150.0, "elevation": 30.0})

    tile = dataset(grid, bands, "float32").assign(quality_data_mask=(("y", "x"), np.full(grid.shape, 2, np.uint8)))
    tile["quality_data_mask"][size // 2 :, : size // 5] = 0
    arcticdem = dataset(wide, {"dem": dem}, "float32")
    arcticdem["arcticdem_data_mask"] = (("y", "x"), (~np.isnan(dem)).astype(np.uint8))
    names = ("tc_brightness", "tc_greenness", "tc_wetness")
    return tile, arcticdem, dataset(wide, {name: rng.integers(0, 256, wide.shape) for name in names}, "uint8")


def stages(device: str, *, keep: bool) -> dict[str, Callable[[Any], Any]]:
    """Return the stages of a tile on a device, in order; each takes what the one before returns."""
    from darts.demo import demo_model
    from darts_postprocessing import prepare_export
    from darts_preprocessing import FEATURES, preprocess_v2
    from darts_segmentation import SMPSegmenter

    network = SMPSegmenter(demo_model(), device)
    return {
        "preprocess_v2": lambda given: preprocess_v2(
            *given, device=device, features=list(FEATURES), keep_on_device=keep
        ),
        "segment_tile": lambda tile: network.segment_tile(tile, patch_size=256, overlap=64),
        "prepare_export": lambda tile: prepare_export(
            tile, bin_threshold=0.3, mask_erosion_size=10, min_object_size=32, quality_level=1, device=device
        ),
    }


def run_stages(device: str, given: Any, *, keep: bool) -> tuple[Any, dict[str, float]]:
    """Take a tile through the stages; return it with the seconds of each, the device waited for."""
    seconds = {}
    result = given
    for name, stage in stages(device, keep=keep).items():
        at = time.perf_counter()
        result = stage(result)
        if device != "cpu":
            import torch

            torch.cuda.synchronize()
        seconds[name] = time.perf_counter() - at
    return result, seconds


def on_host(array: Any) -> Any:
    """Return the values of a variable on the host."""
    return array.data.get() if hasattr(array.data, "get") else array.values


def compare(device: str, size: int) -> None:
    """Compare every variable that the device gives with that of the CPU, and objects and erosion with cucim's."""
    import numpy as np

    given = make_inputs(size)
    expected, _ = run_stages("cpu", given, keep=False)
    wrong = []
    for keep in (False, True):
        found, _ = run_stages(device, given, keep=keep)
        for name in expected.data_vars:
            ours, theirs = on_host(found[name]).astype(float), expected[name].values.astype(float)
            difference = np.abs(ours - theirs)
            if name == "aspect":
                difference = np.minimum(difference, 360 - difference)
            largest = float(np.nanmax(difference / np.maximum(1, np.abs(theirs)), initial=0))
            whole = expected[name].dtype.kind in "bu" and not name.startswith("binarized")
            # Where a probability falls on the threshold, an object may gain or lose a pixel.
            limit = 0 if whole else 1e-4 * size if name.startswith("binarized") else 1e-4
            apart = int((np.isnan(ours) != np.isnan(theirs)).sum())
            print(f"{'kept there' if keep else 'brought back'} {name}: {largest:.2g}, {apart} px missing in one only")
            worst = float((ours != theirs).sum()) if name.startswith("binarized") else largest
            wrong += [name] if worst > limit or apart else []
    if device != "cpu":
        wrong += witnesses(expected)
    if wrong:
        sys.exit(f"Results differ: {', '.join(sorted(set(wrong)))}.")


def witnesses(tile: Any) -> list[str]:
    """Compare objects and erosion with cucim's own, bit by bit; return what differs."""
    import cupy
    import numpy as np
    from cucim.skimage import measure, morphology

    from darts_postprocessing import kernels

    probabilities = tile["probabilities"].fillna(0).values
    labels = measure.label(cupy.asarray(probabilities > 0.3), connectivity=2)
    theirs = cupy.asnumpy(morphology.remove_small_objects(labels, max_size=31, connectivity=2) > 0)
    objects = np.array_equal(kernels.binarize(probabilities, 0.3, 32, device="cuda"), theirs)
    mask = tile["quality_data_mask"].values > 0
    padded = cupy.asarray(np.pad(mask, 12, constant_values=True))
    eroded = cupy.asnumpy(morphology.isotropic_erosion(padded, 10))[12:-12, 12:-12]
    erosion = np.array_equal(kernels.erode(mask, 10, 0, device="cuda") > 0, eroded)
    print(f"objects equal cucim's: {objects}; erosion equals cucim's: {erosion}")
    return [name for name, equal in (("objects", objects), ("erosion", erosion)) if not equal]


def seconds(device: str, size: int) -> None:
    """Print the seconds of each stage, the second time, on the CPU and on the device with and without moving."""
    given = make_inputs(size)
    for where, keep in dict.fromkeys([("cpu", False), (device, False), (device, True)]):
        run_stages(where, make_inputs(min(size, 300)), keep=keep)
        _, taken = run_stages(where, given, keep=keep)
        taken["all"] = sum(taken.values())
        print(f"{where}{', kept there' if keep else ''}: {json.dumps({k: round(v, 3) for k, v in taken.items()})}")


def lanes(device: str, size: int) -> None:
    """Print what tiles take in the lanes of a run against the bare network, and how busy the GPU is meanwhile."""
    from gpu_lanes import compare_with_network

    compare_with_network(device, make_inputs(min(size, 600)), make_inputs(size), size)


def memory(device: str, size: int) -> None:
    """Run a tile again and again; the memory in use must not grow after the second time."""
    import psutil

    given, used = make_inputs(min(size, 1000)), []
    for _ in range(6):
        run_stages(device, given, keep=device != "cpu")
        gc.collect()
        now = {"host": psutil.Process().memory_info().rss}
        if device != "cpu":
            import cupy
            import torch

            now |= {"torch": torch.cuda.memory_allocated(), "cupy": cupy.get_default_memory_pool().used_bytes()}
        used.append(now)
        print({name: f"{value / 2**20:.0f} MiB" for name, value in now.items()})
    limits = {"host": 256 << 20, "torch": 1 << 20, "cupy": 1 << 20}
    grown = [name for name in used[0] if used[-1][name] - used[2][name] > limits[name]]
    if grown:
        sys.exit(f"Memory grows from tile to tile: {', '.join(grown)}.")


STEPS = {"machine": machine, "compare": compare, "seconds": seconds, "lanes": lanes, "memory": memory}


def main() -> None:
    """Run the steps, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="everything but the device: a test of this script")
    parser.add_argument("--report", type=Path, default=Path("gpu-report.md"), help="where the report goes")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for all steps")
    parser.add_argument("--size", type=int, help="rows and columns of the tile; 4000, or 300 with --check")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = given.size or (300 if given.check else 4000)
    if given.step:
        STEPS[given.step](given.device, size)
        return
    report = given.report.resolve()
    code = run_steps(steps(check=given.check, size=size), report, given.budget)
    print(f"The report is {report}.")
    sys.exit(code)


if __name__ == "__main__":
    main()
