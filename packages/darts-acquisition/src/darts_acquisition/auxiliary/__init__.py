"""Terrain (ArcticDEM) and land change (TCVIS) for a tile, out of datacubes."""
