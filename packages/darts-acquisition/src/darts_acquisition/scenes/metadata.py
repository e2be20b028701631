"""What the metadata of all sources say in the same way: angles, times, and tiles."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from darts_acquisition.errors import SceneError


def read_angle(values: Mapping[str, Any], name: str, low: float, high: float, where: str) -> float | None:
    """Return an angle in degrees, None where there is none; SceneError if it cannot be. `where` is for the message."""
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SceneError(f"{where}: {name} is {value!r}; expected degrees, {low} to {high}.")
    return float(value)


def read_time(text: Any, where: str, name: str = "datetime") -> datetime:
    """Read a time, in UTC where it does not say; SceneError if it is none."""
    try:
        timestamp = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise SceneError(f"{where}: {name} is {text!r}; expected a time as ISO 8601.") from error
    return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)


def in_utc(timestamp: datetime) -> str:
    """Write a time in UTC as ISO 8601."""
    return timestamp.isoformat().replace("+00:00", "Z")
