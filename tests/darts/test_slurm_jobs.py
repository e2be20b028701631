"""Jobs of Slurm that are refused, wait, end and are replaced, with stand-ins for its commands."""

import asyncio
import logging
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from darts.cli import run_command
from darts.run.cluster import slurm
from darts.run.cluster.slurm import JobKeeper, SlurmJobs
from support.commands import logging_restored

_COMMANDS = {
    "sbatch": """
if [ -e {folder}/refusal ]; then cat {folder}/refusal >&2; exit 1; fi
number=$(($(wc -l < {folder}/jobs) + 1))
echo "$number|PENDING|PartitionConfig|" >> {folder}/jobs
echo "Submitted batch job $number"
""",
    "squeue": "cat {folder}/jobs",
    "scancel": 'sed -i "s/^$1|[A-Z]*/$1|CANCELLED/" {folder}/jobs',
}


class _Workers(dict[str, SimpleNamespace]):
    """The workers of a scheduler, which count how often they were looked at."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()


@pytest.fixture
def slurm_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-ins keep their jobs, a line each, as squeue shows them; `refusal` is what sbatch says."""
    folder = tmp_path / "slurm"
    (folder / "bin").mkdir(parents=True)
    (folder / "jobs").touch()
    for name, body in _COMMANDS.items():
        (folder / "bin" / name).write_text("#!/bin/sh\n" + body.replace("{folder}", str(folder)))
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.05)
    return folder


_REFUSALS = {
    "sbatch: error: invalid partition specified: gpu\nsbatch: error: Batch job submission failed: Invalid partition "
    "name specified\n": "Slurm refuses the jobs: invalid partition specified: gpu. Correct --partition.",
    "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n": (
        "Slurm refuses the jobs: Batch job submission failed: Invalid account or account/partition combination "
        "specified. Correct --account or --partition."
    ),
    "sbatch: error: Batch job submission failed: Invalid qos specification\n": (
        "Slurm refuses the jobs: Batch job submission failed: Invalid qos specification. Correct --account, or "
        "--directive=--qos=…."
    ),
    "sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job submission failed: Requested "
    "node configuration is not available\n": (
        "Slurm refuses the jobs: Memory specification can not be satisfied. Correct --mem."
    ),
}


@pytest.mark.parametrize(("said", "told"), _REFUSALS.items(), ids=["partition", "account", "qos", "memory"])
def test_why_slurm_refuses_a_job_is_a_sentence(said: str, told: str) -> None:
    text = f"Command exited with non-zero exit code.\nExit code: 1\nCommand:\nsbatch\nstdout:\n\nstderr:\n{said}\n"
    assert f"Slurm refuses the jobs: {slurm._refusal(text)}" == told


def test_refused_jobs_end_the_command(
    slurm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (slurm_folder / "refusal").write_text(next(iter(_REFUSALS)))
    monkeypatch.chdir(tmp_path)
    words = ["--jobs", "1", "--partition", "gpu", "--host", "127.0.0.1"]
    monkeypatch.setattr(sys, "argv", ["darts", "cluster", "slurm", *words])
    with logging_restored(), pytest.raises(SystemExit) as ended:
        run_command()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.splitlines() == ["Error: " + next(iter(_REFUSALS.values()))]
    assert not [*tmp_path.glob("scheduler.json*")]


def test_each_job_is_told_of_and_another_follows(
    slurm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "darts")
    from dask_jobqueue.slurm import SLURMJob

    jobs = SlurmJobs(2, logs=tmp_path / "logs")
    make = partial(SLURMJob, "tls://127.0.0.1:9", **jobs.options("127.0.0.1"))
    events: list[str] = []
    scheduler = SimpleNamespace(workers=_Workers(), log_event=lambda _, text: events.append(text))
    table = slurm_folder / "jobs"

    def become(number: int, state: str, reason: str = "None", node: str = "") -> None:
        lines = table.read_text().splitlines()
        lines[number - 1] = f"{number}|{state}|{reason}|{node}"
        table.write_text("\n".join([*lines, ""]))

    async def until(text: str) -> None:
        deadline = asyncio.get_running_loop().time() + 20
        while text not in caplog.text:
            assert asyncio.get_running_loop().time() < deadline, text
            await asyncio.sleep(0.02)

    async def go() -> None:
        ended = asyncio.Event()
        keeping = asyncio.create_task(JobKeeper(scheduler, jobs, make).keep(ended))
        await until("Job 2 is submitted, 2 of 2.")
        monkeypatch.setattr(slurm, "_PAUSE_SECONDS", 0.0)
        await until("No worker yet: 2 jobs in Slurm (PartitionConfig).")
        become(1, "RUNNING", node="node7")
        await until("Job 1 is running on node7.")
        looks = scheduler.workers.looks
        scheduler.workers["a"] = SimpleNamespace(name="0")
        while scheduler.workers.looks == looks:
            await asyncio.sleep(0.02)
        del scheduler.workers["a"]
        become(1, "TIMEOUT")
        await until("Job 1 has ended (TIMEOUT); another follows.")
        await until("Job 3 is submitted, 2 of 2.")
        become(2, "FAILED")
        await until("Job 2 has ended (FAILED) before its worker came")
        await until(f"Its output: {tmp_path / 'logs' / 'darts-worker-2.err'}")
        await until("Job 4 is submitted, 2 of 2.")
        (slurm_folder / "bin" / "squeue").rename(slurm_folder / "squeue")
        (slurm_folder / "bin" / "squeue").write_text(
            "#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n"
        )
        (slurm_folder / "bin" / "squeue").chmod(0o755)
        await until("Slurm does not say what becomes of the jobs: Unable to contact slurm controller")
        (slurm_folder / "squeue").rename(slurm_folder / "bin" / "squeue")
        (slurm_folder / "refusal").write_text("sbatch: error: QOSMaxSubmitJobPerUserLimit\n")
        become(3, "RUNNING", node="node7")
        become(3, "COMPLETED")
        await until("Slurm refuses a further job, and is asked again in a minute: QOSMaxSubmitJobPerUserLimit.")
        ended.set()
        await asyncio.wait_for(keeping, 20)

    asyncio.run(go())
    assert events[0] == "No worker yet: 2 jobs in Slurm (PartitionConfig)."
    states = [line.split("|")[1] for line in table.read_text().splitlines()]
    assert states == ["TIMEOUT", "FAILED", "COMPLETED", "CANCELLED"]
