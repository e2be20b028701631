"""A made-up Arctic landscape with known thaw slumps, a small model that finds them, and how to judge and draw it."""

from .auxiliary import arcticdem_dataset as arcticdem_dataset
from .auxiliary import tcvis_dataset as tcvis_dataset
from .drawing import draw_map as draw_map
from .drawing import draw_result as draw_result
from .evaluate import compare_with_truth as compare_with_truth
from .evaluate import map_of as map_of
from .landscape import Landscape as Landscape
from .landscape import make_landscape as make_landscape
from .model_file import demo_model as demo_model
from .sample import DEMO_SEED as DEMO_SEED
from .sample import SampleArea as SampleArea
from .sample import SampleAreaError as SampleAreaError
from .sample import find_sample_area as find_sample_area
from .sample import make_inputs as make_inputs
from .sample import make_sample_area as make_sample_area
from .sample import optical_dataset as optical_dataset
from .sample import read_truth as read_truth
from .sample import truth_polygons as truth_polygons
