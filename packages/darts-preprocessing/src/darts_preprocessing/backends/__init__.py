"""Kernels, one module per kind of device, and the choice between them."""

from darts_preprocessing.backends.choice import TRIAL, backend_for, backend_of
from darts_preprocessing.backends.cpu import resampling_kernels
from darts_preprocessing.backends.interface import Backend, Interior, Sampling, Shading

__all__ = ["TRIAL", "Backend", "Interior", "Sampling", "Shading", "backend_for", "backend_of", "resampling_kernels"]
