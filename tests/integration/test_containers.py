"""The container files: linted, alike, and made of commands that work in a fresh environment."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "containers" / "Dockerfile"
DEFINITION = ROOT / "containers" / "darts.def"
SECTIONS = {"arguments", "post", "environment", "runscript", "test", "help"}


def _commands(text: str) -> list[list[str]]:
    """Return the commands of a shell script that are joined by && or by lines."""
    lines = re.split(r"&&|\n", re.sub(r"\\\n", " ", text))
    return [shlex.split(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _of_dockerfile() -> list[list[str]]:
    (script,) = re.findall(r"^RUN ((?:.*\\\n)+.*)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    return _commands(script)


def _sections() -> dict[str, str]:
    parts = re.split(r"^%(\w+)\n", DEFINITION.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _install(commands: list[list[str]]) -> list[str]:
    (found,) = [words for words in commands if words[:3] == ["uv", "pip", "install"]]
    return found


def test_the_dockerfile_is_linted() -> None:
    linter = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if linter is None:
        pytest.skip("hadolint is not installed here")
    done = subprocess.run([linter, "--format", "json", DOCKERFILE], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == []


def test_both_files_install_the_same() -> None:
    sections = _sections()
    assert set(sections) == SECTIONS
    variables = {"{{ TORCH }}": "$TORCH", "{{ EXTRAS }}": "$EXTRAS"}
    script = sections["post"]
    for theirs, ours in variables.items():
        script = script.replace(theirs, ours)
    words = [word for word in _install(_of_dockerfile()) if word not in ("--find-links", "/tmp/context/wheels")]
    assert _install(_commands(script)) == words
    base = re.search(r"^FROM (\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    assert base is not None
    assert f"From: {base[1]}" in DEFINITION.read_text("utf-8")
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE))
    assert dict(re.findall(r"(\w+)=(\S+)", sections["arguments"])) == arguments
    assert re.findall(r"NUMBA_CACHE_DIR=(\S+)", sections["environment"]) == re.findall(
        r"^ENV NUMBA_CACHE_DIR=(\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE
    )


def test_the_extras_that_are_named_exist() -> None:
    project = tomllib.loads((ROOT / "packages" / "darts" / "pyproject.toml").read_text("utf-8"))["project"]
    named = set()
    for path in (DOCKERFILE, DEFINITION, ROOT / "docs" / "offline.md", ROOT / "docs" / "cluster.md"):
        for extras in re.findall(r"EXTRAS=([\w,]+)|darts-nextgen\[([\w,]+)\]", path.read_text("utf-8")):
            named |= set(",".join(filter(None, extras)).split(","))
    assert named >= {"cluster", "cuda12"}
    assert named <= set(project["optional-dependencies"])


@pytest.mark.slow
def test_what_the_dockerfile_installs_works_in_a_fresh_environment(tmp_path: Path) -> None:
    """With PyTorch from the usual index, since that of a variant may be out of reach."""
    build = ["uv", "build", "--no-sources", "--all-packages", "--wheel", "--out-dir", str(tmp_path / "wheels")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["uv", "venv", "--python", sys.executable, str(tmp_path / "env")], check=True, capture_output=True)
    python = str(tmp_path / "env" / "bin" / "python")
    exact = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["exclude-newer"]
    replaced = {"--system": f"--python={python}", "/tmp/context/wheels": str(tmp_path / "wheels"), "--no-cache": ""}
    replaced |= {"--torch-backend": "", "$TORCH": "", "darts-nextgen[$EXTRAS]": "darts-nextgen[cluster]"}
    words = [replaced.get(word, word) for word in _install(_of_dockerfile())]
    command = [*filter(None, words), "--exclude-newer", exact]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    darts = tmp_path / "env" / "bin" / "darts"
    said = subprocess.run([darts, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("darts ")
    said = subprocess.run([darts, "cluster", "--help"], capture_output=True, text=True, check=True)
    assert "slurm" in said.stdout
