"""What several packages use stands in one place: no list of bands or features is written down twice."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from darts_utils import BANDS

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
FEWEST = 3
NAMES = frozenset(BANDS)
COLOURS = {"red", "green", "blue"}
"""What any picture is made of."""


def lists_of_bands(tree: ast.Module) -> Iterator[tuple[int, frozenset[str]]]:
    """Yield line and names of each tuple, list, set or dict of at least three texts, all of them names of bands."""
    for node in ast.walk(tree):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = list(node.elts)
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        texts = {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}
        if FEWEST <= len(texts) == len(parts) and texts <= NAMES and texts != COLOURS:
            yield node.lineno, frozenset(texts)


def test_the_search_finds_lists() -> None:
    code = 'a = ("slope", "aspect", "dem")\nb = {"red": 1, "nir": 2, "blue": 3}\nc = ["red", "nir"]'
    assert [line for line, _ in lists_of_bands(ast.parse(code))] == [1, 2]


def test_no_list_of_bands_exists_twice() -> None:
    places: dict[frozenset[str], list[str]] = defaultdict(list)
    for path in sorted(PACKAGES.glob("*/src/**/*.py")):
        text = path.read_text("utf-8")
        if sum(f'"{name}"' in text for name in NAMES) < FEWEST:
            continue
        for line, names in lists_of_bands(ast.parse(text)):
            places[names].append(f"{path.relative_to(PACKAGES)}:{line}")
    twice = {", ".join(sorted(names)): where for names, where in places.items() if len(where) > 1}
    assert not twice
    # The data model, what a product or a table holds, and what Planet and Earth Engine call their bands.
    assert len(places) <= 8, dict(places)
