"""Sentinel-2 L2A scenes of the Copernicus Data Space and of Google Earth Engine, with one result."""
