"""Every check of the workflows, runnable anywhere by the same verb: ``python .github/scripts/checks.py <verb>``.

Needs Python 3.11 and uv, nothing else. What a verb builds or installs beyond the workspace's own environment lies in a
temporary folder, so that no verb disturbs the working tree.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMOKE = Path(__file__).resolve().parent / "smoke"

HEAVY = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "cupy-cuda12x", "cupy-cuda13x")
NOT_IN = {
    "darts-utils": (*HEAVY, "rasterio", "geopandas", "xarray", "scipy", "pandas"),
    "darts-acquisition": HEAVY,
    "darts-preprocessing": (*HEAVY, "geopandas", "icechunk"),
    "darts-segmentation": ("rasterio", "geopandas", "icechunk"),
    "darts-postprocessing": (*HEAVY, "rasterio", "geopandas", "icechunk"),
    "darts-dataset": (*HEAVY, "icechunk", "xarray"),
    "darts-demo": (*HEAVY, "darts-nextgen", "darts-training", "typer", "rich", "pydantic"),
    "darts-evaluation": (*HEAVY, "icechunk"),
    "darts-export": (*HEAVY, "icechunk"),
    "darts-training": ("icechunk", "typer", "rich", "pydantic"),
}
"""Distributions that must not come with a package, although the workspace as a whole holds them."""
USED_BY = {"darts-training": "darts-segmentation"}
"""Packages that make something which another one must be able to use without them."""


def packages() -> dict[str, Path]:
    """Return the folder of each package of the workspace, by the name of its distribution."""
    folders = sorted(path.parent for path in (ROOT / "packages").glob("*/pyproject.toml"))
    return {read_project(folder)["project"]["name"]: folder for folder in folders}


def read_project(folder: Path) -> dict:
    """Return the content of a folder's pyproject.toml."""
    return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))


def tests_of(name: str) -> list[str]:
    """Return what pytest runs for one package: its tests, and the doctests of its modules."""
    folder = packages()[name].name
    return [f"tests/{folder}", f"packages/{folder}"]


def test_groups(name: str) -> list[str]:
    """Return uv's options for what the tests of a package need beside the package."""
    groups = read_project(ROOT)["dependency-groups"]
    wanted = [group for group in ("test-tools", f"test-{name}") if group in groups]
    return [word for group in wanted for word in ("--group", f"{ROOT / 'pyproject.toml'}:{group}")]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> None:
    """Show a command and run it; a failure ends this script with the command's exit code."""
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    # An environment that is active for this script is not the one that the command is meant to see.
    inherited = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(words, cwd=cwd, env=inherited | environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def output(*command: str | Path) -> str:
    """Return what a command prints."""
    return subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder outside the workspace; the settings of the workspace do not reach there."""
    with tempfile.TemporaryDirectory(prefix="darts-check-") as name:
        Path(name).chmod(0o755)  # for tests that give up root
        yield Path(name).resolve()


def suite(arguments: argparse.Namespace) -> None:
    """Run the whole suite in the workspace."""
    run("uv", "run", "pytest", *arguments.pytest)


def lint(_: argparse.Namespace) -> None:
    """Check style and format with ruff."""
    run("uv", "run", "ruff", "check")
    run("uv", "run", "ruff", "format", "--check")


def types(_: argparse.Namespace) -> None:
    """Check types with mypy."""
    run("uv", "run", "mypy")


def imports(_: argparse.Namespace) -> None:
    """Check who knows whom with import-linter."""
    run("uv", "run", "lint-imports")


def docs(arguments: argparse.Namespace) -> None:
    """Build the documentation; a warning is an error."""
    run("uv", "run", "--group", "docs", "sphinx-build", "-W", "--keep-going", "-n", "docs", arguments.out)


def member(arguments: argparse.Namespace) -> None:
    """Install one package with what it declares and what its tests need, and run its tests."""
    name = arguments.package
    with temporary_folder() as temporary:
        environment = temporary / "env"
        run(
            *("uv", "sync", "--package", name, "--no-default-groups"),
            *(("--python", arguments.python) if arguments.python else ()),
            UV_PROJECT_ENVIRONMENT=str(environment),
        )
        check_absent(name, environment)
        run("uv", "pip", "install", "--python", environment, *test_groups(name))
        run(environment / "bin" / "python", "-m", "pytest", *tests_of(name), *arguments.pytest)


def lowest(arguments: argparse.Namespace) -> None:
    """Run the whole suite with the lowest versions that the packages allow."""
    with temporary_folder() as temporary:
        copy = copy_workspace(temporary / "workspace")
        environment = temporary / "env"
        run(
            *("uv", "sync", "--resolution", "lowest-direct", "--no-default-groups", "--group", "test"),
            *("--python", arguments.python or "3.11"),
            cwd=copy,
            UV_PROJECT_ENVIRONMENT=str(environment),
        )
        run(environment / "bin" / "python", "-m", "pytest", *arguments.pytest, cwd=copy)


def copy_workspace(target: Path) -> Path:
    """Copy what git tracks or would track: a lock of other versions must not replace the usual one."""
    listing = output("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def build(arguments: argparse.Namespace) -> None:
    """Build sdist and wheel of one package or of all, as an index would see them."""
    which = ["--package", arguments.package] if arguments.package else ["--all-packages"]
    with temporary_folder() as temporary:
        copy = copy_workspace(temporary / "workspace")
        for folder in packages().values():
            state_urls(copy / folder.relative_to(ROOT))
        run("uv", "build", "--no-sources", *which, "--out-dir", arguments.out.absolute(), cwd=copy)


def state_urls(folder: Path) -> None:
    """State the project's addresses in a package's pyproject.toml, those of the repository whose workflow builds it."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository:
        return
    address = f"{os.environ['GITHUB_SERVER_URL']}/{repository}"
    changelog = f"{address}/blob/HEAD/packages/{folder.name}/CHANGELOG.md"
    urls = {"Repository": address, "Issues": f"{address}/issues", "Changelog": changelog}
    lines = ["", "[project.urls]", *(f'{name} = "{url}"' for name, url in urls.items()), ""]
    with (folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines))


def wheels(arguments: argparse.Namespace) -> None:
    """Build wheels, install each alone into an empty environment outside the workspace, and try it there."""
    names = arguments.packages or list(packages())
    with temporary_folder() as temporary:
        dist = arguments.dist
        if dist is None:
            dist = temporary / "dist"
            run("uv", "build", "--no-sources", "--all-packages", "--out-dir", dist)
        for name in names:
            try_wheel(name, dist.resolve(), temporary, arguments)


def try_wheel(name: str, dist: Path, temporary: Path, arguments: argparse.Namespace) -> None:
    """Install the wheel of one package into an environment of its own, smoke-test it, and test it where asked to."""
    environment, install = install_wheel(name, dist, temporary, arguments)
    python = environment / "bin" / "python"
    run(python, "-I", SMOKE / "run.py", name, cwd=temporary, DARTS_SMOKE_OUT=str(temporary / f"{name}-made"))
    if arguments.tests:
        run(*install, *test_groups(name), cwd=temporary)
        run(python, "-m", "pytest", tests_of(name)[0], *arguments.pytest)
    shutil.rmtree(environment)
    print(f"{name} installs and works alone.", flush=True)
    if user := USED_BY.get(name):
        environment, _ = install_wheel(user, dist, temporary, arguments)
        script = SMOKE / f"{user}_after_{name}.py".replace("-", "_")
        run(environment / "bin" / "python", "-I", script, temporary / f"{name}-made", cwd=temporary)
        shutil.rmtree(environment)
        print(f"{user} alone uses what {name} made.", flush=True)


def install_wheel(name: str, dist: Path, temporary: Path, arguments: argparse.Namespace) -> tuple[Path, list[str]]:
    """Install the wheel of one package into an environment of its own; return that, and the command that installs."""
    environment = temporary / name
    run("uv", "venv", "--python", arguments.python or "3.11", environment, cwd=temporary)
    install = ["uv", "pip", "install", "--python", str(environment)]
    if not arguments.newest:
        install += ["--exclude-newer", read_project(ROOT)["tool"]["uv"]["exclude-newer"]]
    siblings = [] if arguments.siblings == "index" else siblings_of(name)
    run(*install, *(find_wheel(dist, each) for each in (name, *siblings)), cwd=temporary)
    run("uv", "pip", "check", "--python", environment, cwd=temporary)
    check_absent(name, environment)
    return environment, install


def find_wheel(dist: Path, name: str) -> Path:
    """Return the wheel of a package in a folder: that of the version here, else the only one there is."""
    version, stem = read_project(packages()[name])["project"]["version"], name.replace("-", "_")
    found = list(dist.glob(f"{stem}-{version}-*.whl")) or list(dist.glob(f"{stem}-*.whl"))
    if len(found) != 1:
        sys.exit(f"{dist} holds {len(found)} wheels of {name} {version}; expected one. Build it: checks.py build")
    return found[0]


def siblings_of(name: str) -> list[str]:
    """Return the packages of the workspace that a package needs, with those that these need."""
    every = packages()
    needed: list[str] = []
    for each in names_in(read_project(every[name])["project"]["dependencies"]):
        if each in every:
            needed += [each, *siblings_of(each)]
    return list(dict.fromkeys(needed))


def names_in(requirements: Iterable[str]) -> list[str]:
    """Return the names of the distributions in a list of requirements."""
    return [re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in requirements]


def check_absent(name: str, environment: Path) -> None:
    """End with a sentence where an environment holds what must not come with the package."""
    listing = output("uv", "pip", "list", "--format", "json", "--python", environment)
    present = {entry["name"].lower() for entry in json.loads(listing)}
    unwanted = sorted(present.intersection(NOT_IN.get(name, ())))
    if unwanted:
        sys.exit(f"{name} brings {', '.join(unwanted)}, which it must not depend on.")
    print(f"{name} brings {len(present)} distributions, none of them unwanted.", flush=True)


def release(arguments: argparse.Namespace) -> None:
    """Check that a tag names a package, its version, and a dated section of its changelog."""
    match = re.fullmatch(r"(?P<name>[a-z0-9-]+)-v(?P<version>\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)", arguments.tag)
    if match is None:
        sys.exit(f"Tag {arguments.tag!r} does not read <package>-vX.Y.Z.")
    name, version = match["name"], match["version"]
    if name not in packages():
        sys.exit(f"Tag {arguments.tag!r} names no package; there are {', '.join(packages())}.")
    folder = packages()[name]
    stated = read_project(folder)["project"]["version"]
    if version != stated:
        sys.exit(f"Tag {arguments.tag!r} says version {version}; packages/{folder.name}/pyproject.toml says {stated}.")
    changelog = (folder / "CHANGELOG.md").read_text("utf-8")
    heading = rf"^## {re.escape(version)} \(\d{{4}}-\d{{2}}-\d{{2}}\)$"
    section = re.search(rf"{heading}\n(?P<text>.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None or not section["text"].strip():
        sys.exit(f"packages/{folder.name}/CHANGELOG.md has no section '## {version} (YYYY-MM-DD)' with text in it.")
    print(f"{name} {version} may be released:\n\n{section['text'].strip()}")
    if file_of_step := os.environ.get("GITHUB_OUTPUT"):
        with Path(file_of_step).open("a", encoding="utf-8") as file:
            file.write(f"package={name}\nversion={version}\n")


def rehearse(arguments: argparse.Namespace) -> None:
    """Release packages in a clone, but for publishing: date, tag, build, install with the lowest siblings, test."""
    with temporary_folder() as temporary:
        clone = temporary / "clone"
        run("git", "clone", "-q", ROOT, clone, cwd=temporary)
        tags = {name: tag_release(clone, name) for name in arguments.packages or packages()}
        for name, tag in tags.items():
            run(sys.executable, ".github/scripts/checks.py", "release", tag, cwd=clone)
            dist = temporary / f"{name}-dist"
            build_at(clone, tag, name, dist)
            for sibling in siblings_of(name):
                build_at(clone, lowest_release(clone, sibling, [name, *siblings_of(name)]), sibling, dist)
            try_wheel(name, dist, temporary, arguments)
            for file in sorted(dist.glob(f"{name.replace('-', '_')}-*")):
                print(
                    f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}: would be published now.", flush=True
                )


def tag_release(clone: Path, name: str) -> str:
    """Date the changelog of a package in a clone, commit and tag it as its release; return the tag."""
    folder = clone / "packages" / packages()[name].name
    stated = read_project(folder)["project"]["version"]
    version = stated.removesuffix(".dev0")
    project = folder / "pyproject.toml"
    project.write_text(
        project.read_text("utf-8").replace(f'version = "{stated}"', f'version = "{version}"', 1), "utf-8"
    )
    changelog = folder / "CHANGELOG.md"
    heading = f"## {version} ({datetime.now(UTC).date().isoformat()})"
    changelog.write_text(changelog.read_text("utf-8").replace(f"## {version} (unreleased)", heading, 1), "utf-8")
    identity = ("-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost")
    tag = f"{name}-v{version}"
    run("git", *identity, "commit", "-q", "--allow-empty", "-am", f"Release {name} {version}", cwd=clone)
    run("git", *identity, "tag", "-a", tag, "-m", tag, cwd=clone)
    return tag


def lowest_release(clone: Path, name: str, users: Iterable[str]) -> str:
    """Return the tag of the first release of a package that its users allow; "HEAD" where there is none."""
    wanted = [text for user in users for text in read_project(packages()[user])["project"]["dependencies"]]
    bounds = [as_numbers(match[1]) for text in wanted if (match := re.match(rf"{name}>=([\d.]+)", text))]
    listing = output("git", "-C", clone, "tag", "--list", f"{name}-v*")
    releases = sorted((as_numbers(tag.rpartition("-v")[2]), tag) for tag in listing.split())
    return next((tag for numbers, tag in releases if numbers >= max(bounds, default=())), "HEAD")


def as_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, for comparing; what is no final release comes before all."""
    return tuple(map(int, version.split("."))) if re.fullmatch(r"[\d.]+", version) else ()


def build_at(clone: Path, reference: str, name: str, dist: Path) -> None:
    """Build sdist and wheel of a package as it is at a tag or commit."""
    source = clone.parent / f"{name}-at-{reference}"
    if not source.exists():
        run("git", "worktree", "add", "-q", "--detach", source, reference, cwd=clone)
    run("uv", "build", "-q", "--no-sources", "--package", name, "--out-dir", dist, cwd=source)


def names(_: argparse.Namespace) -> None:
    """Print the names of the packages as JSON, for the matrix of a workflow."""
    print(json.dumps(list(packages())))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; each verb's help is its function's docstring."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(required=True, metavar="verb")
    added = {}
    for verb in (suite, lint, types, imports, docs, member, lowest, build, wheels, release, rehearse, names):
        added[verb] = verbs.add_parser(verb.__name__, help=verb.__doc__, description=verb.__doc__)
        added[verb].set_defaults(verb=verb)
    for verb in (member, lowest, wheels, rehearse):
        added[verb].add_argument("--python", help="version or path of the interpreter")
    for verb in (suite, member, lowest, wheels, rehearse):
        added[verb].add_argument("--pytest", nargs=argparse.REMAINDER, default=[], help="last: arguments for pytest")
    added[docs].add_argument("--out", type=Path, default=ROOT / "docs" / "_build" / "html", help="where the pages go")
    added[member].add_argument("package", choices=packages())
    added[build].add_argument("package", nargs="?", choices=packages(), help="all where none is named")
    added[build].add_argument("--out", type=Path, default=ROOT / "dist", help="where sdist and wheel go")
    for verb in (wheels, rehearse):
        added[verb].add_argument("packages", nargs="*", metavar="package", help="all where none is named")
    added[wheels].add_argument("--dist", type=Path, help="folder of wheels that are built already")
    added[wheels].add_argument("--newest", action="store_true", help="newest dependencies, not those of exclude-newer")
    added[wheels].add_argument("--tests", action="store_true", help="run the package's tests there as well")
    added[wheels].add_argument(
        "--siblings", choices=["built", "index"], default="built", help="where packages of the workspace come from"
    )
    added[rehearse].set_defaults(newest=False, tests=True, siblings="built")
    added[release].add_argument("tag")
    return top


def main() -> None:
    """Run the verb of the command line."""
    arguments = parser().parse_args()
    unknown = set(getattr(arguments, "packages", ())) - set(packages())
    if unknown:
        sys.exit(f"No package is called {', '.join(sorted(unknown))}; there are {', '.join(packages())}.")
    arguments.verb(arguments)


if __name__ == "__main__":
    main()
