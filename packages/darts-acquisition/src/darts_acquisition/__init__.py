"""Load satellite images, ArcticDEM and TCVIS as tiles for DARTS."""
