"""How bytes come here: bounded, retried where that can succeed, and ended on demand.

`settings` says where services are and as whom they are asked, `failures` what an error of theirs means, `retry` what
follows from that. Over `http` come `stac` catalogues, `earthengine` and files out of a `store`, in object storage with
the signatures of `s3`; `raster` reads windows of GeoTIFFs there.
"""
