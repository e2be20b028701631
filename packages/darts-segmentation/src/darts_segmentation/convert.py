"""Turn a model file into another kind, and check that it still computes the same."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import torch
from numpy.typing import NDArray

from darts_segmentation.card import ModelCard
from darts_segmentation.errors import ConversionError
from darts_segmentation.modelfile import read_model
from darts_segmentation.network import load_network
from darts_segmentation.program import convert_to_program
from darts_segmentation.programfile import check_program_folder
from darts_segmentation.store import save_model
from darts_segmentation.tracing import check_same, first_line, trace
from darts_utils import ParameterError, atomic_path, write_atomically

ModelFormat = Literal["safetensors", "onnx", "torch-export", "openvino"]
"""The kinds of files that :func:`convert_model` writes."""

_SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
_ONNX_MODULES = ("onnx", "onnxruntime", "onnxscript")


def convert_model(
    path: Path | str,
    out: Path | str,
    format: ModelFormat = "safetensors",  # noqa: A002  # public name
    **described: object,
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
        return save_model(out, model.state_dict, model.card)
    network = load_network(model.card, model.state_dict)
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


def _export_program(network: torch.nn.Module, card: ModelCard, out: Path) -> None:
    program, sample = trace(network, card)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:  # a path would have to end in .pt2
            torch.export.save(program, file)

    def run(partial: Path) -> NDArray:
        with partial.open("rb") as file:
            return torch.export.load(file).module()(sample).numpy()

    _write_and_check(network, sample, out, write, run)


def _export_onnx(network: torch.nn.Module, card: ModelCard, out: Path) -> None:
    missing = [name for name in _ONNX_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConversionError(
            f"{', '.join(missing)} is not installed; `pip install 'darts-segmentation[onnx]'` brings it."
        )

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
            raise ConversionError(f"Model {card.name!r} cannot be written as ONNX: {first_line(error)}") from error

    def run(partial: Path) -> NDArray:
        import onnxruntime  # type: ignore[import-not-found, import-untyped, unused-ignore]

        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: sample.numpy()})[0]

    _write_and_check(network, sample, out, write, run)


def _write_and_check(
    network: torch.nn.Module,
    sample: torch.Tensor,
    out: Path,
    write: Callable[[Path], None],
    run: Callable[[Path], NDArray],
) -> None:
    """Write a program, and move it to its place only if it computes what the network computes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as partial:
        write(partial)
        check_same(network, sample, lambda: run(partial), f"The export of {out}")
