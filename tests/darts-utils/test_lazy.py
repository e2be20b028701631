"""A package loads the module behind a name when somebody asks for the name."""

import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

LAZY = [
    "darts_acquisition",
    "darts_dataset",
    "darts_demo",
    "darts_evaluation",
    "darts_export",
    "darts_segmentation",
    "darts_training",
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with two modules of which one cannot be imported."""
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.pyi").write_text("from .good import answer as answer\nfrom .bad import other as other\n")
    (folder / "__init__.py").write_text(
        "from darts_utils.lazy import lazy_names\n\n"
        "__getattr__, __dir__, __all__ = lazy_names(__name__, __file__, 'darts-utils')\n"
    )
    (folder / "good.py").write_text("answer = 42\n")
    (folder / "bad.py").write_text("raise RuntimeError('was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "slow_package"
    for name in [name for name in sys.modules if name.split(".")[0] == "slow_package"]:
        del sys.modules[name]


def test_a_name_loads_its_own_module_alone(package: str) -> None:
    module = importlib.import_module(package)
    assert "slow_package.good" not in sys.modules
    assert module.answer == 42
    assert "slow_package.bad" not in sys.modules
    assert module.good.answer == 42
    with pytest.raises(RuntimeError, match="was imported"):
        _ = module.other


def test_the_names_are_those_of_the_stub_and_the_version_that_of_the_distribution(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == dir(module) == ["answer", "other"]
    assert module.__version__ == version("darts-utils")
    with pytest.raises(AttributeError, match=r"slow_package.*no attribute 'nothing'"):
        _ = module.nothing


def test_constants_stand_before_classes_and_these_before_functions(package: str, tmp_path: Path) -> None:
    names = ("build", "Zone", "answer", "LIMIT", "Area", "BANDS")
    stub = "".join(f"from .good import {name} as {name}\n" for name in names)
    (tmp_path / "slow_package" / "__init__.pyi").write_text(stub)
    module = importlib.import_module(package)
    assert module.__all__ == ["BANDS", "LIMIT", "Area", "Zone", "answer", "build"]


@pytest.mark.parametrize("name", LAZY)
def test_each_name_of_a_stub_is_found(name: str) -> None:
    module = pytest.importorskip(name, reason=f"{name} is not installed")
    assert module.__all__
    assert all(getattr(module, each) is not None for each in module.__all__)


@pytest.mark.parametrize("name", LAZY)
def test_a_module_is_found_without_importing_it_before(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    code = f"import {name}; assert {name}.errors.__name__ == '{name}.errors'"
    subprocess.run([sys.executable, "-c", code], check=True)
