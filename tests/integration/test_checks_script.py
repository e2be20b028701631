"""The script that the workflows run: which tags may be released, and what comes with a package."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".github" / "scripts" / "checks.py"


def write_package(root: Path, name: str, version: str, changelog: str, dependencies: str = "") -> None:
    folder = root / "packages" / name
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "{version}"\ndependencies = [{dependencies}]\n'
    )
    (folder / "CHANGELOG.md").write_text(f"# Changelog of {name}\n\n{changelog}")


@pytest.fixture
def checks(monkeypatch, tmp_path) -> ModuleType:
    """The script, in a workspace of three packages of its own."""
    spec = importlib.util.spec_from_file_location("checks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write_package(
        tmp_path, "a-utils", "0.2.0", "## 0.2.0 (2025-07-01)\n\n- Faster.\n\n## 0.1.0 (2025-06-01)\n\n- New.\n"
    )
    write_package(
        tmp_path, "a-stage", "1.0.0rc1", "## 1.0.0rc1 (2025-07-01)\n\n- New.\n", '"A-Utils >=0.1,<1", "numpy"'
    )
    write_package(tmp_path, "a-whole", "0.1.0", "## 0.1.0 (unreleased)\n\n- New.\n", '"a-stage[x]>=0.1"')
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    return module


@pytest.mark.parametrize(
    ("tag", "says"),
    [("a-utils-v0.2.0", "a-utils 0.2.0 .*\n\n- Faster.\n$"), ("a-stage-v1.0.0rc1", "a-stage 1.0.0rc1 ")],
)
def test_a_tag_that_fits_may_be_released(checks, capsys, tag, says):
    checks.release(SimpleNamespace(tag=tag))
    assert re.match(says, capsys.readouterr().out)


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("v0.2.0", "does not read <package>-vX.Y.Z"),
        ("a-utils-0.2.0", "does not read <package>-vX.Y.Z"),
        ("a-utils-v0.2", "does not read <package>-vX.Y.Z"),
        ("a-utils-v0.2.0.post1", "does not read <package>-vX.Y.Z"),
        ("a-utils-v0.2.0\n", "does not read <package>-vX.Y.Z"),
        ("b-utils-v0.2.0", "names no package; there are a-stage, a-utils, a-whole"),
        ("a-utils-v0.3.0", "says version 0.3.0; packages/a-utils/pyproject.toml says 0.2.0"),
        ("a-utils-v0.1.0", "says version 0.1.0; packages/a-utils/pyproject.toml says 0.2.0"),
        ("a-whole-v0.1.0", "packages/a-whole/CHANGELOG.md has no section '## 0.1.0 (YYYY-MM-DD)'"),
    ],
)
def test_any_other_tag_ends_with_a_sentence(checks, tag, says):
    with pytest.raises(SystemExit, match=re.escape(says)):
        checks.release(SimpleNamespace(tag=tag))


@pytest.mark.parametrize(
    "changelog", ["## 0.2.0 (2025-07-01)\n\n## 0.1.0 (2025-06-01)\n\n- New.\n", "## 0.1.0 (2025-06-01)\n- New.\n"]
)
def test_a_section_that_is_empty_or_absent_is_no_changelog(checks, changelog):
    (checks.ROOT / "packages" / "a-utils" / "CHANGELOG.md").write_text(changelog)
    with pytest.raises(SystemExit, match="has no section"):
        checks.release(SimpleNamespace(tag="a-utils-v0.2.0"))


def test_a_workflow_learns_what_is_released(checks, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    checks.release(SimpleNamespace(tag="a-utils-v0.2.0"))
    assert (tmp_path / "output").read_text() == "package=a-utils\nversion=0.2.0\n"


def test_addresses_are_those_of_the_repository_that_builds(checks, monkeypatch):
    folder = checks.packages()["a-utils"]
    for repository, expected in (("", None), ("who/fork", "https://example.org/who/fork")):
        monkeypatch.setenv("GITHUB_REPOSITORY", repository)
        monkeypatch.setenv("GITHUB_SERVER_URL", "https://example.org")
        checks.state_urls(folder)
        urls = checks.read_project(folder)["project"].get("urls", {})
        assert urls.get("Repository") == expected
    assert urls["Changelog"] == "https://example.org/who/fork/blob/HEAD/packages/a-utils/CHANGELOG.md"


def test_siblings_are_found_through_siblings(checks):
    assert checks.siblings_of("a-utils") == []
    assert checks.siblings_of("a-stage") == ["a-utils"]
    assert checks.siblings_of("a-whole") == ["a-stage", "a-utils"]


def test_the_wheel_of_the_stated_version_is_taken(checks, tmp_path):
    for name in ("a_utils-0.1.0-py3-none-any.whl", "a_utils-0.2.0-py3-none-any.whl", "a_utils-0.2.0.tar.gz"):
        (tmp_path / name).touch()
    assert checks.find_wheel(tmp_path, "a-utils").name == "a_utils-0.2.0-py3-none-any.whl"
    with pytest.raises(SystemExit, match=r"holds 0 wheels of a-whole 0\.1\.0"):
        checks.find_wheel(tmp_path, "a-whole")
    (tmp_path / "a_utils-0.2.0-py3-none-any.whl").unlink()
    assert checks.find_wheel(tmp_path, "a-utils").name == "a_utils-0.1.0-py3-none-any.whl"


def test_the_lowest_release_that_users_allow_is_taken(checks, monkeypatch, tmp_path):
    needs = {"a-utils": [], "a-stage": ["a-utils>=0.2,<1"], "a-whole": ["a-stage>=0.1,<1", "a-utils>=0.9,<1"]}
    monkeypatch.setattr(checks, "packages", lambda: {name: Path(name) for name in needs})
    monkeypatch.setattr(checks, "read_project", lambda place: {"project": {"dependencies": needs[str(place)]}})
    monkeypatch.setattr(
        checks, "output", lambda *_: "a-utils-v0.1.0\na-utils-v0.10.0\na-utils-v0.9.1\na-utils-v0.2.1\n"
    )
    assert checks.lowest_release(tmp_path, "a-utils", ["a-stage"]) == "a-utils-v0.2.1"
    assert checks.lowest_release(tmp_path, "a-utils", ["a-whole", "a-stage"]) == "a-utils-v0.9.1"
    monkeypatch.setattr(checks, "output", lambda *_: "")
    assert checks.lowest_release(tmp_path, "a-utils", ["a-stage"]) == "HEAD"


def test_what_must_not_come_with_a_package_is_named(checks, monkeypatch, tmp_path):
    monkeypatch.setitem(checks.NOT_IN, "a-stage", ("torch", "rasterio"))
    monkeypatch.setattr(checks, "output", lambda *_: '[{"name": "numpy"}, {"name": "Torch"}]')
    with pytest.raises(SystemExit, match="a-stage brings torch, which it must not depend on"):
        checks.check_absent("a-stage", tmp_path)
    checks.check_absent("a-utils", tmp_path)


def test_every_limit_names_a_package_that_exists():
    spec = importlib.util.spec_from_file_location("checks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.NOT_IN) < set(module.packages())
