"""Write DARTS results as Cloud-Optimized GeoTIFF, GeoPackage, GeoParquet and thumbnail."""
