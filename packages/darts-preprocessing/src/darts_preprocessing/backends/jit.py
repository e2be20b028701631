"""How the kernels of the CPU are compiled, and how blocks of work are spread over its cores."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba

from darts_utils import usable_cpus

Result = TypeVar("Result")
Block = TypeVar("Block")


def jit(kernel: Callable[..., Result]) -> Callable[..., Result]:
    """Compile a kernel when it is first called, to run without the interpreter's lock.

    The machine code is kept on disk (beside the source, or in numba's folder of the user) for the next process; where
    neither can be written, each process compiles anew. A product and a sum may be fused ("contract"): that rounds once
    instead of twice, and is the only liberty that the compiler has with the arithmetic.
    """
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})(kernel)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})(kernel)


def run_blocks(work: Callable[[Block], None], blocks: Iterable[Block]) -> None:
    """Do independent pieces of work on all cores that this process may use (or ``NUMBA_NUM_THREADS``).

    The kernels run in plain threads of their own rather than in numba's: several callers may do so at the same time,
    whatever threading layer numba finds, and nothing is left behind that a fork could stumble over.
    """
    blocks = list(blocks)
    asked, default = numba.config.NUMBA_NUM_THREADS, numba.config.NUMBA_DEFAULT_NUM_THREADS  # type: ignore[attr-defined]
    workers = min(usable_cpus() if asked == default else asked, len(blocks))
    if workers <= 1:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="darts-preprocessing") as pool:
        for _ in pool.map(work, blocks):  # asks for each result, so that an error surfaces
            pass
