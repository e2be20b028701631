"""Translate a network into a program of OpenVINO, and check that it computes the same."""

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from darts_segmentation.errors import ConversionError
from darts_segmentation.modelfile import read_model
from darts_segmentation.network import load_network, output_stride_of
from darts_segmentation.programfile import STRIDE, import_openvino, run_once, write_program
from darts_segmentation.repeats import NETWORK, digest_network
from darts_segmentation.tracing import check_same, trace

if TYPE_CHECKING:
    import openvino


def translate(path: Path | str, out: Path | str, **described: object) -> None:
    """Write the program of a model into a folder that is there; the card comes last, and makes it whole.

    Args:
        path: The model.
        out: The folder.
        **described: Fields of the card, see :func:`darts_segmentation.read_model`.

    Raises:
        ModelFileError: If the model cannot be read.
        ConversionError: If the network cannot be translated, or the program computes something else.
    """
    model = read_model(path, **described)
    network = load_network(model.card, model.state_dict)
    traced, sample = trace(network, model.card)
    try:
        program = _convert(network, traced, sample)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        raise ConversionError(f"Model {model.card.name!r} cannot be translated for OpenVINO: {reason}") from error
    check_same(network, sample, lambda: run_once(program, sample.numpy()), f"The OpenVINO program of {path}")
    program.set_rt_info(str(_find_stride(program, network, sample)), STRIDE)
    content = json.loads(model.card.to_json()) | {NETWORK: digest_network(model.card, model.state_dict)}
    write_program(program, Path(out), json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _convert(network: torch.nn.Module, traced: torch.export.ExportedProgram, sample: torch.Tensor) -> "openvino.Model":
    """Return the program of what torch.export made of a network, or torch.jit where OpenVINO lacks a part of it."""
    openvino = import_openvino()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deplores torch.jit, and the constants that it makes of shapes
            try:
                return openvino.convert_model(traced)
            except openvino.frontend.OpConversionFailure:
                return openvino.convert_model(network, example_input=sample)
    finally:  # OpenVINO leaves the root logger silent where it fails
        root.setLevel(level)
        root.handlers[:] = handlers


def _find_stride(program: "openvino.Model", network: torch.nn.Module, sample: torch.Tensor) -> int:
    """Return what patch sizes have to be a multiple of: what the network says, unless the program takes less."""
    rows = program.inputs[0].partial_shape[2]
    if rows.is_static:
        return int(rows.get_length())
    output_stride = output_stride_of(network)
    if output_stride > 1:
        return output_stride
    odd = sample[..., :-3, :-5].contiguous()
    try:
        check_same(network, odd, lambda: run_once(program, odd.numpy()), "The program")
    except RuntimeError:
        return int(getattr(getattr(network, "encoder", None), "output_stride", 1))
    return 1
