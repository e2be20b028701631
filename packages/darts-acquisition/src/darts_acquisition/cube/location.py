"""Where an Icechunk repository lies: in a folder, or in object storage."""

import contextlib
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darts_acquisition.io.s3 import find_credentials, make_s3_client
from darts_acquisition.io.settings import RequestLimits, S3Settings
from darts_utils import ParameterError

if TYPE_CHECKING:
    import icechunk


@dataclass(frozen=True)
class Location:
    """Where a repository lies: in a folder, or (`folder` is None) under a prefix of a bucket of an object storage."""

    folder: Path | None
    bucket: str = ""
    prefix: str = ""
    s3: S3Settings = field(default_factory=S3Settings)

    @classmethod
    def parse(cls, path: "str | os.PathLike[str]", s3: S3Settings | None = None) -> "Location":
        """Understand a path: a folder, or ``s3://bucket/prefix``.

        Raises:
            ParameterError: If it is an address of another kind, or one without a bucket or a prefix.
        """
        text = os.fspath(path)
        if "://" not in text:
            return cls(Path(text).expanduser().absolute())
        parts = urlsplit(text)
        prefix = parts.path.strip("/")
        if parts.scheme != "s3" or not parts.netloc or not prefix:
            raise ParameterError(f"{text} is no address of a datacube; expected a folder, or s3://bucket/prefix.")
        return cls(None, parts.netloc, prefix, s3 or S3Settings())

    def __str__(self) -> str:
        return str(self.folder) if self.folder is not None else f"s3://{self.bucket}/{self.prefix}"

    def storage(self) -> "icechunk.Storage":
        """Return what icechunk reads and writes with."""
        import icechunk

        if self.folder is not None:
            return icechunk.local_filesystem_storage(str(self.folder))
        endpoint = self.s3.endpoint
        return icechunk.s3_storage(
            bucket=self.bucket,
            prefix=self.prefix,
            region=self.s3.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint,
            allow_http=endpoint is not None and endpoint.startswith("http://"),
            force_path_style=endpoint is not None,
            **self._credentials(),
        )

    def stored_bytes(self) -> int:
        """Return how many bytes lie there."""
        if self.folder is not None:
            total = 0
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    with contextlib.suppress(FileNotFoundError):  # Another process has replaced it in the meantime.
                        total += (Path(folder) / name).stat().st_size
            return total
        pages = make_s3_client(self.s3, RequestLimits()).get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
        return sum(each["Size"] for page in found for each in page.get("Contents", []))

    def _credentials(self) -> dict[str, Any]:
        if self.s3.anonymous:
            return {"anonymous": True}
        if self.s3.profile is None:
            return {"from_env": True}
        _profile_credentials(self.s3.profile)  # What is wrong with it is said here, and not by icechunk later.
        return {"get_credentials": partial(_profile_credentials, self.s3.profile)}


def _profile_credentials(profile: str) -> Any:
    """Return the keys of an AWS profile as icechunk wants them."""
    import icechunk

    keys = find_credentials(S3Settings(profile=profile)).get_frozen_credentials()
    return icechunk.S3StaticCredentials(keys.access_key, keys.secret_key, keys.token, expires_after=None)
