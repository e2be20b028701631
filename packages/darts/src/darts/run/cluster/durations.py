"""Times of jobs, as Slurm and people write them."""

from darts.errors import ConfigurationError


def lifetime(walltime: float) -> float:
    """Return after how many seconds a job of so many begins no further tile, so that it ends between two.

    Examples:
        >>> lifetime(4 * 3600), lifetime(60)
        (12960.0, 40.0)
    """
    return walltime - min(max(walltime / 10, 60), walltime / 3)


def parse_duration(text: str) -> float:
    """Return the seconds of a time as Slurm writes it, or with units.

    Examples:
        >>> parse_duration("4h"), parse_duration("1-00:00:00"), parse_duration("02:30"), parse_duration("90")
        (14400.0, 86400.0, 150.0, 5400.0)

    Raises:
        ConfigurationError: If it is something else.
    """
    units = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
    days, dash, rest = text.strip().rpartition("-")
    try:
        whole_days = int(days) if dash else 0
        number, unit = rest.rstrip("smindh"), rest[len(rest.rstrip("smindh")) :]
        if unit:
            seconds = float(number) * units[unit]
        else:
            parts = [float(part) for part in rest.split(":")]
            while days and len(parts) < 3:  # With days, hours come first.
                parts.append(0.0)
            weights = {1: [60], 2: [60, 1], 3: [3600, 60, 1]}[len(parts)]
            seconds = sum(part * weight for part, weight in zip(parts, weights, strict=True))
        seconds += 86400 * whole_days
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"The walltime is {text!r}; expected for example 4h, 04:00:00 or minutes.") from error
    if seconds <= 0:
        raise ConfigurationError(f"The walltime is {text!r}; expected more than nothing.")
    return seconds
