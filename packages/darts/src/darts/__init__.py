"""Map retrogressive thaw slumps from PlanetScope and Sentinel-2 images."""
