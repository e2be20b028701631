"""Search Sentinel-2 L2A scenes in the Copernicus Data Space."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING, Any
