"""A Slurm of one node on the loopback interface, with daemons of its own: controller, node, and munge between them."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_PACKAGES = ("slurm-wlm", "munge")
_CONFIGURATION = """
ClusterName=darts
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
ReturnToService=2
KillWait=20
MinJobAge=10
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=12000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
_GPUS = "NodeName={host} Name=gpu File=/dev/null\nNodeName={host} Name=gpu File=/dev/zero\n"
"""Device nodes that everybody has stand in for GPUs."""


GOING = "PENDING,RUNNING,SIGNALING,COMPLETING"
"""States of jobs that have not ended; one that is just being sent a signal is in none of the others."""


@dataclass(frozen=True)
class Slurm:
    """A Slurm that runs.

    Attributes:
        environment: What its commands need to find it.
    """

    environment: dict[str, str]

    def call(self, *command: str) -> str:
        """Run one of its commands, and return what it says."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def jobs(self, state: str = "RUNNING") -> list[str]:
        """Return the numbers of the jobs in a state."""
        return self.call("squeue", "--noheader", "--format=%i", f"--states={state}").split()


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Have a Slurm until the block ends; the test is skipped, with the reason, where there can be none."""
    _install()
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(host=host, folder=folder, ports=_free_ports(2)))
    (folder / "gres.conf").write_text(_GPUS.format(host=host))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    slurm = Slurm(os.environ | {"SLURM_CONF": str(folder / "slurm.conf")})
    files = {"key-file": key, "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    files |= {"seed-file": "munge.seed"}
    munge = ["munged", "--foreground", "--force", *(f"--{name}={folder / file}" for name, file in files.items())]
    with ExitStack() as held:
        held.enter_context(_daemon(munge, slurm))
        _wait(lambda: (folder / "munge.socket").exists(), folder / "munge.log")
        held.enter_context(_daemon(["slurmctld", "-D"], slurm))
        held.enter_context(_daemon(["slurmd", "-D", "-N", host], slurm))
        _wait(lambda: "idle" in _state(slurm), folder / "slurmd.log")
        try:
            yield slurm
        finally:
            subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], env=slurm.environment, check=False)
            subprocess.run(["scancel", "--user=root"], env=slurm.environment, check=False)


def _install() -> None:
    if os.geteuid() != 0:
        pytest.skip("no Slurm: its daemons are started as root here")
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is not None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update"], check=False, **quiet)  # type: ignore[call-overload]
        install = ["apt-get", "install", "-y", "--no-install-recommends", *_PACKAGES]
        subprocess.run(install, check=False, **quiet)  # type: ignore[call-overload]
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no Slurm: {', '.join(missing)} not found, and {' '.join(_PACKAGES)} cannot be installed")


@contextmanager
def _daemon(command: list[str], slurm: Slurm) -> Iterator[None]:
    with subprocess.Popen(
        command, env=slurm.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _state(slurm: Slurm) -> str:
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%t"], env=slurm.environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def _wait(condition: Callable[[], bool], log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.skip(f"no Slurm: it does not start here; {log.name} ends with {_last_line(log)!r}")
        time.sleep(0.2)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else ""


def _free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    try:
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]
    finally:
        for each in found:
            each.close()
