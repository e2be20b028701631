"""The command `darts demo`: a sample area, mapped with the demonstration model and compared with the truth."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import geopandas as gpd
import shapely
import typer
from pydantic import ValidationError

from darts.cli.logs import start_logging
from darts.cli.tables import print_table
from darts.demo import compare_with_truth, demo_model, draw_result
from darts.errors import ConfigurationError
from darts.pipelines.sequential_v2 import PlanetPipeline
from darts.report import write_report
from darts.run.records import RunRecords
from darts_demo import find_sample_area, image_geobox, make_sample_area
from darts_evaluation import Evaluation, Figure


def run_demo(output_dir: Path, *, seed: int, size: int, device: str | None, verbosity: int) -> None:
    """Make a sample area, run the pipeline over it, and show how the result compares with the truth.

    Args:
        output_dir: Folder of everything that the demo writes. A sample area that is there already is used again.
        seed: Seed of the sample area.
        size: Edge of the sample area in pixels of 3 m.
        device: As for the pipeline.
        verbosity: As for `start_logging`.

    Raises:
        SystemExit: With code 1 if the run failed.
    """
    start_logging(verbosity)
    start = perf_counter()
    folder = output_dir / f"sample-{seed}-{size}px"
    area = find_sample_area(folder)
    if area is None:
        typer.echo(f"Making a sample area of {size} × {size} pixels …")
        area = make_sample_area(folder, seed=seed, size=size)
    try:
        pipeline = PlanetPipeline(
            model_files=[demo_model()],
            scenes_dir=area.scenes_dir,
            arcticdem_dir=area.arcticdem_dir,
            tcvis_dir=area.tcvis_dir,
            output_data_dir=output_dir / "results",
            export_bands=["probabilities", "binarized", "polygonized", "extent", "thumbnail", "optical", "metadata"],
            device=device,
            offline=True,
            overwrite=True,
            report=False,
        )
    except ValidationError as error:
        raise ConfigurationError(f"--device is {device!r}: {error.errors()[0]['msg']}.") from error
    records = pipeline.run()
    if records.count("failed"):
        raise SystemExit(1)
    results = records.tiles[0].output_path
    picture = draw_result(area, results, output_dir / "demo.png")
    truth, whole = gpd.read_file(area.truth_file), shapely.box(*image_geobox(area.size).boundingbox.bbox)
    with TemporaryDirectory() as temporary:  # The truth is complete wherever the image is.
        gpd.GeoSeries([whole], crs=truth.crs).to_file(outline := Path(temporary) / "area.gpkg", driver="GPKG")
        report = write_report(output_dir / "results", labels=area.truth_file, area=outline)
    _show(records, compare_with_truth(results, truth, whole), perf_counter() - start)
    outputs = {"results": results, "picture": picture, "true outlines": area.truth_file, "report": report}
    for what, where in outputs.items():
        typer.echo(f"{what}: {where}")


def _show(records: RunRecords, comparison: Evaluation, seconds: float) -> None:
    times = records.seconds() | {"everything, with the sample and the comparison": seconds}
    print_table(((stage, f"{value:6.1f}") for stage, value in times.items()), "stage", "seconds")
    pixels, objects = comparison.figures["pixels"], comparison.figures["objects"]
    labels, mapped, recall = (objects[name].value for name in ("labels", "mapped", "recall@0.5"))
    found = round(recall * labels) if labels else 0
    typer.echo(
        f"{found} slumps found, {labels - found:.0f} missed, {mapped - found:.0f} false alarms, in the reliable area; "
        f"IoU {_with_interval(pixels['iou'])}, object F1 {_with_interval(objects['f1@0.5'])} against the true "
        "outlines."
    )


def _with_interval(figure: Figure) -> str:
    return f"{figure.value_text(2)} ({figure.interval_text(2)})"
