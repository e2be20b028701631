"""Limits and requests that tests of wrong answers share."""

from darts_acquisition import RequestLimits, RetryPolicy
from darts_acquisition.io.stac import make_stac_io

TWICE = RetryPolicy(attempts=2, sleep=lambda seconds: None)
LIMITS = RequestLimits(timeout_s=0.3, retry=TWICE)
TRANSIENT = {
    "too many requests": {"status": 429},
    "too many requests, with a time": {"status": 429, "retry_after": "7"},
    "unavailable": {"status": 503},
    "server error": {"status": 500},
    "reset in the middle": {"reset_after": 700},
    "reset at once": {"reset_after": 0},
    "ends early": {"truncate_to": 700},
    "longer than announced": {"announce": 600},
    "shorter than announced": {"announce": 10**7},
    "slow": {"delay_s": 0.5},
}
"""Faults that pass, as a server on this machine is told to make them."""


def ask_search(url, folder, limits=LIMITS):
    return list(make_stac_io(limits).get_pages(f"{url}/search", "POST", {}))


def silence(server, connection, request):
    server.ended.wait()
