"""Records of runs that never were, to report on."""

from pathlib import Path

import numpy as np
import pandas as pd
import shapely


def make_records(folder: Path, count: int) -> pd.DataFrame:
    """Write the records of a run of many tiles whose folders are not here."""
    rng = np.random.default_rng(1)
    lon, lat = -135 + np.arange(count) % 100 * 0.05, 66 + np.arange(count) // 100 * 0.02
    table = pd.DataFrame(
        {
            "tile_id": [f"tile_{number:05}" for number in range(count)],
            "output_path": [f"/elsewhere/tile_{number:05}" for number in range(count)],
            "status": "success",
            "error": "",
            "objects": rng.integers(0, 50, count),
            "area_m2": rng.random(count) * 1e5,
            "mean_probability": rng.random(count),
            "reliable": rng.random(count),
            "cloudy": rng.random(count),
            "acquired": "2021-08-21T21:00:19Z",
            "footprint": shapely.to_wkt(shapely.box(lon, lat, lon + 0.05, lat + 0.02), rounding_precision=5),
            "seconds_segmenting": rng.random(count),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "2026-01-01_00-00-00.results.parquet")
    return table
