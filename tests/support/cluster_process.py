"""The process that holds a cluster: its scheduler, and a nanny per worker; see :mod:`support.cluster`.

Workers are forked from a process that has imported everything which may be forked.
"""

import asyncio
import json
import sys
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


async def _serve(settings: dict[str, Any]) -> None:
    import dask
    from distributed import Nanny, Scheduler

    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver", **settings})
    nannies: dict[str, Any] = {}
    http = f"{LOOPBACK}:0"

    async def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["do"] == "add":
            nannies[asked["name"]] = await Nanny(
                scheduler.address,
                nthreads=1,
                name=asked["name"],
                host=LOOPBACK,
                dashboard=False,
                dashboard_address=http,
                preload=["support.cluster"],
                **asked["options"],
            )
        elif asked["do"] == "add lone":
            process = get_context("forkserver").Process(target=be_worker, args=(scheduler.address, asked["name"]))
            process.start()
            return {"pid": process.pid}
        elif asked["do"] == "remove":
            await nannies.pop(asked["name"]).close(timeout=5)
        elif asked["do"] == "coordinate":
            process = get_context("forkserver").Process(target=coordinate, args=(asked["folder"], asked["values"]))
            process.start()
            return {"pid": process.pid}
        known = [worker.name for worker in scheduler.workers.values()]
        ended = [name for name, nanny in nannies.items() if nanny.status.name in ("closed", "failed")]
        return {"pids": {name: nanny.pid for name, nanny in nannies.items()}, "known": known, "ended": ended}

    async with Scheduler(host=LOOPBACK, port=0, dashboard_address=http) as scheduler:
        print(json.dumps({"address": scheduler.address}), flush=True)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            print(json.dumps(await answer(json.loads(line))), flush=True)


def be_worker(address: str, name: str) -> None:
    """Be a worker without a nanny."""
    from distributed import Worker

    async def serve() -> None:
        http = f"{LOOPBACK}:0"
        async with Worker(address, nthreads=1, name=name, host=LOOPBACK, dashboard_address=http) as made:
            await made.finished()

    asyncio.run(serve())


def coordinate(folder: str, values: dict[str, Any]) -> None:
    """Run the stand-in, in a process that has imported everything."""
    from darts.run import run
    from support.cluster import open_session
    from support.standin import make_pipeline

    run(make_pipeline(Path(folder), **values), open_session)


def main() -> None:
    """Hold a cluster until the standard input ends."""
    get_context("forkserver").set_forkserver_preload(["distributed", "support.cluster", "support.cluster_imports"])
    forkserver.ensure_running()  # With these imports, whatever Dask would rather have.
    asyncio.run(_serve(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
