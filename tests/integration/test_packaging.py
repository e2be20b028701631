"""What holds for every package of the workspace: who knows whom, what is declared, what is written about it."""

import ast
import dataclasses
import functools
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from enum import Enum
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import FunctionType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))
PROJECTS = {folder: tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"] for folder in FOLDERS}
MODULES = {folder: folder.name.replace("-", "_") for folder in FOLDERS}
NAMES = {project["name"] for project in PROJECTS.values()}

every_package = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_eleven_packages():
    assert {
        *("darts-nextgen", "darts-utils", "darts-acquisition", "darts-preprocessing", "darts-segmentation"),
        *("darts-postprocessing", "darts-export", "darts-evaluation", "darts-dataset", "darts-training"),
        "darts-demo",
    } == NAMES


# Who knows whom


def test_the_import_contract_holds():
    if importlib.util.find_spec("importlinter") is None:
        pytest.skip("import-linter is not installed here; `checks.py imports` runs it")
    # In a process of its own, because it disables every logger that it finds.
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


HEAVY = {"cupy", "cucim", "geopandas", "icechunk", "numba", "pynvml", "rasterio", "scipy", "skimage", "torch", "zarr"}
GPU = {"cupy", "cupyx", "cucim"}
TORCH = {"torch", "torchvision", "segmentation_models_pytorch", "timm"}


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after running some code."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


ALLOWED_ON_IMPORT = {
    "darts-acquisition": {"rasterio"},
    "darts-export": {"rasterio"},
    "darts-preprocessing": {"rasterio"},
}
"""What `import darts_x` may load, of the heavy libraries: `odc.geo.xr` imports rasterio where it is installed."""


@every_package
def test_importing_a_package_loads_nothing_heavy(folder):
    loaded = loaded_by(f"import {MODULES[folder]}")
    assert loaded & HEAVY <= ALLOWED_ON_IMPORT.get(folder.name, set())


def test_the_command_line_loads_no_array_library():
    loaded = loaded_by("import darts.cli.app")
    assert not loaded & {*HEAVY, "numpy", "pandas", "xarray", "darts_demo"}


@pytest.mark.slow
@every_package
def test_every_module_imports_and_none_needs_a_gpu(folder):
    code = f"""
import importlib, pkgutil, {MODULES[folder]} as package
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    loaded = loaded_by(code)
    assert not loaded & GPU
    if folder.name not in ("darts", "darts-segmentation", "darts-training"):
        assert not loaded & TORCH


# What is declared


@every_package
def test_siblings_are_declared_by_a_range_that_this_workspace_meets(folder):
    versions = {project["name"]: project["version"] for project in PROJECTS.values()}
    for text in PROJECTS[folder]["dependencies"]:
        requirement = Requirement(text)
        if requirement.name not in NAMES:
            continue
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {">=", "<"}, text
        assert requirement.specifier.contains(versions[requirement.name]), text


@every_package
def test_every_dependency_has_a_lowest_version(folder):
    for text in PROJECTS[folder]["dependencies"]:
        assert any(specifier.operator in (">=", "~=") for specifier in Requirement(text).specifier), text


# Import names whose distribution is not installed everywhere.
EXTRA_DISTRIBUTIONS = {"cupy": "cupy-cuda12x", "cupyx": "cupy-cuda12x", "cucim": "cucim-cu12"}


@every_package
def test_what_is_imported_is_declared(folder):
    extras = PROJECTS[folder].get("optional-dependencies", {}).values()
    requirements = [*PROJECTS[folder]["dependencies"], *(text for extra in extras for text in extra)]
    declared = {normalized(Requirement(text).name) for text in requirements}
    own = {MODULES[folder], "darts_command"}
    providers = _providers()
    for path, name in imported_names(folder):
        if name in sys.stdlib_module_names or name in own:
            continue
        expected = {normalized(each) for each in providers.get(name, [EXTRA_DISTRIBUTIONS.get(name, name)])}
        assert expected & declared, f"{path.relative_to(ROOT)} imports {name}, which {folder.name} does not declare"


@functools.cache
def _providers() -> dict[str, list[str]]:
    """Return the distributions of each import name, which takes a third of a second to find."""
    return dict(packages_distributions())


def imported_names(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of a package with the top-level name of each absolute import in it that is ever executed."""
    for path in sorted((folder / "src").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        unread = {id(each) for node in ast.walk(tree) if _is_for_type_checkers(node) for each in ast.walk(node)}
        for node in ast.walk(tree):
            if id(node) in unread:
                continue
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.partition(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield path, node.module.partition(".")[0]


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@every_package
def test_a_package_has_what_an_index_wants(folder):
    project = PROJECTS[folder]
    assert project["requires-python"] == ">=3.11"
    assert project["version"] == version(project["name"])
    assert (folder / "LICENSE").read_text("utf-8") == (ROOT / "LICENSE").read_text("utf-8")
    assert (folder / "src" / MODULES[folder] / "py.typed").exists()
    assert not [name for name in project["dependencies"] if "@" in name]


# What is written about it


@every_package
def test_the_changelog_has_the_version(folder):
    text = (folder / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (\S+) \((?:unreleased|\d{4}-\d{2}-\d{2})\)$", text, re.MULTILINE)
    assert headings[0] == PROJECTS[folder]["version"].removesuffix(".dev0")
    section = text.split(f"## {headings[0]} ", 1)[1].split("\n## ")[0]
    assert "\n- " in section, "the section says nothing"


@every_package
def test_the_readme_says_how_to_install_it_and_how_to_use_it(folder):
    text = (folder / "README.md").read_text("utf-8")
    assert text.startswith(f"# {PROJECTS[folder]['name']}\n")
    assert re.search(rf"pip install \"?{PROJECTS[folder]['name']}", text)
    assert "```python" in text or folder.name == "darts"


@every_package
def test_all_is_sorted_and_true(folder):
    module = importlib.import_module(MODULES[folder])
    names = list(getattr(module, "__all__", []))
    # As ruff sorts them: constants, classes, functions.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert all(hasattr(module, name) for name in names)


PUBLIC_MODULES = [MODULES[folder] for folder in FOLDERS if folder.name != "darts"]
PUBLIC_MODULES += ["darts.demo", "darts.pipelines.sequential_v2", "darts.report"]


every_module = pytest.mark.parametrize("module", PUBLIC_MODULES)


@every_module
def test_a_public_module_says_what_is_public(module):
    assert importlib.import_module(module).__all__


@functools.cache
def public_objects(module: str) -> dict[str, object]:
    """Return every public function and class of a module by its full name, and the public methods of these classes."""
    found: dict[str, object] = {}
    package = importlib.import_module(module)
    for name in getattr(package, "__all__", ()):
        entry = getattr(package, name)
        if inspect.isfunction(entry):
            found[f"{module}.{name}"] = entry
        elif inspect.isclass(entry) and not name.startswith("_"):
            found[f"{module}.{name}"] = entry
            found |= public_methods(f"{module}.{name}", entry)
    return found


def public_functions(module: str) -> dict[str, FunctionType]:
    return {name: entry for name, entry in public_objects(module).items() if inspect.isfunction(entry)}


def public_methods(prefix: str, entry: type) -> Iterator[tuple[str, object]]:
    for name, member in vars(entry).items():
        if name.startswith("_"):
            continue
        function = inspect.unwrap(getattr(member, "__func__", member)) if callable(member) else member
        if isinstance(member, staticmethod | classmethod):
            function = inspect.unwrap(member.__func__)
        if isinstance(function, FunctionType):
            yield f"{prefix}.{name}", function


def section(docstring: str, title: str) -> str:
    """Return the indented lines of a section of a Google docstring, empty where there is none."""
    match = re.search(rf"^{title}:\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    return match[1] if match else ""


@every_module
def test_a_public_name_begins_with_a_claim(module):
    for name, entry in public_objects(module).items():
        first = (inspect.getdoc(entry) or "").partition("\n\n")[0]
        assert first, f"{name} has no docstring"
        assert re.search(r"[.:)]$", first.strip()), f"the first sentence of {name} does not end: {first!r}"


@every_module
def test_a_public_function_documents_what_goes_in_and_what_comes_out(module):
    for name, entry in public_functions(module).items():
        function = inspect.unwrap(entry)
        docstring = inspect.getdoc(function) or ""
        documented = set(entries(section(docstring, "Args")))
        expected = set(inspect.signature(function).parameters) - {"self", "cls"}
        is_method = name.rpartition(".")[0] in public_objects(module)
        if is_method and not documented:  # a sentence may do for what a class reads and writes
            continue
        see_also = re.search(r"[Ss]ee :func:`(\w+)`", docstring)
        if not documented and see_also:  # many functions of one kind share the description of the general one
            of_its_own = set(re.findall(r"`(\w+)`", docstring))
            docstring += "\n\n" + inspect.getdoc(public_objects(module)[f"{name.rpartition('.')[0]}.{see_also[1]}"])
            assert expected - of_its_own <= set(entries(section(docstring, "Args"))), name
        else:
            assert documented == expected, name
        returns = inspect.signature(function).return_annotation
        gives_nothing = returns in (None, "None", inspect.Signature.empty)
        is_another_constructor = is_method and str(returns) == name.split(".")[-2]
        assert gives_nothing or is_another_constructor or section(docstring, "Returns"), (
            f"{name} does not say what it returns"
        )


def entries(text: str) -> Iterator[str]:
    """Yield the names that a section of a docstring describes: ``name:``, ``*args:``, ``one, two (type):``."""
    for names in re.findall(r"^ {4}([*\w][*\w, ]*?)(?: \([^)]*\))?:", text, re.MULTILINE):
        yield from (name.strip(" *") for name in names.split(","))


@every_module
def test_a_public_function_documents_what_it_raises(module):
    for name, entry in public_functions(module).items():
        function = inspect.unwrap(entry)
        documented = section(inspect.getdoc(function) or "", "Raises")
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                assert node.exc.func.id in documented, f"{name} raises {node.exc.func.id} and does not say so"


def describes_its_fields(entry: type) -> bool:
    """Say whether each field has a help text of its own."""
    return dataclasses.is_dataclass(entry) and any("darts" in field.metadata for field in dataclasses.fields(entry))


@every_module
def test_a_public_class_documents_how_it_is_made(module):
    for name, entry in public_objects(module).items():
        if not inspect.isclass(entry) or issubclass(entry, BaseException | Enum) or describes_its_fields(entry):
            continue
        docstring = inspect.getdoc(entry) or ""
        documented = {*entries(section(docstring, "Args")), *entries(section(docstring, "Attributes"))}
        has_another_way_in = any(isinstance(member, classmethod) for member in vars(entry).values())
        assert has_another_way_in or set(inspect.signature(entry).parameters) <= documented, name


def test_the_documentation_lists_every_variable_with_its_range():
    from darts_utils import BANDS

    rows = [
        line.split("|")[1:-1] for line in (ROOT / "docs" / "tile.md").read_text("utf-8").splitlines() if "|" in line
    ]
    table = {name: row for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row[0])}
    for name, band in BANDS.data_model.items():
        assert name in table, name
        _, dtype, _, valid, nodata, _ = (cell.strip().replace("−", "-") for cell in table[name])
        assert dtype.split(",")[0] == band.dtype, name
        if valid != "–":
            assert [float(number) for number in valid.split(" … ")] == [band.low, band.high], name
        shown = {"NaN": "nan", "–": "None"}.get(nodata, nodata)
        assert shown == str(band.nodata), name


def test_the_documentation_lists_every_command():
    import typer

    from darts.cli.app import app

    def leaves(command, words: str) -> Iterator[str]:
        if not hasattr(command, "list_commands"):
            yield words
            return
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), f"{words} {name}")

    text = (ROOT / "docs" / "command.md").read_text("utf-8")
    missing = [words for words in leaves(typer.main.get_command(app), "darts") if f"| `{words}` |" not in text]
    assert not missing


def test_workflows_run_verbs_that_exist():
    text = (ROOT / ".github" / "scripts" / "checks.py").read_text("utf-8")
    verbs = set(re.findall(r"^def (\w+)\(", text, re.MULTILINE))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.name for path in workflows] == ["ci.yml", "release.yml"]
    for path in workflows:
        used = re.findall(r"checks\.py (\w+)", path.read_text("utf-8"))
        assert set(used) - {"which"} <= verbs, path.name


def test_every_package_has_a_smoke_test():
    smoke = ROOT / ".github" / "scripts" / "smoke"
    missing = [name for name in NAMES if not (smoke / f"smoke_{name.replace('-', '_')}.py").exists()]
    assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darts-utils", "darts-postprocessing"])
def test_a_wheel_installs_and_works_alone(name):
    command = [sys.executable, str(ROOT / ".github" / "scripts" / "checks.py"), "wheels", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
