"""Messages that may be published: without what names the machine."""

import platform
import re
from collections.abc import Sequence

_ABSOLUTE = re.compile(r"""(?:(?<![A-Za-z0-9])[A-Za-z]:[\\/]|(?<![\w./\\:])/)[^\s'"<>|,;()]*[\\/][^\s'"<>|,;()\\/]+""")


def without_places(text: str, known: Sequence[str] = ()) -> str:
    r"""Return a message without what names the machine: of a path, only the last part is left.

    Args:
        text: The message.
        known: Paths that may hold spaces, and so would not be recognised whole.

    Returns:
        The message.

    Examples:
        >>> without_places("/home/ann/scenes/a_SR.tif is damaged, see https://example.org/a/b.")
        '…/a_SR.tif is damaged, see https://example.org/a/b.'
        >>> without_places("'D:/my maps/b.tif' is damaged", ["D:/my maps"])
        "'…/b.tif' is damaged"
    """
    for path in sorted(known, key=len, reverse=True):
        text = re.sub(re.escape(path) + r"[\\/]*", "…/", text)
    text = _ABSOLUTE.sub(lambda found: "…/" + re.split(r"[\\/]", found[0])[-1], text).replace("……/", "…/")
    host = platform.node()
    return text.replace(host, "this machine") if len(host) > 3 else text
