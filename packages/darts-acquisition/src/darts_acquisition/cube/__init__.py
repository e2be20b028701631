"""The datacube: one product of the size of the Arctic, filled chunk by chunk."""
