"""What a worker of a cluster imports, all at once."""

import importlib

from support import standin

for name in ("darts.run.cluster.plugin", "darts.run.cluster.coordinator", *standin.IMPORTS):
    importlib.import_module(name)
