"""Take over datacubes and mosaics that other programs filled: one module per kind, and the copying of chunks."""
