"""Turn a model file into another kind, and check that it still computes the same."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from darts_segmentation.card import ModelCard
from darts_segmentation.errors import ConversionError
from darts_segmentation.modelfile import read_model
from darts_segmentation.network import load_network
from darts_segmentation.program import convert_to_program
from darts_segmentation.store import is_program, save_model
from darts_utils import ParameterError, atomic_path, write_atomically

if TYPE_CHECKING:
    import torch

ModelFormat = Literal["safetensors", "onnx", "torch-export", "openvino"]
"""The kinds of files that :func:`convert_model` writes."""

_SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
_ONNX_MODULES = ("onnx", "onnxruntime", "onnxscript")
_FALLBACK_PATCH = 256
_CHECKED_STRIDES = 8  # edge of the random input that both are compared on: 256 px for most networks
TOLERANCE = 1e-4
"""Largest difference in probability between a network and its export that still counts as the same."""


def convert_model(
    path: Path | str,
    out: Path | str,
    format: ModelFormat = "safetensors",  # noqa: A002  # public name
    **described: Any,
) -> Path:
    """Read a model file safely and write it as another kind.

    Args:
        path: The model, in any format that :class:`SMPSegmenter` reads.
        out: What to write: a folder or ``.safetensors`` file for "safetensors", an ``.onnx`` file for "onnx", a
            ``.pt2`` file for "torch-export", a folder for "openvino". Existing files are replaced. The model card is
            written too, beside the file under the ending ``.json``, or into the folder.
        format: "safetensors", our own format, which every release of DARTS reads; "onnx" or "torch-export", programs
            for use elsewhere. Those take and return what the card says, of any number of patches, and of any size that
            the encoder can divide where the architecture allows it, else of the size in the card. "openvino", a program
            that :class:`SMPSegmenter` runs with the engine of that name and nothing else of torch. What programs
            compute for random input is compared with the original.
        **described: `classes`, `target`, `activation` of :class:`ModelCard`, for a checkpoint that does not say what
            its output channels mean.

    Returns:
        The path `out`.

    Raises:
        ParameterError: If `format` is unknown, or `out` does not have the ending that belongs to it.
        ModelFileError: If the model cannot be read, see :class:`SMPSegmenter`.
        UnknownBandError: If the model needs a band that the band table does not know.
        ConversionError: If the architecture cannot be exported, a library for it is missing, or the export computes
            something else.
    """
    out = Path(out)
    _check_target(out, format)
    if format == "openvino":
        return convert_to_program(path, out, **described)
    model = read_model(path, **described)
    if format == "safetensors":
        return save_model(out, model.states, model.card)
    network = load_network(model.card, model.states)
    export = _export_onnx if format == "onnx" else _export_program
    export(network, model.card, out)
    framework = {"onnx": "ONNX", "torch-export": "PyTorch"}[format]
    content = model.card.to_dict() | {"mlm:framework": framework}
    write_atomically(out.with_suffix(".json"), (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return out


def _check_target(out: Path, target: str) -> None:
    if target not in get_args(ModelFormat):
        known = ", ".join(map(repr, get_args(ModelFormat)))
        raise ParameterError(f"format is {target!r}; expected one of {known}.")
    if target == "openvino":
        check_program_folder(out)
    elif target == "safetensors":
        if out.suffix in (".pt", ".ckpt", ".pth", ".onnx", ".pt2", ".json") or (
            out.suffix != ".safetensors" and out.is_file()
        ):
            raise ParameterError(f"{out} cannot hold a model in our own format; name a folder or a .safetensors file.")
    elif out.suffix != _SUFFIXES[target]:
        raise ParameterError(f"{out} is to become {target}; expected the ending {_SUFFIXES[target]!r}.")


def check_program_folder(out: Path) -> None:
    """Raise a ParameterError unless a program may be written at a path: a folder that is new, empty, or holds one."""
    if out.suffix or (out.exists() and not is_program(out) and (out.is_file() or any(out.iterdir()))):
        raise ParameterError(f"{out} cannot hold a program of OpenVINO; name a folder that is new or holds one.")


def _export_program(network: "torch.nn.Module", card: ModelCard, out: Path) -> None:
    import torch

    program, sample = trace(network, card)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # a path would have to end in .pt2
            torch.export.save(program, file)

    def run(partial: Path) -> Any:
        with partial.open("rb") as file:
            return torch.export.load(file).module()(sample).numpy()

    _write_and_check(network, sample, out, write, run)


def _export_onnx(network: "torch.nn.Module", card: ModelCard, out: Path) -> None:
    missing = [name for name in _ONNX_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConversionError(
            f"{', '.join(missing)} is not installed; `pip install 'darts-segmentation[onnx]'` brings it."
        )
    import torch

    program, sample = trace(network, card)

    def write(partial: Path) -> None:
        try:
            torch.onnx.export(
                program,
                (),
                partial,
                input_names=["tile"],
                output_names=["logits"],
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except Exception as error:
            raise ConversionError(f"Model {card.name!r} cannot be written as ONNX: {_first_line(error)}") from error

    def run(partial: Path) -> Any:
        import onnxruntime  # type: ignore[import-not-found, import-untyped, unused-ignore]

        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: sample.numpy()})[0]

    _write_and_check(network, sample, out, write, run)


def trace(network: "torch.nn.Module", card: ModelCard) -> "tuple[torch.export.ExportedProgram, torch.Tensor]":
    """Export a network for any number of patches of any size, or of one size where that fails.

    Returns:
        The program, and random input to try it on, of another shape than it was traced with where it allows that.
    """
    import torch
    from torch.export import Dim

    stride = int(getattr(getattr(network, "encoder", None), "output_stride", 1))
    rows, columns = (stride * dim if stride > 1 else dim for dim in (Dim("rows", min=2), Dim("columns", min=2)))
    batch = Dim("batch", min=1)
    fixed = card.patch_size or _FALLBACK_PATCH
    attempts = [
        ((4 * stride, 6 * stride), {0: batch, 2: rows, 3: columns}, (_CHECKED_STRIDES * stride,) * 2),
        ((fixed, fixed), {0: batch}, (fixed, fixed)),
    ]
    reason = ""
    for shape, dynamic, checked in attempts:
        generator = torch.Generator().manual_seed(0)
        example = torch.rand((2, len(card.bands), *shape), generator=generator)
        try:
            with torch.no_grad():
                program = torch.export.export(network, (example,), dynamic_shapes=(dynamic,))
        except Exception as error:  # noqa: BLE001  # tracing a network can fail in any way; the next attempt asks for less
            reason = _first_line(error)
        else:
            return program, torch.rand((1, len(card.bands), *checked), generator=generator)
    raise ConversionError(f"The architecture of model {card.name!r} cannot be exported: {reason}")


def _write_and_check(
    network: "torch.nn.Module",
    sample: "torch.Tensor",
    out: Path,
    write: Callable[[Path], None],
    run: Callable[[Path], Any],
) -> None:
    """Write a program, and move it to its place only if it computes what the network computes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as partial:
        write(partial)
        check_same(network, sample, lambda: run(partial), f"The export of {out}")


def check_same(network: "torch.nn.Module", sample: "torch.Tensor", run: Callable[[], Any], what: str) -> None:
    """Raise a ConversionError unless something computes what a network computes.

    Args:
        network: The network.
        sample: What it is tried on.
        run: Returns the logits that the other computes for it.
        what: Names the other, for the message.
    """
    import torch

    with torch.inference_mode():
        expected = torch.sigmoid(network(sample))
    difference = float((expected - torch.sigmoid(torch.from_numpy(run()))).abs().max())
    if not difference <= TOLERANCE:
        raise ConversionError(
            f"{what} differs from the original by up to {difference:.2g} in probability; expected at most {TOLERANCE}. "
            "It was not written."
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
