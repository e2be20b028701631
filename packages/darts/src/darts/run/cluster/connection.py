"""How coordinator and workers find a scheduler and trust it: its file, which names a key and a certificate."""

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Security, rpc

from darts.errors import ConfigurationError
from darts_utils import atomic_path

logger = logging.getLogger(__name__)

FILE_SECONDS = 60.0
"""How long the file of a scheduler may take to appear."""
ANSWER_SECONDS = 5.0
"""A scheduler that has not answered for so long is taken for dead before its file is replaced."""

_POLL_SECONDS = 0.2
_LOOPBACK = ("127.", "[::1]", "localhost")
_TLS = "darts_tls"


@dataclass(frozen=True)
class SchedulerLocation:
    """Where a scheduler is to be found.

    Attributes:
        address: Its address, such as ``tls://10.0.0.1:8786``.
        certificate: File of the certificate that both sides show and trust; None without TLS.
        key: File of its private key.
        file: The file that says so; None where an option gave the address.
    """

    address: str
    certificate: Path | None = None
    key: Path | None = None
    file: Path | None = field(default=None, compare=False)

    @property
    def is_closed(self) -> bool:
        """Whether nobody else can talk to it: it has TLS, or is on the loopback interface."""
        host = self.address.partition("://")[2]
        return self.address.startswith("tls://") or host.startswith(_LOOPBACK) or self.address.startswith("inproc://")

    def silence(self, error: BaseException) -> str:
        """Say that it does not answer, in a sentence."""
        left = "" if self.file is None else f" {self.file} may be left over from one that was killed."
        return f"The scheduler at {self.address} does not answer ({first_cause(error)}).{left}"

    def security(self) -> Security | None:
        """Return what connects to it; None where Dask's own configuration shall say."""
        if self.certificate is None or self.key is None:
            return None
        return make_security(self.certificate, self.key)


def first_cause(error: BaseException) -> str:
    """Say what an error of Dask comes from, in its own words: those of the first cause that has any."""
    said = [str(error)]
    while error.__cause__ is not None:
        error = error.__cause__
        said.append(str(error))
    return next(filter(None, reversed(said)), "no reason is given").rstrip(".")


def make_security(certificate: Path, key: Path) -> Security:
    """Return settings of Dask under which both sides show and trust one certificate."""
    roles = ("client", "scheduler", "worker")
    files = {f"tls_{role}_{kind}": str(path) for role in roles for kind, path in (("cert", certificate), ("key", key))}
    return Security(require_encryption=True, tls_ca_file=str(certificate), **files)


def make_certificate(scheduler_file: Path) -> tuple[Path, Path]:
    """Make a certificate and its key beside the file of a scheduler; only their owner may read them."""
    made = Security.temporary()
    certificate, key = (scheduler_file.with_name(f"{scheduler_file.name}.{kind}.pem") for kind in ("cert", "key"))
    write_secret(certificate, str(made.tls_ca_file))
    write_secret(key, str(made.tls_scheduler_key))
    return certificate, key


def write_secret(path: Path, text: str) -> None:
    """Write a file, whole or not at all, that only its owner may read (mode 600)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as draft:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def write_scheduler_file(path: Path, location: SchedulerLocation, identity: dict[str, object]) -> None:
    """Write the file by which coordinator and workers find a scheduler; any tool of Dask can read it.

    Raises:
        ConfigurationError: If it could be reached from other machines without TLS.
    """
    if not location.is_closed:
        raise ConfigurationError(
            f"The scheduler listens on {location.address} without TLS, where anybody could run code; expected tls://."
        )
    files = {"certificate": location.certificate, "key": location.key}
    tls = {name: str(file.absolute()) for name, file in files.items() if file is not None}
    content = {"type": "Scheduler", "id": identity.get("id"), "address": location.address, "workers": {}, _TLS: tls}
    write_secret(path, json.dumps(content, indent=2) + "\n")


def find_scheduler(scheduler_file: Path | None, address: str | None, seconds: float | None = None) -> SchedulerLocation:
    """Find a scheduler by its file or its address; a file that is not there yet is waited for.

    Args:
        scheduler_file: Its file, written by DARTS or by Dask.
        address: Its address, where there is no file.
        seconds: How long to wait for the file; default :data:`FILE_SECONDS`.

    Returns:
        Where it is.

    Raises:
        ConfigurationError: If there is no file in time, or it holds something else.
    """
    if scheduler_file is None:
        return SchedulerLocation(address or "")
    content = _wait_for(scheduler_file, FILE_SECONDS if seconds is None else seconds)
    found = content.get("address")
    if not isinstance(found, str) or "://" not in found:
        raise ConfigurationError(f"{scheduler_file} names no address of a scheduler; correct --scheduler-file.")
    tls = content.get(_TLS)
    files = {name: Path(str(path)) for name, path in tls.items()} if isinstance(tls, dict) else {}
    return SchedulerLocation(found, files.get("certificate"), files.get("key"), scheduler_file)


async def refuse_taken(scheduler_file: Path) -> None:
    """Leave the file of a scheduler that answers alone; one that is left over may be replaced.

    Raises:
        ConfigurationError: If a scheduler answers where the file says, or the file is none of a scheduler.
    """
    if not scheduler_file.exists():
        return
    try:
        location = find_scheduler(scheduler_file, None, 0)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{scheduler_file} is no file of a scheduler, and is left as it is; name another --scheduler-file."
        ) from error
    try:
        security = location.security()
        arguments = None if security is None else security.get_connection_args("client")
        async with rpc(location.address, connection_args=arguments) as scheduler:
            await asyncio.wait_for(scheduler.identity(n_workers=0), ANSWER_SECONDS)
    except Exception as error:  # Whatever is there now is no scheduler of this file.
        logger.info("%s is replaced: the scheduler at %s does not answer.", scheduler_file, location.address)
        logger.debug("It does not answer.", exc_info=error)
        return
    raise ConfigurationError(
        f"A scheduler answers at {location.address} of {scheduler_file} already. End it, or name another "
        "--scheduler-file."
    )


def _wait_for(path: Path, seconds: float) -> dict[str, object]:
    deadline = time.monotonic() + seconds
    if not path.exists():
        logger.info("Waiting up to %.0f s for a scheduler to write %s.", seconds, path)
    while True:
        try:
            content = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            problem, cause = "it did not appear", error
        except (OSError, ValueError) as error:
            # Dask writes its own in place, so that it may be half-written.
            problem, cause = f"it cannot be read ({error})", error  # type: ignore[assignment]
        else:
            if isinstance(content, dict):
                return content
            raise ConfigurationError(f"{path} is no file of a scheduler; correct --scheduler-file.")
        if time.monotonic() >= deadline:
            raise ConfigurationError(
                f"There is no scheduler at {path}: {problem} within {seconds:.0f} s. Start one with `darts cluster`, "
                "or correct --scheduler-file."
            ) from cause
        time.sleep(_POLL_SECONDS)
