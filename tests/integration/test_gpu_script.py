"""gpu.sh: its budget of time, its report after each step, and all of it but the device."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "scripts"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu", FOLDER / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    return module


def python(gpu: ModuleType, name: str, code: str, most_s: float = 20) -> object:
    return gpu.Step(name, (sys.executable, "-I", "-S", "-c", code), most_s, (("SEEN", name),))


def test_the_report_is_written_after_each_step_whatever_became_of_it(gpu, tmp_path, monkeypatch, capsys):
    report = tmp_path / "report.md"
    see = "import os; print('this is', os.environ['SEEN'])"
    reread = f"print(open({str(report)!r}).read())"
    steps = [
        python(gpu, "good", see),
        python(gpu, "bad", "print('half'); raise SystemExit(3)"),
        python(gpu, "slow", "import time; print('begun', flush=True); time.sleep(60)", most_s=0.7),
        python(gpu, "read", reread),
    ]
    assert gpu.run_steps(steps, report, budget_s=60) == 1
    text = report.read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ") and "`" not in line]
    assert [line.split(" (")[0] for line in titles[:3]] == [
        "## good: ok",
        "## bad: exit code 3",
        "## slow: stopped after 1 s",
    ]
    assert "this is good" in text
    assert "half" in text
    assert "begun" in text
    assert text.count("## good: ok") == 2  # the last step found what was written before it
    assert "good: ok" in capsys.readouterr().out


def test_no_step_begins_beyond_the_budget(gpu, tmp_path):
    times = iter([0, 1, 1, 500, 599, 599, 599, 601])
    steps = [python(gpu, name, "pass") for name in ("first", "second", "third")]
    assert gpu.run_steps(steps, tmp_path / "report.md", budget_s=600, clock=lambda: next(times)) == 1
    text = (tmp_path / "report.md").read_text()
    assert "## first: ok (499 s)" in text
    assert "## second: ok (0 s)" in text
    assert "## third: not run: no time left" in text


def test_each_step_has_its_share_of_ten_minutes_and_a_check_needs_no_device(gpu):
    for check in (False, True):
        steps = gpu.steps(check=check, size=300)
        assert sum(step.most_s for step in steps) <= 1.35 * gpu.BUDGET_S
        devices = {step.command[step.command.index("--device") + 1] for step in steps if "--device" in step.command}
        assert devices == {"cpu" if check else "cuda"}
    (marked,) = [step for step in gpu.steps(check=False, size=300) if dict(step.environment)]
    assert dict(marked.environment) == {"DARTS_REQUIRE_GPU": "1"}
    assert "-m" in marked.command
    assert "gpu" in marked.command


@pytest.mark.slow
def test_a_skipped_test_of_the_gpu_fails_where_one_is_required(pytester_like):
    code, said = pytester_like({"DARTS_REQUIRE_GPU": "1"})
    assert code == 1
    assert "1 failed, 1 skipped" in said
    assert "DARTS_REQUIRE_GPU is 1, and this was skipped" in said
    code, said = pytester_like({})
    assert code == 0
    assert "2 skipped" in said


@pytest.fixture
def pytester_like(tmp_path):
    """Runs two tests that are skipped, one of them marked gpu, under the configuration of this repository."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.gpu\ndef test_a(): pytest.skip('no device')\ndef test_b(): pytest.skip('no')\n"
    )
    plain = ["-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", "--rootdir", str(tmp_path), "-q"]

    def run(environment):
        command = [sys.executable, "-m", "pytest", "--disable-plugin-autoload", *plain, str(tmp_path)]
        given = {"cwd": tmp_path, "env": os.environ | environment}
        done = subprocess.run(command, capture_output=True, text=True, check=False, **given)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.slow
def test_everything_but_the_device(tmp_path):
    report = tmp_path / "report.md"
    command = [str(FOLDER / "gpu.sh"), "--check", "--report", str(report), "--size", "200"]
    environment = os.environ | {"DARTS_GPU_PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    text = report.read_text()
    assert done.returncode == 0, text
    assert text.count(": ok (") == 8
    assert re.search(r"ratio to the bare network: [0-9.]+\nshare of time that the GPU computes: not known", text)
    assert "brought back relative_elevation: 0, 0 px missing in one only" in text
