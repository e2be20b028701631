"""Build the network that a model card names, and give it weights that fit exactly."""

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping

import torch

from darts_segmentation.card import ModelCard
from darts_segmentation.compiled import CompiledNetwork
from darts_segmentation.errors import ModelCardError, ModelWeightsError
from darts_segmentation.startup import light_construction, segmentation_models
from darts_utils import ParameterError

# Arguments of timm's encoders that change the network and nothing else. Others (checkpoint_path, pretrained_cfg …) make
# timm read files or fetch them.
_ENCODER_ARGUMENTS = frozenset({"always_partition", "drop_path_rate", "drop_rate", "dynamic_img_size", "img_size"})
# What arguments of architectures were called once; smp still takes them, with a warning where they mean something.
_OLD_ARGUMENTS = frozenset({"decoder_use_batchnorm", "psp_use_batchnorm", "upscale_mode"})
_SHOWN = 5
_ACTIVATIONS = (
    torch.nn.Sigmoid,
    torch.nn.LogSigmoid,
    torch.nn.Softmax,
    torch.nn.Softmax2d,
    torch.nn.LogSoftmax,
)
"""Layers that make probabilities, or their logarithms, of logits."""


def load_network(card: ModelCard, state_dict: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Build the network of a card and fill it with weights, every one of which must fit.

    Nothing is fetched, and torch's random state is the same afterwards as before.

    Args:
        card: Names the architecture.
        state_dict: State dict of the network.

    Returns:
        The network on the CPU, float32, in evaluation mode, without gradients. It takes float32 of shape (patches,
        bands, y, x) and returns logits of shape (patches, classes, y, x).

    Raises:
        ModelCardError: If the architecture is unknown.
        ModelWeightsError: If weights are missing, left over, of another shape or kind, or not finite.
    """
    fitting = check_weights(card, state_dict)
    network = _build(card.architecture, "cpu")
    network.load_state_dict(fitting, strict=True)
    return network.to(torch.float32).eval().requires_grad_(False)


def place_network(
    network: torch.nn.Module, device: torch.device, *, compile_it: bool = False
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Move a network to the device where it will run, in the memory order that is fastest there.

    Args:
        network: The network. Moved in place, put into evaluation mode, its gradients switched off.
        device: Where it will run.
        compile_it: Let ``torch.compile`` compile it on its first batch.

    Returns:
        What to call with a batch.
    """
    placed = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    if not compile_it:
        return placed

    return CompiledNetwork(placed)


def output_stride_of(network: torch.nn.Module) -> int:
    """Return the number of pixels of which the edge of a network's patches has to be a multiple."""
    if not getattr(network, "requires_divisible_input_shape", False):
        return 1
    return int(network.encoder.output_stride)  # type: ignore[union-attr, arg-type]


def check_logits(network: torch.nn.Module, name: str) -> None:
    """Refuse a network whose last layer makes probabilities, which would be taken for logits.

    Args:
        network: One of smp, which has a `segmentation_head`, or a sequence of layers; of others it does not show.
        name: Name of the model, for the message.

    Raises:
        ParameterError: If its last layer is a sigmoid or a softmax.
    """
    head = getattr(network, "segmentation_head", network if isinstance(network, torch.nn.Sequential) else None)
    layers = [] if head is None else [module for module in head.modules() if not list(module.children())]
    if layers and isinstance(layers[-1], _ACTIVATIONS):
        raise ParameterError(
            f"The network {name!r} ends in a {type(layers[-1]).__name__}, and so returns probabilities; expected "
            "logits. Build it without, in segmentation_models_pytorch with activation=None; its card says what makes "
            "probabilities of them."
        )


def check_weights(card: ModelCard, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Refuse weights that cannot be those of the card's architecture, before memory is taken for the network.

    Args:
        card: Names the architecture.
        state_dict: State dict of the network, under the names of today's smp or those of an older one that it renames.

    Returns:
        The same weights under today's names.

    Raises:
        ModelCardError: If the architecture is unknown.
        ModelWeightsError: If weights are missing, left over, of another shape or kind, or not finite.
    """
    for name, tensor in state_dict.items():
        _check_tensor(name, tensor)
    network = _build_without_weights(card.architecture)
    wanted = network.state_dict()
    renamed = dict(state_dict)  # smp renames old names in place
    problem = ""
    try:
        network.load_state_dict(renamed, strict=True, assign=True)
    except RuntimeError as error:
        problem = str(error)
    problem = _describe_misfit(card, wanted, renamed) or problem
    if problem:
        raise ModelWeightsError(problem)
    return dict(network.state_dict())


def _check_tensor(name: str, tensor: object) -> None:
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_complex():
        kind = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise ModelWeightsError(f"The weight {name!r} is a {kind}; expected a dense real tensor.")
    if not torch.isfinite(tensor).all():
        raise ModelWeightsError(
            f"The weight {name!r} has values that are NaN or infinite; train or export the model again."
        )


def _build_without_weights(architecture: Mapping[str, object]) -> torch.nn.Module:
    """Make a network of which names and shapes are asked for: without memory for it where the architecture allows."""
    try:
        return _build(architecture, "meta")
    except ModelCardError as error:
        if "meta tensors" not in str(error.__cause__):
            raise
    # Some encoders (those of SegFormer) compute with numbers of tensors while they are built.
    return _build(architecture, "cpu")


def _build(architecture: Mapping[str, object], device: str) -> torch.nn.Module:
    """Make the network on a device ("meta" takes no memory), with the last activation left out."""
    smp = segmentation_models()
    arguments = _checked_arguments(architecture)
    # smp builds some encoders on "meta" by itself, to count their channels.
    with torch.random.fork_rng(devices=[]), _quiet(arguments), light_construction():
        try:
            with torch.device(device):
                network: torch.nn.Module = smp.create_model(**arguments, encoder_weights=None)
        except (KeyError, TypeError, ValueError, RuntimeError, AssertionError, AttributeError) as error:
            text = str(error.args[0]) if error.args else type(error).__name__
            raise ModelCardError(f"The architecture {arguments!r} cannot be built: {text}") from error
    return network


@contextlib.contextmanager
def _quiet(arguments: Mapping[str, object]) -> Iterator[None]:
    """Keep smp from deploring old names, which the owner of a finished model cannot change."""
    if not _OLD_ARGUMENTS & set(arguments) and not str(arguments.get("encoder_name", "")).startswith("timm-"):
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(`timm-` encoders are|The usage of \w+ is) deprecated", DeprecationWarning)
        yield


def _checked_arguments(architecture: Mapping[str, object]) -> dict[str, object]:
    arguments = dict(architecture)
    kinds = segmentation_models().MODEL_ARCHITECTURES_MAPPING
    arch = str(arguments["arch"]).lower()
    if arch not in kinds:
        raise ModelCardError(f"The architecture {arguments['arch']!r} is unknown; known ones: {', '.join(kinds)}.")
    own = {name for name, p in inspect.signature(kinds[arch]).parameters.items() if p.kind is not p.VAR_KEYWORD}
    extra = sorted(set(arguments) - own - _ENCODER_ARGUMENTS - _OLD_ARGUMENTS - {"arch"})
    if extra:
        raise ModelCardError(
            f"The architecture {arch!r} has no argument {', '.join(map(repr, extra))}; it takes {sorted(own)}."
        )
    if ":" in str(arguments.get("encoder_name", "")):
        raise ModelCardError(
            f"The encoder {arguments['encoder_name']!r} would be fetched from elsewhere; name one of timm or smp."
        )
    if arguments.pop("aux_params", None) is not None:
        raise ModelCardError(
            "The network has a second output ('aux_params'), which DARTS cannot use; build it without."
        )
    arguments.pop("activation", None)  # which the segmenter applies itself, to networks with and without alike
    return arguments


def _describe_misfit(
    card: ModelCard, wanted: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor]
) -> str:
    """Return what does not fit, in a sentence; an empty string where all fits."""
    problems = []
    missing = [name for name in wanted if name not in state_dict]
    if missing:
        problems.append(f"missing: {_some(missing)}")
    extra = [name for name in state_dict if name not in wanted]
    if extra:
        problems.append(f"left over: {_some(extra)}")
    shapes = [
        f"{name} is {tuple(state_dict[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state_dict and state_dict[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(f"of another shape: {_some(shapes)}")
    kinds = [
        f"{name} is {state_dict[name].dtype} instead of {tensor.dtype}"
        for name, tensor in wanted.items()
        if name in state_dict and state_dict[name].is_floating_point() != tensor.is_floating_point()
    ]
    if kinds:
        problems.append(f"of another kind: {_some(kinds)}")
    if not problems:
        return ""
    arch = f"{card.architecture['arch']} with {card.architecture.get('encoder_name', 'its default encoder')}"
    return f"The weights of model {card.name!r} do not fit {arch} for {len(card.bands)} bands; {'; '.join(problems)}."


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
