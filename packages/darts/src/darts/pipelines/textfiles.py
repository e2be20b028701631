"""Read text files as people's systems write them: UTF-8 with or without a byte order mark, any line ends."""

from pathlib import Path

from darts.errors import ConfigurationError

_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SAVE_AGAIN = "Save it with the encoding UTF-8."


def read_text(path: Path) -> str:
    """Read a text file in UTF-8; a byte order mark is left out and every line end becomes a line feed.

    Raises:
        FileNotFoundError: If there is no such file.
        ConfigurationError: If it cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content.startswith(_WIDE_MARKS) or b"\0" in content:
        raise ConfigurationError(f"{path} is UTF-16, or no text at all; expected UTF-8. {_SAVE_AGAIN}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{path} is not UTF-8: line {line} holds the byte 0x{content[error.start]:02X}. {_SAVE_AGAIN}"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
