"""Processing baselines of Sentinel-2 scenes: their forms, their order, and marks that have no order."""

from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_acquisition.scenes.names import is_official, newest_baselines, parse_baseline

OFFICIAL = ["N0204", "N0208", "N0214", "N0300", "N0301", "N0400", "N0500", "N0509", "N0510", "N0511", "N0600", "N1000"]
MARKS = ["N9999", "N9998", "N7990", "N2000", "N0000", "N0001"]


def name(baseline, tile="08WMA"):
    return f"S2B_MSIL2A_20210713T203019_{baseline}_R014_T{tile}_20210801T230000"


@given(st.lists(st.tuples(st.sampled_from([*OFFICIAL, *MARKS]), st.sampled_from(["08WMA", "08WMB"])), unique=True))
def test_newest_baselines_keep_the_highest_number_of_esas_own_per_tile(scenes):
    names = [name(*scene) for scene in scenes]
    by_tile = defaultdict(list)
    for baseline, tile in scenes:
        if baseline in OFFICIAL:
            by_tile[tile].append(baseline)
    expected = {name(max(found, key=OFFICIAL.index), tile) for tile, found in by_tile.items()}
    assert newest_baselines(names) == [scene for scene in names if scene in expected]


def test_newest_baselines_keep_parts_of_an_overpass_and_names_without_a_baseline():
    parts = [name("N0510"), name("N0510").replace("230000", "231000")]
    gee = ["20220217T183431_20220217T183428_T13VEK", "20220217T183431_20220217T183428_T13VEL"]
    assert newest_baselines([name("N9999"), *parts, gee[0], name("N0301"), gee[1]]) == [*parts, *gee]


@given(st.integers(0, 99), st.integers(0, 99))
def test_baseline_reads_alike_in_every_form(major, minor):
    forms = [f"{major:02}.{minor:02}", f"{major}.{minor:02}", f"N{major:02}{minor:02}", f"N{major:02}.{minor:02}"]
    assert {parse_baseline(form) for form in [*forms, f"{major:02}{minor:02}", f" {forms[0]}\n"]} == {(major, minor)}
    assert is_official((major, minor)) == (1 <= Decimal(forms[0]) < 20)


@pytest.mark.parametrize("text", ["", "None", "N", "N05", "05", "N05000", "five", "05,00", "-5.00", "05.00x"])
def test_baseline_that_is_none(text):
    assert parse_baseline(text) is None
