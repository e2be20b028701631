"""Take tiles through their stages on a Dask cluster: needs ``pip install "darts-nextgen[cluster]"``."""
