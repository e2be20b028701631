"""One thread for torch: the networks here are so small that waiting for a second one takes longer than the work."""

import shutil
from importlib.metadata import version

import pytest


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache folder of the tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def untranslated(tmp_path_factory):
    """A small network."""
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    from support.programs import write_network

    return write_network(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="session")
def converted(untranslated, cache):
    """Its program, translated once; it is in the cache, too."""
    from darts_segmentation import convert_model, hash_model

    path = convert_model(untranslated, cache / "program", "openvino")
    kept = cache / "darts" / "openvino" / f"{hash_model(untranslated)}-{version('openvino')}"
    kept.parent.mkdir(parents=True)
    shutil.copytree(path, kept)
    return path


@pytest.fixture(scope="session")
def model(untranslated, converted):
    """The small network, of which there is a program."""
    return untranslated


@pytest.fixture(scope="session")
def network():
    """A small network with random weights, which no test changes."""
    from support.segmentation import small_unet

    return small_unet()
