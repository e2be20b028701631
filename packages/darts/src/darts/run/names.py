"""Names that no other process has, of runs and of log files; and counts of things in words."""

import os
import re
import socket
from collections.abc import Iterator
from datetime import datetime
from itertools import count

_LONGEST_HOST = 40


def counted(number: int, noun: str) -> str:
    """Return a count with its noun.

    Examples:
        >>> counted(1, "tile"), counted(0, "tile"), counted(12, "scene")
        ('1 tile', '0 tiles', '12 scenes')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def process_names(time: datetime) -> Iterator[str]:
    """Yield names for what this process begins at a time, ``<time>-<host>-<pid>``, each different from those before.

    Containers on two machines may have one name and the same process numbers, so that who takes a name creates its file
    exclusively, and takes the next one where it is there.
    """
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname().partition(".")[0])[:_LONGEST_HOST].strip("-")
    stem = f"{time:%Y-%m-%d_%H-%M-%S}-{host or 'host'}-{os.getpid()}"
    yield stem
    yield from (f"{stem}-{number}" for number in count(2))
