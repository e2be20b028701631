"""What the pages tell people to type exists: commands with their options, configurations, queries."""

import ast
import contextlib
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from darts.cli.app import app
from darts.pipelines.configfile import read_config
from darts.pipelines.options import known_keys
from darts.pipelines.sequential_v2 import PlanetPipeline, Sentinel2Pipeline

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "packages").glob("*/README.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CALL = re.compile(
    r"^(?:exec +|srun .*? |uv run (?:--\S+ \S+ )*|apptainer run .*?)?(?:\w+=\S+ +)*darts(?:\.sif)?((?: .*)?)$"
)
PLACEHOLDER = re.compile(r"[…<>]|^[A-Z][A-Z0-9_.]*$|^DATASET|^NEW$")


def pages_with(kind: str) -> Iterator[Any]:
    for page in PAGES:
        for number, (language, code) in enumerate(FENCED.findall(page.read_text("utf-8"))):
            if language == kind:
                yield pytest.param(code, id=f"{page.relative_to(ROOT)}:{number}")


def calls(code: str) -> list[list[str]]:
    """Return the words behind `darts` in each call of it in a block of bash."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            match = CALL.search(part.strip())
            if match:
                words = shlex.split(match[1], comments=True)
                found.append([*itertools.takewhile(lambda word: word not in ("&", "|", ";", ">"), words)])
    return found


def spans() -> Iterator[Any]:
    """Give the calls of `darts` inside the text of the pages."""
    for page in PAGES:
        text = FENCED.sub("", page.read_text("utf-8"))
        for span in sorted(set(re.findall(r"`darts( [^`]+)`", text))):
            yield pytest.param(span.split(), id=f"{page.relative_to(ROOT)}:{span}")


def parse(words: list[str]) -> None:
    """Read the words as the command would, and call nothing."""
    name, command, parent = "darts", typer.main.get_command(app), None
    while True:
        context = command.make_context(name, list(words), parent=parent)
        if not hasattr(command, "resolve_command"):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        parent = context


BASH = [case for case in pages_with("bash") if calls(case.values[0])]


def test_calls_are_found() -> None:
    assert calls(
        "uv run --extra a darts demo \\\n  --seed 3 # no\nsrun --gres=gpu:1 darts env-info && darts paths &\n"
    ) == [
        ["demo", "--seed", "3"],
        ["env-info"],
        ["paths"],
    ]
    assert not calls("docker build --tag darts containers")
    assert len(BASH) > 20
    for words in ("demo --sede 3", "infernce planet-sequential", "inference planet-sequential --shart 0/4"):
        with pytest.raises(Exception, match="No such"):
            parse(words.split())


@pytest.mark.parametrize("code", BASH)
def test_a_block_of_bash_has_commands_and_options_that_exist(code: str) -> None:
    for words in calls(code):
        with contextlib.suppress(typer.Exit):  # --help, --version
            parse(words)


@pytest.mark.parametrize("words", [case for case in spans() if "…" not in case.values[0][0]])
def test_a_command_in_the_text_exists(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    context = command.make_context("darts", [], resilient_parsing=True)
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if PLACEHOLDER.search(word):
            continue
        if word.startswith("-"):
            assert word.partition("=")[0] in {*known, "--help", "-h"}, words
        elif hasattr(command, "resolve_command") and command.get_command(context, word) is not None:
            command = command.get_command(context, word)
            known |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        else:
            # A value of an option, or an argument: no word may stand where a command is expected.
            assert not hasattr(command, "resolve_command") or known & set(words), words


@pytest.mark.parametrize("code", [case for case in pages_with("toml") if "[darts]" in case.values[0]])
def test_a_configuration_can_be_read(code: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(code)
    keys = known_keys(PlanetPipeline, Sentinel2Pipeline)
    assert read_config(path, ("inference", "planet-sequential"), keys, known_keys(PlanetPipeline))


def test_each_message_of_the_troubleshooting_page_is_one_of_ours() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    listed = re.findall(r"^`(.+)`\n: ", page, re.MULTILINE)
    assert len(listed) >= 15
    said = set(texts_of_the_code())
    for message in listed:
        pattern = re.compile(".*".join(map(re.escape, message.split("…"))))
        assert any(pattern.search(text) for text in said), message


def texts_of_the_code() -> Iterator[str]:
    """Give every text in the packages, with … where something is filled in."""
    for path in (ROOT / "packages").glob("*/src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value.replace("%s", "…")
