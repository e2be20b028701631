"""A run as pages to look at, without internet: `index.html`, a page per tile, and projects for QGIS."""

from darts.report.writing import write_report

__all__ = ["write_report"]
