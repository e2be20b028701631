"""Make up Arctic landscapes with thaw slumps whose outlines are known, as arrays, tiles, scenes and datacubes."""

from .auxiliary import arcticdem_dataset as arcticdem_dataset
from .auxiliary import tcvis_dataset as tcvis_dataset
from .errors import SampleAreaError as SampleAreaError
from .landscape import Landscape as Landscape
from .landscape import image_geobox as image_geobox
from .landscape import make_landscape as make_landscape
from .optical import optical_dataset as optical_dataset
from .sample import DEMO_SEED as DEMO_SEED
from .sample import SampleArea as SampleArea
from .sample import find_sample_area as find_sample_area
from .sample import make_inputs as make_inputs
from .sample import make_sample_area as make_sample_area
from .sample import read_truth as read_truth
from .slumps import Slump as Slump
from .truth import truth_polygons as truth_polygons
