"""Processes that begin with all libraries imported, in which calls to the system can be made to fail or to be the last.

A server imports what may be forked (icechunk, which starts threads at import, is left out) and forks a child per call.
It runs under the fault injector, where that can be built.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[2].parent / "shared" / "tools" / "faultinject.c"
OPEN, WRITE, RENAME, FSYNC, UNLINK, MKDIR, FWRITE, LINK = (1 << bit for bit in range(8))
KILL = 0
"""In place of an error's number: the process is killed at that call."""


@dataclass(frozen=True)
class Fault:
    """What happens to calls of the system on a folder.

    Attributes:
        folder: Part of the path that counts.
        at: Number of the call, -1 for none.
        error: Number of the error that it fails with; 0 kills the process, below 0 sends that signal.
        sticky: Whether all later calls fail as well.
        mask: Kinds of calls that count.
        trace: File that gets a line per call.
    """

    folder: str
    at: int = -1
    error: int = KILL
    sticky: bool = False
    mask: int = 0xFFFFFFFF
    trace: str = ""


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        value: What the function returned, None where it did not.
        signal: Number of the signal that ended the process, 0 if none did.
        error: Traceback of what it raised.
    """

    value: Any
    signal: int
    error: str


class ForkServer:
    """Runs functions of modules in forked processes.

    Args:
        imports: Modules that are imported before the first fork.
        injector: The fault injector's library, None to go without.
    """

    def __init__(self, imports: list[str], injector: Path | None = None) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        if injector is not None:
            environment["LD_PRELOAD"] = str(injector)
        # The paths of this process, so that the modules of the tests are found.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-c", "from support.forkserver import serve; serve()", json.dumps(imports)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def call(self, function: str, *arguments: Any, fault: Fault | None = None, seconds: int = 60) -> Ended:
        """Call ``module:function`` with arguments that JSON can express, in a process of its own."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"function": function, "arguments": arguments, "fault": fault and vars(fault), "seconds": seconds}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


def build_injector(folder: Path) -> Path | None:
    """Compile the fault injector, where its source and a compiler are there."""
    compiler = shutil.which("cc")
    if compiler is None or not SOURCE.is_file() or sys.platform != "linux":
        return None
    library = folder / "faultinject.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def serve() -> None:
    """Answer requests from standard input until it ends."""
    for name in json.loads(sys.argv[1]):
        import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a child prints is no answer.
    for line in sys.stdin:
        with tempfile.NamedTemporaryFile("r", suffix=".json") as result:
            child = os.fork()
            if child == 0:
                _answer(json.loads(line), result.name)
            _, status = os.waitpid(child, 0)
            text = result.read()
        ended = json.loads(text) if text else {"value": None, "error": ""}
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        answers.write(json.dumps({"signal": number, **ended}) + "\n")
        answers.flush()


def _answer(request: dict[str, Any], result: str) -> None:
    signal.alarm(request["seconds"])
    value, error = None, ""
    module, name = request["function"].split(":")
    function = getattr(import_module(module), name)
    try:
        _inject(request["fault"])
        value = function(*request["arguments"])
    except BaseException:  # noqa: BLE001 - whatever it was is the answer
        error = traceback.format_exc()
    finally:
        _inject(None)
    Path(result).write_text(json.dumps({"value": value, "error": error}))
    os._exit(0)


def _inject(fault: dict[str, Any] | None) -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "fault_set"):
        return
    if fault is None:
        library.fault_set(b"", ctypes.c_long(-1), 0, 0, 0, -1)
        return
    trace = os.open(fault["trace"], os.O_WRONLY | os.O_CREAT) if fault["trace"] else -1
    library.fault_set(
        fault["folder"].encode(), ctypes.c_long(fault["at"]), fault["error"], fault["sticky"], fault["mask"], trace
    )
