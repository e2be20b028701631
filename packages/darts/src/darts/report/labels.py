"""What labels say of a run: figures, and which slumps are hits, misses and false alarms."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import geopandas as gpd

import darts_evaluation
from darts.report.maps import kind_colour
from darts.report.source import RunSource
from darts.report.tiles import TileView, outlines

_SHOWN = (
    ("pixels", "iou", "IoU of pixels"),
    ("objects", "f1@0.5", "F1 of slumps, overlap 0.5"),
    ("objects", "precision@0.5", "mapped slumps that are labelled"),
    ("objects", "recall@0.5", "labelled slumps that are mapped"),
    ("size", "area_ratio", "mapped / labelled area"),
)


@dataclass(frozen=True)
class Judgement:
    """A comparison with labels.

    Attributes:
        figures: What each is called, its value, and its 95 % interval, as texts.
        counts: Number of hits, false alarms and misses.
        notes: Sentences that a reader must know.
        shapes: Hits, false alarms and misses: `kind`, `tile`.
    """

    LEGEND: ClassVar = (
        ("hit", "hit: a label agrees"),
        ("false alarm", "false alarm: no label there"),
        ("miss", "miss: a label that was not found"),
        ("", "not compared"),
    )

    figures: list[tuple[str, str, str]]
    counts: dict[str, int]
    notes: list[str]
    shapes: gpd.GeoDataFrame

    def colour(self, tile: str, view: TileView) -> None:
        """Colour the slumps of a tile by what labels say of them, and add the misses."""
        shapes = self.shapes[self.shapes["tile"] == tile]
        slumps = view.data["slumps"]
        for name, kind in _verdicts(view, shapes).items():
            index = slumps["uid"].index(name) if name in slumps["uid"] else -1
            if index >= 0:
                slumps["kind"][index], slumps["colour"][index] = kind, kind_colour(kind)
        kinds = dict(zip(slumps["uid"], slumps["kind"], strict=True))
        for row in view.rows:
            row["kind"] = kinds.get(row["uid"], "")
        missed = shapes[shapes["kind"] == "miss"]
        if len(missed) and view.wkt:
            added = outlines(missed.to_crs(view.wkt).geometry.to_numpy(), view.origin)
            count = len(missed)
            extra = {"uid": ["label"] * count, "area_m2": missed.to_crs(view.wkt).area.tolist(), "mean": [None] * count}
            extra |= {"kind": ["miss"] * count, "colour": [kind_colour("miss")] * count}
            for name, values in (added | extra).items():
                slumps[name] = [*slumps[name], *values]


def judge(source: RunSource, labels: Path, area: Path | None) -> Judgement:
    """Compare a run with labels.

    Raises:
        LabelsError: If the labels cannot be read, or lie in no tile.
        PredictionsError: If results are damaged.
    """
    finished = source.table[source.table["status"].isin(["success", "skipped"]) & (source.table["folder"] != "")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", darts_evaluation.FewBlocksWarning)  # The notes say the same.
        warnings.simplefilter("ignore", darts_evaluation.NoLabelAreaWarning)
        found = darts_evaluation.evaluate(
            [source.output / folder for folder in finished["folder"]], darts_evaluation.read_labels(labels, area)
        )
    figures = []
    for group, name, text in _SHOWN:
        figure = found.figures.get(group, {}).get(name)
        if figure is not None and figure.value == figure.value:
            figures.append((text, figure.value_text(2), figure.interval_text(2)))
    counts = {kind: int((found.outlines["kind"] == kind).sum()) for kind in ("hit", "false alarm", "miss")}
    return Judgement(figures, counts, list(found.notes), found.outlines)


def _verdicts(view: TileView, shapes: gpd.GeoDataFrame) -> dict[str, str]:
    """Return what labels say of each slump by its name: that of the mapped shape in which its point lies."""
    mapped = shapes[shapes["kind"].isin(["hit", "false alarm"])]
    placed = [row for row in view.rows if "lon" in row]
    if not len(mapped) or not placed:
        return {}
    lonlat = gpd.points_from_xy([row["lon"] for row in placed], [row["lat"] for row in placed], crs="EPSG:4326")
    points = gpd.GeoDataFrame({"uid": [row["uid"] for row in placed]}, geometry=lonlat).to_crs(mapped.crs)
    joined = gpd.sjoin(points, mapped[["kind", "geometry"]], predicate="within")
    return dict(zip(joined["uid"], joined["kind"], strict=True))
