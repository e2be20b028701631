"""The switch between CPU and GPU: one small interface, one module per kind of device."""

from darts_postprocessing.backends.base import Array, Backend
from darts_postprocessing.backends.choice import TRIAL, choose_device, compute_on
from darts_utils import is_on_gpu

__all__ = ["TRIAL", "Array", "Backend", "choose_device", "compute_on", "is_on_gpu"]
