"""What checkpoints hold beside weights: plain facts are passed over or understood, code is named, and nothing runs."""

import argparse
import enum
import pathlib
import subprocess
import sys
import types
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from darts_segmentation import ModelCard, ModelCardError, SMPSegmenter, UnsafeModelError, read_model
from darts_segmentation.plain import plain
from support.facts import FACTS, Arch, AttributeDict, Config, Encoder, ListOfOwn
from support.segmentation import BANDS, UNET, random_tile

CONFIG = {"model": dict(UNET), "bands": list(BANDS)}


STATES = {"encoder.weight": torch.arange(6.0).reshape(2, 3), "encoder.count": torch.tensor(3)}
LIGHTNING_STATES = {f"model.{name}": value for name, value in STATES.items()}


def _saved(path, hyper_parameters, **more):
    content = {"epoch": 1, "state_dict": LIGHTNING_STATES, "hyper_parameters": hyper_parameters}
    torch.save(content | more, path)
    return path


def _check(path):
    """Whether the weights fit their architecture is asked when a network is built."""
    model = read_model(path)
    assert (model.kind, model.card.bands) == ("Lightning", BANDS)
    assert model.card.architecture == ModelCard(name="x", architecture=UNET, bands=BANDS).architecture
    assert list(model.state_dict) == list(STATES)
    assert all(torch.equal(model.state_dict[name], value) for name, value in STATES.items())


@pytest.mark.parametrize("fact", FACTS)
def test_facts_among_the_hyperparameters_do_no_harm(tmp_path, fact):
    value = FACTS[fact]
    _check(_saved(tmp_path / "a.ckpt", {"config": CONFIG, "fact": value}))
    _check(_saved(tmp_path / "b.ckpt", {"config": CONFIG | {"fact": value}, "all": [value]}))
    _check(_saved(tmp_path / "c.ckpt", {"config": CONFIG}, callbacks={"x": {"fact": value}}))


CONFIGURATIONS = {
    "enumerations": {"model": UNET | {"arch": Arch.UNET, "encoder_name": Encoder.MOBILENET}, "bands": BANDS},
    "numbers of numpy": {"model": UNET | {"in_channels": np.int64(3), "encoder_depth": np.int32(3)}, "bands": BANDS},
    "dataclass": Config(dict(UNET), list(BANDS)),
    "namespace": argparse.Namespace(model=argparse.Namespace(**UNET), bands=ListOfOwn(BANDS)),
    "dict with attributes": AttributeDict(model=AttributeDict(UNET), bands=types.SimpleNamespace(bands=BANDS)),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_configurations_of_other_classes_are_understood(tmp_path, kind):
    value = CONFIGURATIONS[kind]
    _check(_saved(tmp_path / "a.ckpt", {"config": value}))
    _check(_saved(tmp_path / "b.ckpt", argparse.Namespace(config=value)))
    torch.save({"config": value, "statedict": STATES}, tmp_path / "c.pt")
    assert read_model(tmp_path / "c.pt").card.bands == BANDS


def test_a_configuration_of_omegaconf_is_understood(tmp_path):
    omegaconf = pytest.importorskip("omegaconf", reason="omegaconf is not installed")
    create = omegaconf.OmegaConf.create
    for value in (
        create({"config": CONFIG}),
        {"config": create(CONFIG), "other": create({"a": {"b": [1, "${a.c}"], "c": 3}})},
        {"config": {"model": create(dict(UNET)), "bands": create(list(BANDS))}},
        {"config": omegaconf.OmegaConf.structured(Config(dict(UNET), list(BANDS)))},
    ):
        _check(_saved(tmp_path / "a.ckpt", value))


LIGHTNING = """
import datetime, pathlib, sys
import numpy as np, segmentation_models_pytorch as smp, torch
import pytorch_lightning as pl
from support.segmentation import UNET, small_unet
from support.facts import Encoder

class Trained(pl.LightningModule):
    def __init__(self, config, started, data, epochs=None):
        super().__init__()
        self.save_hyperparameters()
        self.model = small_unet()

    def training_step(self, batch):
        return self.model(batch).mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

class Data(pl.LightningDataModule):
    def __init__(self, root, classes):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.rand((4, 3, 32, 32)), batch_size=2)

out = pathlib.Path(sys.argv[1])
config = {"model": {**UNET, "encoder_name": Encoder.MOBILENET}, "bands": ["red", "ndvi", "slope"]}
module = Trained(config, datetime.datetime(2026, 5, 4, 12), pathlib.Path("data"), {1, 2})
for parameter in module.parameters():
    parameter.requires_grad_(True)
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, default_root_dir=out, enable_progress_bar=False)
trainer.fit(module, Data(pathlib.Path("data"), {"a"}))
trainer.save_checkpoint(out / "last.ckpt")
patches = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    np.save(out / "logits.npy", module.eval().model(patches).numpy())
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pytorch_lightning") is None, reason="pytorch-lightning is not installed")
def test_a_checkpoint_of_lightning_itself_computes_what_its_module_computes(tmp_path):
    tests = str(pathlib.Path(__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {tests!r})\n{LIGHTNING}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    from darts_segmentation.network import load_network

    model = read_model(tmp_path / "last.ckpt")
    assert model.kind == "Lightning"
    patches = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = load_network(model.card, model.state_dict)(patches).numpy()
    np.testing.assert_allclose(found, np.load(tmp_path / "logits.npy"), rtol=0, atol=1e-5)
    assert "pytorch_lightning" not in sys.modules
    tile = SMPSegmenter(tmp_path / "last.ckpt", "cpu").segment_tile(random_tile((40, 40)), 32, 8)
    assert np.isfinite(tile["probabilities"].values).all()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (torch.nn.functional.relu, "torch.nn.functional.relu"),
        (len, "builtins.len"),
        (eval, "builtins.eval"),
        (subprocess.Popen, "subprocess.Popen"),
        # Python 3.13 keeps it in a module of its own.
        (pathlib.Path.unlink, f"{pathlib.Path.__module__}.Path.unlink"),
        (np.random.RandomState(0), "numpy.random._pickle.__randomstate_ctor"),
        (np.load, "numpy.load"),
        (torch.Tensor, "torch.Tensor"),
        (torch.hub.load, "torch.hub.load"),
    ],
)
def test_code_among_the_hyperparameters_is_named(tmp_path, value, named):
    path = _saved(tmp_path / "a.ckpt", {"config": CONFIG, "code": value})
    with pytest.raises(UnsafeModelError, match=named.replace(".", r"\.")) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Call(bytearray, 10**12), r"builtins\.bytearray\(…\)"),
        (Call(bytearray, [1, 2]), r"builtins\.bytearray\(…\)"),
        (Call(__import__("_codecs").encode, "a", "hex"), r"_codecs\.encode\(…\)"),
        (Call(__import__("_codecs").encode, Call(__import__("_codecs").encode, "a", "latin1"), "hex"), "encode"),
        (Call(getattr, Call(getattr, Arch, "UNET"), "name"), "Arch.UNET.name"),
        (Call(getattr, [1], "append"), r"could run \?"),
        (Call(getattr, types.SimpleNamespace(a=1), "a"), r"could run \?"),
    ],
)
def test_calls_of_what_is_allowed_that_would_grow_or_reach_further_are_refused(tmp_path, value, named):
    path = _saved(tmp_path / "a.ckpt", {"config": CONFIG, "call": value})
    with pytest.raises(UnsafeModelError, match=named):
        read_model(path)


def test_classes_that_are_at_hand_do_not_come_to_life(tmp_path, monkeypatch):
    ran = []
    module = types.ModuleType("canary")

    class Bird:
        def __init__(self):
            self.song = 1

    class Colour(enum.Enum):
        RED = 1

    for kind in (Bird, Colour):
        kind.__module__, kind.__qualname__ = "canary", kind.__name__
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "canary", module)
    path = _saved(tmp_path / "a.ckpt", {"config": CONFIG, "bird": Bird(), "colour": Colour.RED})
    for name in ("__new__", "__setstate__", "__init__"):
        setattr(Bird, name, lambda *arguments, name=name: ran.append(name))
    monkeypatch.setattr(enum.EnumMeta, "__call__", lambda *arguments: ran.append("enum"))
    _check(path)
    assert not ran


def test_an_object_in_place_of_a_checkpoint_is_named(tmp_path):
    torch.save(Config({}, []), tmp_path / "a.ckpt")
    with pytest.raises(UnsafeModelError, match=r"holds an object of support\.facts\.Config"):
        read_model(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["hyper_parameters"].pop("config"), "lacks 'config'; it has 'when'"),
        (lambda c: c.update(hyper_parameters=FACTS["path"]), "'hyper_parameters' in the checkpoint is a (tuple|str)"),
        (lambda c: c["hyper_parameters"].update(config=FACTS["date"]), "'config' in the checkpoint is a bytes"),
        (lambda c: c.pop("state_dict"), "lacks 'state_dict'"),
        (lambda c: c.update(state_dict={"net.a": torch.ones(1)}), "is named 'model.'…; it has 'net.a'"),
        (lambda c: c["hyper_parameters"]["config"].update(bands=FACTS["enumeration"]), "no list of band names"),
        (lambda c: c["hyper_parameters"]["config"]["model"].update(arch=FACTS["class"]), "lacks 'arch'"),
    ],
)
def test_a_checkpoint_that_lacks_something_is_described(tmp_path, change, says):
    config = {"model": dict(UNET), "bands": list(BANDS)}
    content = {"state_dict": LIGHTNING_STATES, "hyper_parameters": {"config": config, "when": FACTS["date"]}}
    change(content)
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ModelCardError, match=says):
        read_model(tmp_path / "a.ckpt")


def test_weights_of_networks_that_are_compiled_within_load(tmp_path):
    for prefix in ("model._orig_mod.", "_orig_mod.model.", "model."):
        states = {f"{prefix}{name}": value for name, value in STATES.items()}
        torch.save({"state_dict": states, "hyper_parameters": {"config": CONFIG}}, tmp_path / "a.ckpt")
        _check(tmp_path / "a.ckpt")


def test_plain_values_are_as_they_are():
    value = {"a": [1, 2.5, None, True, "x", (1, "y")], "b": {"c": {}}}
    assert plain(value) == value
    assert plain(value) is not value
    deep = "x"
    for _ in range(100):
        deep = [deep]
    assert len(repr(plain(deep))) < 300
