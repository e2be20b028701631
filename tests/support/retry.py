"""What tests of retries share."""

import requests


class Naps(list):
    """Stands in for `time.sleep`, and keeps what it was asked for."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetch(server, timeout=5):
    def request() -> bytes:
        answer = requests.get(server.url + "/file", timeout=timeout)
        answer.raise_for_status()
        return answer.content

    return request
