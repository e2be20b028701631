"""Hostile and broken model files: none executes anything, and each ends in an error that says what is wrong."""

import contextlib
import io
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from darts_segmentation import (
    BrokenModelError,
    ModelCard,
    ModelFileError,
    SMPSegmenter,
    UnsafeModelError,
    convert_model,
    model_info,
    model_paths,
    read_model,
    save_model,
)
from support.pickles import Call, Fill
from support.segmentation import BANDS, UNET, small_unet


def _content(**more):
    states = small_unet().state_dict()
    return {"config": {"model": dict(UNET), "bands": list(BANDS)}, "statedict": states} | more


def _saved(value, protocol=2):
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_protocol=protocol)
    return buffer.getvalue()


def _touch(marker):
    return f"echo ran > {marker}"


def _zip(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _with_pickle(pickled):
    members = _members(_saved({"a": torch.ones(2)}))
    return _zip({name: pickled if name.endswith("data.pkl") else value for name, value in members.items()})


def _system(marker):
    import os

    return _saved(_content(extra=Call(os.system, _touch(marker))))


def _eval(marker):
    return _saved({"extra": Call(eval, f"open({str(marker)!r}, 'w').close()")} | _content())


def _exec(marker):
    return _saved(_content(config=Call(exec, f"open({str(marker)!r}, 'w').close()")))


def _subprocess(marker):
    return _saved(_content(extra=Call(subprocess.Popen, ["sh", "-c", _touch(marker)])))


def _new_protocol(marker):
    import os

    return _saved(_content(extra=Call(os.system, _touch(marker))), protocol=4)


def _bare_pickle(marker):
    import os

    return pickle.dumps(_content(statedict={}, extra=Call(os.system, _touch(marker))), protocol=2)


def _bare_pickle_new_protocol(marker):
    import os

    return pickle.dumps({"extra": Call(os.system, _touch(marker))}, protocol=5)


def _through_allowed_class(marker):
    # A rebuilt tensor whose argument is a call: the allowed function would be called with what the other returned.
    import os

    rebuild = Call(torch._utils._rebuild_parameter, Call(os.system, _touch(marker)), False, OrderedDict())
    return _saved(_content(extra=rebuild))


def _state_of_allowed_class(marker):
    import os

    return _saved(_content(extra=Fill(OrderedDict, (), {"__class__": Call(os.system, _touch(marker))})))


def _old_name(marker):
    # Python 2 called the module of eval __builtin__; readers translate that.
    source = f"c__builtin__\neval\n(Vopen({str(marker)!r}, 'w').close()\ntR."
    return _with_pickle(b"\x80\x02" + source.encode())


def _getattr(marker):
    source = b"\x80\x02cbuiltins\ngetattr\n(cos\npath\nVos\ntR(Vsystem\ntR."
    return _with_pickle(source)


def _name_that_looks_like_bands(marker):
    return _with_pickle(b"\x80\x02cos\nsystem.Bands\n(V" + _touch(marker).encode() + b"\ntR.")


def _instance(marker):
    return _with_pickle(b"\x80\x02(V" + _touch(marker).encode() + b"\nios\nsystem\n.")


def _extension_registry(marker):
    return _with_pickle(b"\x80\x02\x82\x01.")


def _whole_network(marker):
    return _saved(small_unet())


def _torchscript(marker):
    code = f"import os; os.system({_touch(marker)!r})".encode()
    return _zip({"m/data.pkl": b"\x80\x02}.", "m/code/__torch__.py": code, "m/constants.pkl": b"\x80\x02}."})


HOSTILE = {
    "os.system": (_system, "posix.system|nt.system"),
    "eval": (_eval, "builtins.eval"),
    "exec": (_exec, "builtins.exec"),
    "subprocess": (_subprocess, "subprocess.Popen"),
    "protocol 4": (_new_protocol, "posix.system|nt.system"),
    "bare pickle": (_bare_pickle, "posix.system|nt.system"),
    "bare pickle of protocol 5": (_bare_pickle_new_protocol, "posix.system|nt.system"),
    "argument of an allowed function": (_through_allowed_class, "posix.system|nt.system"),
    "state of an allowed class": (_state_of_allowed_class, "posix.system|nt.system"),
    "name of Python 2": (_old_name, "builtins.eval"),
    "getattr": (_getattr, r"os\.path, os\.path\.os"),
    "instance": (_instance, "os.system"),
    "extension registry": (_extension_registry, r"could run \?"),
    "whole network": (_whole_network, "segmentation_models_pytorch.decoders.unet.model.Unet"),
    "TorchScript": (_torchscript, "TorchScript program"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_is_executed(tmp_path, kind):
    make, says = HOSTILE[kind]
    marker = tmp_path / "marker"
    path = tmp_path / "model.pt"
    path.write_bytes(make(marker))
    for read in (read_model, model_info, lambda given: SMPSegmenter(given, "cpu"), _convert):
        with pytest.raises(UnsafeModelError, match=says) as caught:
            read(path)
        assert not marker.exists()
        assert str(path) in str(caught.value)
        assert "darts model convert" in str(caught.value)


def _convert(path):
    return convert_model(path, path.with_name("converted"))


def test_a_careless_reader_would_execute(tmp_path):
    marker = tmp_path / "marker"
    members = _members(_eval(marker))
    (content,) = (value for name, value in members.items() if name.endswith("data.pkl"))

    class Careless(pickle.Unpickler):
        def persistent_load(self, pid):
            return None

    with contextlib.suppress(
        AttributeError
    ):  # the tensors are not in this part of the file; the call comes before them
        Careless(io.BytesIO(content)).load()
    assert marker.exists()


def test_a_class_named_bands_of_a_module_of_the_system_is_inert(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(_name_that_looks_like_bands(tmp_path / "marker"))
    with pytest.raises(ModelFileError):
        read_model(path)
    assert not (tmp_path / "marker").exists()


# Broken and swollen files


def _good():
    return _saved(_content())


def _bomb(size=50 * 2**20):
    members = _members(_good())
    return _zip(members | {"archive/data/bomb": bytes(size)}, zipfile.ZIP_DEFLATED)


def _overlapping():
    """Many entries of the directory that show the same bytes."""
    content = _zip({"a/data.pkl": b"\x80\x02}.", "a/data/0": bytes(100_000)})
    end = content.rindex(b"PK\x05\x06")
    directory = struct.unpack_from("<I", content, end + 16)[0]
    entries = content[directory:end]
    many = entries * 50
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 100, 100, len(many), directory, 0)
    return content[:directory] + many + tail


def _flipped():
    content = bytearray(_good())
    content[content.index(b"archive/data/5") + 5000] ^= 0xFF
    return bytes(content)


def _swollen_tensor():
    states = _content()["statedict"]
    states["segmentation_head.0.bias"] = torch.ones(1).expand(10**12)
    return _saved(_content(statedict=states))


def _huge_pickle():
    return _with_pickle(b"\x80\x02" + b"N0" * 2**23 + b"}.")


def _shared_lists():
    """Lists of lists of lists …: few bytes that no one can print."""
    value = ["red"]
    for _ in range(100):
        value = [value, value]
    return _saved(_content(config={"model": UNET | {"decoder_channels": value}, "bands": list(BANDS)}))


BROKEN = {
    "zip bomb": (_bomb, UnsafeModelError, "compressed or encrypted"),
    "overlapping entries": (_overlapping, UnsafeModelError, "would become"),
    "swollen tensor": (_swollen_tensor, UnsafeModelError, "'segmentation_head.0.bias' claims 1000000000000 numbers"),
    "huge pickle": (_huge_pickle, BrokenModelError, "expected at most"),
    "shared lists": (_shared_lists, ModelFileError, "decoder_channels"),
    "truncated": (lambda: _good()[:-1000], BrokenModelError, "truncated or damaged"),
    "beginning only": (lambda: _good()[:200], BrokenModelError, "truncated or damaged"),
    "flipped bits": (_flipped, BrokenModelError, "checksum"),
    "empty": (lambda: b"", BrokenModelError, "is empty"),
    "truncated pickle": (lambda: _with_pickle(b"\x80\x02}q\x00X\xff"), BrokenModelError, "damaged or ends early"),
    "pickle of nothing": (lambda: _with_pickle(b"\x80\x02."), BrokenModelError, "damaged"),
    "no dict": (lambda: _saved([1, 2]), ModelFileError, "holds a list"),
    "another zip": (lambda: _zip({"word/document.xml": b"<a/>"}), BrokenModelError, "no checkpoint"),
    "safetensors": (lambda: _safetensors(), BrokenModelError, "rename it"),
    "PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), BrokenModelError, "PNG"),
    "NetCDF": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), BrokenModelError, "NetCDF"),
    "GeoTIFF": (lambda: b"II*\x00" + bytes(100), BrokenModelError, "TIFF"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(100), BrokenModelError, "gzip"),
    "JSON": (lambda: b'{"a": 1}', BrokenModelError, "model card.*; if it is an ensemble, name its members"),
    "web page": (lambda: b"\n<!DOCTYPE html><html>Sign in</html>", BrokenModelError, "web page"),
    "Git LFS": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        BrokenModelError,
        "git lfs pull",
    ),
    "noise": (
        lambda: bytes(np.random.default_rng(0).integers(0, 128, 5000, np.uint8)),
        BrokenModelError,
        "begins with",
    ),
}


def _safetensors():
    from safetensors.torch import save

    return save({"a": torch.ones(1)})


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_named(tmp_path, kind):
    make, error, says = BROKEN[kind]
    path = tmp_path / "model.ckpt"
    path.write_bytes(make())
    with pytest.raises(error, match=says) as caught:
        SMPSegmenter(path, "cpu")
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("size", [0, 7, 40, 5000])
def test_truncated_safetensors_are_named(tmp_path, size):
    card = ModelCard(name="a", architecture=UNET, bands=BANDS)
    weights, _ = model_paths(save_model(tmp_path / "a", small_unet(), card))
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(BrokenModelError, match="truncated, damaged or no safetensors"):
        SMPSegmenter(tmp_path / "a", "cpu")


def test_a_pickle_named_safetensors_is_not_read_as_one(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "a.safetensors").write_bytes(_system(marker))
    (tmp_path / "a.json").write_text(ModelCard(name="a", architecture=UNET, bands=BANDS).to_json())
    with pytest.raises(BrokenModelError, match="no safetensors"):
        SMPSegmenter(tmp_path / "a.safetensors", "cpu")
    assert not marker.exists()


def test_every_truncation_of_a_checkpoint_is_an_error(tmp_path):
    content = _saved({"config": {"model": {"arch": "unet"}, "bands": ["red"]}, "statedict": {"a": torch.ones(3)}})
    path = tmp_path / "model.pt"
    for size in range(0, len(content), 37):
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError):
            read_model(path)


def test_any_single_damage_is_an_error_or_harmless(tmp_path):
    content = _saved({"config": {"model": {"arch": "unet"}, "bands": ["red"]}, "statedict": {"a": torch.ones(3)}})
    rng = np.random.default_rng(0)
    path = tmp_path / "model.pt"
    for position in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(0, 8)
        path.write_bytes(bytes(damaged))
        try:
            model = read_model(path)
        except ModelFileError:
            continue
        assert model.card.bands == ("red",)
        assert torch.equal(model.state_dict["a"], torch.ones(3))
