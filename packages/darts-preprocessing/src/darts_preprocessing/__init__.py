"""Terrain, land-change and spectral features for DARTS tiles."""
