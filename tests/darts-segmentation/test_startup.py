"""Starting without torch's compiler changes how long it takes, and nothing else."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from darts_segmentation import ModelCard
from darts_segmentation.network import load_network
from darts_segmentation.startup import SWITCH

ARCHITECTURES = [
    {"arch": "unet", "encoder_name": "resnet18"},
    {"arch": "unet", "encoder_name": "tu-mobilenetv3_small_050"},
    {"arch": "unet", "encoder_name": "mit_b0"},
    {"arch": "unet", "encoder_name": "timm-efficientnet-b0"},
    {"arch": "unetplusplus", "encoder_name": "efficientnet-b0"},
    {"arch": "manet", "encoder_name": "resnet18"},
    {"arch": "linknet", "encoder_name": "mobilenet_v2"},
    {"arch": "fpn", "encoder_name": "densenet121"},
    {"arch": "pan", "encoder_name": "resnet18"},
    {"arch": "pspnet", "encoder_name": "resnet18"},
    {"arch": "deeplabv3plus", "encoder_name": "resnet18"},
    {"arch": "segformer", "encoder_name": "resnet18"},
    {"arch": "upernet", "encoder_name": "tu-convnext_atto"},
    {"arch": "dpt", "encoder_name": "tu-vit_tiny_patch16_224", "img_size": 128, "dynamic_img_size": True},
]

_BUILD = """
    import hashlib, json, sys, warnings
    import torch
    from darts_segmentation.network import _build, _build_without_weights
    torch.set_num_threads(1)
    report = {}
    for architecture in json.loads(sys.argv[1]):
        arguments = {**architecture, "in_channels": 5, "classes": 1}
        skeleton = {name: list(tensor.shape) for name, tensor in _build_without_weights(arguments).state_dict().items()}
        network = _build(arguments, "cpu").eval()
        generator = torch.Generator().manual_seed(0)
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if tensor.is_floating_point():
                tensor.detach().copy_(torch.rand(tensor.shape, generator=generator) * 0.1)
        with torch.inference_mode():
            logits = network(torch.rand((1, 5, 128, 128), generator=generator))
        constants = [b.double().sum().item() for _, b in network.named_buffers()]
        digest = hashlib.sha256(logits.numpy().tobytes() + repr(constants).encode()).hexdigest()
        report["-".join(map(str, architecture.values()))] = [digest, skeleton]
    loaded = [name for name in ("sympy", "torch._dynamo") if name in sys.modules]
    print(json.dumps({"report": report, "loaded": loaded}))
"""


def _python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _build(architectures: list[dict], **environment: str) -> dict:
    return json.loads(_python(_BUILD, json.dumps(architectures), **environment))


@pytest.mark.slow
@pytest.mark.parametrize("architectures", [ARCHITECTURES[:1], ARCHITECTURES], ids=["one", "all"])
def test_networks_are_the_same_with_and_without_the_means(architectures):
    light = _build(architectures)
    plain = _build(architectures, **{SWITCH: "1"})
    assert light["report"] == plain["report"]
    # torch asks sympy about arithmetic on "meta", with which ConvNeXt is built; the compiler is another matter.
    assert light["loaded"] == ([] if len(architectures) == 1 else ["sympy"])
    assert "torch._dynamo" in plain["loaded"]


@pytest.mark.slow
def test_the_compiler_works_afterwards():
    out = _python(
        """
        import sys
        from darts_segmentation.startup import segmentation_models
        smp = segmentation_models()
        assert "torch._dynamo" not in sys.modules
        import torch
        network = smp.create_model("unet", encoder_name="resnet18", encoder_weights=None, encoder_depth=3,
                                   decoder_channels=[16, 8, 8]).eval()
        patches = torch.rand(1, 3, 64, 64)
        with torch.inference_mode():
            plain = network(patches)
            exported = torch.export.export(network, (patches,)).module()(patches)
            compiled = torch.compile(network, backend="eager", fullgraph=True)(patches)
        assert torch.equal(plain, exported) and torch.equal(plain, compiled)
        from torchvision.ops import roi_align
        boxes = torch.tensor([[0.0, 0.0, 0.0, 8.0, 8.0]])
        print(float(roi_align(torch.ones(1, 1, 16, 16), boxes, (2, 2)).sum()), type(torch._dynamo).__name__)
        """
    )
    assert out.split() == ["4.0", "module"]


@pytest.mark.slow
def test_a_function_that_is_disabled_meanwhile_stays_out_of_the_compiler():
    out = _python(
        """
        import sys, torch
        from darts_segmentation.startup import _placeholder_for_compiler
        compiling = []
        with _placeholder_for_compiler():
            @torch.compiler.disable
            def double(x):
                compiling.append(torch.compiler.is_compiling())
                return 2 * x
            @torch.compiler.disable(recursive=False)
            def triple(x):
                compiling.append(torch.compiler.is_compiling())
                return 3 * x
        assert double(1) == 2 and triple(1) == 3 and "torch._dynamo" not in sys.modules
        function = torch.compile(lambda x: double(x) + triple(x), backend="eager")
        print(function(torch.ones(1)).item(), any(compiling), len(compiling), double.__name__)
        """
    )
    assert out.split() == ["5.0", "False", "4", "double"]


@pytest.mark.slow
def test_whatever_else_is_asked_of_the_placeholder_loads_the_compiler():
    out = _python(
        """
        import sys, torch
        from darts_segmentation.startup import _placeholder_for_compiler
        with _placeholder_for_compiler():
            from torch._dynamo.utils import is_compile_supported
            assert not hasattr(torch._dynamo, "__wrapped__") and "sympy" not in sys.modules
            config = torch._dynamo.config
            print(type(torch._dynamo).__name__, "sympy" in sys.modules, is_compile_supported("cpu") in (True, False))
        print(sys.modules["torch._dynamo"].config is config)
        """
    )
    assert out.split() == ["module", "True", "True", "True"]


@pytest.mark.slow
def test_an_import_that_fails_is_made_again_in_the_plain_way():
    out = _python(
        """
        import sys, types
        import torch
        from darts_segmentation import startup
        real = startup.importlib.import_module
        def fails_once(name):
            if name.startswith("segm") and isinstance(sys.modules.get("torch._dynamo"), startup._Placeholder):
                real("torchvision.ops")
                raise RuntimeError("no")
            return real(name)
        startup.importlib = types.SimpleNamespace(import_module=fails_once)
        smp = startup.segmentation_models()
        print(smp.__name__, type(sys.modules.get("torch._dynamo")).__name__ != "_Placeholder")
        """
    )
    assert out.split() == ["segmentation_models_pytorch", "True"]


@pytest.mark.slow
def test_a_compiler_that_is_loaded_already_is_left_alone():
    out = _python(
        """
        import sys
        import torch._dynamo
        before = sys.modules["torch._dynamo"]
        from darts_segmentation.startup import segmentation_models
        segmentation_models()
        print(sys.modules["torch._dynamo"] is before is torch._dynamo)
        """
    )
    assert out.split() == ["True"]


@pytest.mark.parametrize("plain", ["", "1"])
def test_an_encoder_that_asks_for_numbers_while_it_is_built_is_loaded(plain, monkeypatch):
    monkeypatch.setenv(SWITCH, plain)
    import segmentation_models_pytorch as smp

    architecture = {"arch": "unet", "encoder_name": "mit_b0", "in_channels": 3, "classes": 1}
    card = ModelCard(name="test", architecture=architecture, bands=("red", "green", "blue"))
    network = smp.create_model("unet", encoder_name="mit_b0", encoder_weights=None, classes=1).eval()
    loaded = load_network(card, network.state_dict())
    patches = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(patches), network(patches))
