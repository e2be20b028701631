"""The dataset of three made-up years, for tests that only read it."""

import pytest

from darts_dataset import build
from support.slump_worlds import world


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    return build(world(root / "results"), root / "dataset")
