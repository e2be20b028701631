"""The names of PlanetScope folders."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_acquisition import SceneNameError, parse_planet_type
from darts_acquisition.planet.delivery import parse_planet_name
from darts_utils import DartsError

HEX = st.text("0123456789abcdef", min_size=4, max_size=4)
TIMES = st.integers(1_230_768_000, 2_208_988_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(taken=TIMES, hundredths=st.none() | st.integers(0, 99), satellite=HEX)
def test_scene_name_gives_the_time_it_was_made_of(taken, hundredths, satellite):
    middle = "" if hundredths is None else f"_{hundredths:02d}"
    name = f"{taken:%Y%m%d_%H%M%S}{middle}_{satellite}"
    assert parse_planet_type(Path("/data") / name) == "scene"
    found = datetime.fromisoformat(parse_planet_name(name).time)
    assert found.utcoffset() == timedelta(0)
    assert found == taken + timedelta(milliseconds=10 * (hundredths or 0))


@given(
    day=st.dates(date(2009, 1, 1), date(2040, 1, 1)),
    strip=st.integers(1, 10**7),
    tile=st.integers(1, 10**7),
    satellite=HEX,
)
def test_orthotile_name_gives_day_and_tile(day, strip, tile, satellite):
    name = f"{strip}_{tile}_{day}_{satellite}"
    assert parse_planet_type(f"tiles/{tile}/{name}/") == "orthotile"
    parsed = parse_planet_name(name)
    assert (parsed.time, parsed.tile) == (day.isoformat(), str(tile))


def test_satellites_may_be_written_in_capitals():
    assert parse_planet_type("20151119_025740_0C74") == "scene"


def test_the_working_directory_has_a_name(tmp_path, monkeypatch):
    folder = tmp_path / "20210821_210019_08_2405"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert parse_planet_type(".") == "scene"


def test_a_link_keeps_its_own_name(tmp_path):
    (tmp_path / "somewhere").mkdir()
    link = tmp_path / "20210821_210019_08_2405"
    link.symlink_to(tmp_path / "somewhere")
    assert parse_planet_type(link) == "scene"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "planet_udm2",
        "20210821",
        "20210821_210019",
        "20210821_210019_08_2405_3B",
        "20210821_210019_8_2405",
        "20210821_210019_08_24055",
        "20211321_210019_08_2405",
        "20210821_250019_08_2405",
        "20210230_210019_2405",
        "5790392_4372514_2022-07-16",
        "5790392_4372514_2022-13-16_2459",
        "5790392_2022-07-16_2459",
        "20210821_210019_08_2405.zip",
    ],
)
def test_other_names_are_an_error_that_says_what_is_expected(name):
    with pytest.raises(SceneNameError, match="YYYYMMDD_HHMMSS_XXXX") as caught:
        parse_planet_type(Path("/data") / name)
    assert isinstance(caught.value, DartsError)
    assert isinstance(caught.value, ValueError)
    assert (name or "data") in str(caught.value)
