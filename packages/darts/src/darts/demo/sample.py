"""What of `darts_demo.sample` is to be had from `darts.demo` as well; import it from `darts_demo`."""

from darts_demo.errors import SampleAreaError as SampleAreaError
from darts_demo.optical import optical_dataset as optical_dataset
from darts_demo.sample import *  # noqa: F403
from darts_demo.truth import truth_polygons as truth_polygons
