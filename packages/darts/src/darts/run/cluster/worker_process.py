"""What dask-jobqueue starts in a job: ``python -m darts.run.cluster.worker_process ADDRESS --name …``."""

import argparse
from pathlib import Path

from dask.utils import parse_bytes

from darts.run.cluster.connection import SchedulerLocation
from darts.run.cluster.launch import serve_worker


def main(words: list[str] | None = None) -> None:
    """Be a worker, as the options of ``dask worker`` say that dask-jobqueue gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--name")
    parser.add_argument("--memory-limit", type=parse_bytes)
    parser.add_argument("--death-timeout", type=float, default=60.0)
    parser.add_argument("--lifetime", type=float)
    parser.add_argument("--host")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    for ignored in ("--nthreads", "--tls-ca-file", "--protocol", "--interface", "--local-directory"):
        parser.add_argument(ignored)
    given = parser.parse_args(words)
    serve_worker(
        SchedulerLocation(given.address, given.tls_cert, given.tls_key),
        name=given.name,
        memory=given.memory_limit,
        seconds=given.lifetime,
        host=given.host,
        patience=given.death_timeout,
    )


if __name__ == "__main__":
    main()
