"""Units that a variable declares itself to be in, where it is taken for another one."""

import re
from collections.abc import Mapping

import numpy as np

from darts_utils.bands import get_band
from darts_utils.errors import UnknownBandError, ValueRangeError

_FOOT = 0.3048
_FACTORS: Mapping[str, Mapping[str, float]] = {
    "m": {
        **dict.fromkeys(("ft", "foot", "feet", "international foot", "international feet"), _FOOT),
        **dict.fromkeys(("us-ft", "ftus", "us survey foot", "us survey feet", "foot_us"), 1200 / 3937),
        **{f"{sign}m": factor for sign, factor in (("k", 1e3), ("d", 0.1), ("c", 0.01), ("m", 1e-3))},
        **{f"{word}metre": factor for word, factor in (("kilo", 1e3), ("deci", 0.1), ("centi", 0.01), ("milli", 1e-3))},
        **dict.fromkeys(("yd", "yard"), 0.9144),
        **dict.fromkeys(("mi", "mile"), 1609.344),
    },
    "1": dict.fromkeys(("%", "percent", "per cent", "pct"), 0.01),
    "degree": {**dict.fromkeys(("rad", "radian"), 57.29577951308232), **dict.fromkeys(("gon", "grad"), 0.9)},
}
"""Other units of a quantity in which people store it, by the unit of the band table, and what they are times that."""


_ENCODING = {"scale_factor": 1, "add_offset": 0}
"""Attributes of values that are encoded, and what they are of values that are not."""


def check_units(name: str, attrs: Mapping[str, object], *, taker: str) -> None:
    """Refuse a band that declares to be in another unit than the band table says, or that its values are encoded.

    Args:
        name: Name of the band; of one that the band table does not know, the unit passes.
        attrs: Its attributes. Without ``units``, or with what is not clearly another unit, it passes.
        taker: Who takes the band, for the message.

    Raises:
        ValueRangeError: If ``units`` names another unit, as "ft" of an elevation or "%" of a reflectance; or if
            ``scale_factor`` or ``add_offset`` are there and not 1 or 0, as rioxarray leaves them with values that it
            has read as they are stored.

    Examples:
        >>> check_units("dem", {"units": "metres"}, taker="preprocessing")
        >>> check_units("dem", {"units": "km"}, taker="preprocessing")
        Traceback (most recent call last):
            ...
        darts_utils.errors.ValueRangeError: Band 'dem' is in 'km' according to its attribute units, but preprocessing \
takes 'm'; multiply it by 1000 and say so first (`(band * 1000).assign_attrs(units='m')`).
    """
    _check_decoded(name, attrs, taker)
    given = attrs.get("units")
    if not isinstance(given, str):
        return
    try:
        unit = get_band(name).units
    except UnknownBandError:
        return
    word = re.sub(r"\s+", " ", given.strip().lower()).replace("meter", "metre")
    factors = _FACTORS.get(unit or "", {})
    words = word, word.removesuffix("s")
    factor = next((factors[each] for each in words if each in factors), None)
    said = f"Band {name!r} is in {given!r} according to its attribute units, but {taker} takes {unit!r}"
    if factor is not None:
        raise ValueRangeError(
            f"{said}; multiply it by {factor:.10g} and say so first "
            f"(`(band * {factor:.10g}).assign_attrs(units={unit!r})`)."
        )
    if unit is not None and any(each in table for each in words for table in _FACTORS.values()):
        raise ValueRangeError(f"{said}, another quantity; bring it into that unit and say so first.")


def _check_decoded(name: str, attrs: Mapping[str, object], taker: str) -> None:
    scale, offset = (
        value if isinstance(value := attrs.get(key), int | float | np.number) else none
        for key, none in _ENCODING.items()
    )
    if (scale, offset) != tuple(_ENCODING.values()):
        raise ValueRangeError(
            f"Band {name!r} holds values as they are stored, according to its attributes scale_factor {scale:g} and "
            f"add_offset {offset:g}, but {taker} takes what they stand for: read the file with mask_and_scale=True, or "
            f"`(band * {scale:.10g} + {offset:.10g}).assign_attrs(scale_factor=1, add_offset=0)`; where they are that "
            "already, the latter alone."
        )
