"""Segment DARTS tiles with one network or an ensemble of them."""
