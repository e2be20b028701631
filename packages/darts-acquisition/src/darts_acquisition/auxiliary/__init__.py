"""Terrain (ArcticDEM) and land change (TCVIS) for a tile, out of datacubes: product and source in one module each."""
