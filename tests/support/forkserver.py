"""Processes that begin with all libraries imported, in which calls to the system can be made to fail or to be the last.

A server imports what may be forked (icechunk, which starts threads at import, is left out), does once what every child
would have to do, and forks a child per call. It runs under the fault injector, where that can be built.
"""

import ctypes
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

SOURCE = Path(__file__).resolve().parents[2].parent / "shared" / "tools" / "faultinject.c"
OPEN, WRITE, RENAME, FSYNC, UNLINK, MKDIR, FWRITE, LINK = (1 << bit for bit in range(8))
FORKABLE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "GDAL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Variables of the environment with which importing starts no thread: what it may hold at a fork is never let go."""

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
        prepare: Function without arguments, ``module:function``, that the server calls before the first fork.
    """

    def __init__(self, imports: list[str], injector: Path | None = None, prepare: str = "") -> None:
        environment = os.environ | FORKABLE
        if injector is not None:
            environment["LD_PRELOAD"] = str(injector)
        # The paths of this process, so that the modules of the tests are found.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-c", "from support.forkserver import serve; serve()", json.dumps(imports), prepare]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def call(self, function: str, *arguments: Any, fault: Fault | None = None, seconds: int = 60) -> Ended:
        """Call ``module:function`` in a process of its own.

        Args:
            function: Module and function.
            arguments: Anything that JSON can express.
            fault: What happens to the calls of the system that the function makes.
            seconds: After so many the process is ended by SIGALRM.

        Raises:
            RuntimeError: If the server has died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"function": function, "arguments": arguments, "fault": fault and vars(fault), "seconds": seconds}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError(f"The fork server ended with {self._process.wait()}.") from error
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The fork server ended with {self._process.wait()}.")
        return Ended(**json.loads(answer))

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
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
    if sys.argv[2]:
        _function(sys.argv[2])()
    gc.collect()
    gc.freeze()  # So that children do not copy all objects only to look at them.
    for line in sys.stdin:
        with tempfile.NamedTemporaryFile("r", suffix=".json") as result:
            child = os.fork()
            if child == 0:
                _answer(line, result.name)
            _, status = os.waitpid(child, 0)
            text = result.read()
        ended = json.loads(text) if text else {"value": None, "error": ""}
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        answers.write(json.dumps({"signal": number, **ended}) + "\n")
        answers.flush()


def _answer(line: str, result: str) -> NoReturn:
    """Do what was asked for in a child, which never returns into the loop of the server."""
    try:
        request = json.loads(line)
        signal.alarm(request["seconds"])
        value, error = None, ""
        function = _function(request["function"])
        try:
            _inject(request["fault"])
            value = function(*request["arguments"])
        except BaseException:  # noqa: BLE001 - whatever it was is the answer
            error = traceback.format_exc()
        finally:
            _inject(None)
        Path(result).write_text(json.dumps({"value": value, "error": error}))
    except BaseException:  # noqa: BLE001 - what was asked for cannot be done or answered
        Path(result).write_text(json.dumps({"value": None, "error": traceback.format_exc()}))
    finally:
        os._exit(0)


def _function(name: str) -> Callable[..., Any]:
    module, name = name.split(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _inject(fault: dict[str, Any] | None) -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "fault_set"):
        if fault is not None:
            raise RuntimeError("The fork server runs without the fault injector.")
        return
    if fault is None:
        library.fault_set(b"", ctypes.c_long(-1), 0, 0, 0, -1)
        return
    trace = os.open(fault["trace"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if fault["trace"] else -1
    library.fault_set(
        fault["folder"].encode(),
        ctypes.c_long(fault["at"]),
        fault["error"],
        fault["sticky"],
        ctypes.c_uint(fault["mask"]),
        trace,
    )
