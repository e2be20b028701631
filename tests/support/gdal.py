"""The command-line tools of GDAL, as other people's programs would read what DARTS writes."""

import shutil

import pytest

needs_gdal_bin = pytest.mark.skipif(
    shutil.which("gdalinfo") is None or shutil.which("ogrinfo") is None,
    reason="gdalinfo and ogrinfo are not installed (Debian: apt-get install gdal-bin)",
)
