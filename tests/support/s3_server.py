"""Object storage on 127.0.0.1: moto's S3 server, and what boto3, icechunk and GDAL need to find it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.local_server import Answer, LocalServer, Request

KEYS = {"aws_access_key_id": "local-key", "aws_secret_access_key": "local-secret"}


@dataclass(frozen=True)
class S3Server:
    """A running server; `environment` is what a process needs to use it by ``s3://`` addresses."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            # GDAL: host without scheme, and how to reach it
            "AWS_S3_ENDPOINT": self.url.removeprefix("http://"),
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }

    def client(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **KEYS)

    def bucket(self, name: str) -> str:
        """Create a bucket and return its name."""
        self.client().create_bucket(Bucket=name)
        return name

    def upload(self, file: Path, bucket: str, key: str) -> str:
        """Upload a file and return its address."""
        self.client().upload_file(str(file), bucket, key)
        return f"s3://{bucket}/{key}"


@contextmanager
def serve_s3() -> Iterator[S3Server]:
    """Serve empty object storage until the block ends."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


@contextmanager
def environment_of(server: S3Server, *, keys: bool = True) -> Iterator[None]:
    """Let this process find the server as its object storage until the block ends, with or without keys."""
    absent = ["AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"]
    absent += [] if keys else ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        for name in absent:
            patch.delenv(name, raising=False)
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
        yield


@contextmanager
def storage_between(s3: S3Server) -> Iterator[LocalServer]:
    """Stand between boto3 and the storage until the block ends, so that faults can be injected into its answers."""
    from botocore.exceptions import ClientError

    client = s3.client()

    def forward(request: Request) -> Answer:
        bucket, _, key = request.path.lstrip("/").partition("/")
        span = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        try:
            answer = client.get_object(Bucket=bucket, Key=key, **span)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return Answer(f"<Error><Code>{code}</Code></Error>".encode(), status)
        return Answer(answer["Body"].read(), answer["ResponseMetadata"]["HTTPStatusCode"])

    with LocalServer(forward).running() as server:
        yield server
