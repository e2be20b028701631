"""A run as pages to look at, without internet: `index.html`, a page per tile, and projects for QGIS."""

from .writing import write_report as write_report
