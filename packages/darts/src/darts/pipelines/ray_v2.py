"""Where names of the original's ``darts.pipelines.ray_v2`` are; nothing here uses this module."""

from darts_utils.moved import moved_names

_DASK = '(…, executor="dask") of darts.pipelines.sequential_v2, and `darts cluster`,'

__getattr__ = moved_names(
    __name__, {"PlanetRayPipeline": f"PlanetPipeline{_DASK}", "Sentinel2RayPipeline": f"Sentinel2Pipeline{_DASK}"}
)
