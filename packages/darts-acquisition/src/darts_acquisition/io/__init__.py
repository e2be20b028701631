"""How bytes come here: bounded, retried where that can succeed, and ended on demand.

`settings` says where services are and as whom they are asked, `retry` what follows from an error of theirs. Over `http`
come `stac` catalogues, `earthengine` and files out of a `store`, in object storage with signatures; `raster` reads
windows of GeoTIFFs there.
"""
