"""Quarterly Sentinel-2 mosaics of the Copernicus Data Space."""
