"""Limits and requests that tests of wrong answers share."""

from darts_acquisition import RequestLimits, RetryPolicy
from darts_acquisition.io.stac import make_stac_io

TWICE = RetryPolicy(attempts=2, sleep=lambda seconds: None)


LIMITS = RequestLimits(timeout_s=0.3, retry=TWICE)


def ask_search(url, folder, limits=LIMITS):
    return list(make_stac_io(limits).get_pages(f"{url}/search", "POST", {}))


def silence(server, connection, request):
    server.ended.wait()
