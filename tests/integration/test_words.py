"""Identifiers use the field's words: none is one of the words that the project has left behind."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_BEHIND = {
    *("at_once", "back", "core", "cores", "damage", "divisor", "fact", "facts", "fill_up"),
    *("filler", "filling", "fills", "goes_over", "listener", "look_into", "made_up", "moment"),
    *("night", "piece", "pieces", "place", "places", "rim", "runs", "second_opinion", "standin"),
    *("states", "there", "tried_again", "try_again", "worth_trying_again"),
}
"""Words, in lower case and without underscores around them."""
ALLOWED = {
    "core": ("darts_preprocessing/feature.py", "darts_segmentation/"),  # an earlier name of a release; OpenVINO's Core
    "divisor": ("darts_acquisition/scenes/quality.py",),  # divides numbers
    "fills": ("darts_segmentation/pickles.py", "darts_utils/values.py"),  # a verb; values that mean "missing"
    "runs": ("darts/",),  # of the pipeline
    "states": (
        "darts_acquisition/cube/",  # of chunks
        "darts_dataset/",  # of objects, from year to year
        "darts/report/",  # of tiles
        "darts/run/",  # of jobs and files
        "darts_segmentation/modelfile.py",  # an earlier name of a release
    ),
}
"""Beginnings of the paths in which such a word means what it means elsewhere."""


def identifiers(tree: ast.Module) -> Iterator[str]:
    """Yield all names that a module gives or uses."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "name", "attr", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


@pytest.mark.parametrize("package", sorted(path.name for path in (ROOT / "packages").iterdir() if path.is_dir()))
def test_no_identifier_is_a_word_that_was_left_behind(package):
    sources = ROOT / "packages" / package / "src"
    found = set()
    for path in sources.rglob("*.py"):
        module = path.relative_to(sources).as_posix()
        words = {name.strip("_").lower() for name in identifiers(ast.parse(path.read_text("utf-8")))}
        found |= {(word, module) for word in words & LEFT_BEHIND if not module.startswith(ALLOWED.get(word, ("?",)))}
    assert not found
