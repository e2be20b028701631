"""Errors and warnings: whom they can be caught as, and what they say."""

import pickle

import pytest

import darts_utils
from darts_utils import DartsError, DartsWarning

STANDARD = {
    "DeviceError": RuntimeError,
    "GridError": ValueError,
    "InputTypeError": TypeError,
    "ManifestError": FileNotFoundError,
    "MissingBandError": KeyError,
    "NoDataError": ValueError,
    "ParameterError": ValueError,
    "UnknownBandError": KeyError,
    "ValueRangeError": ValueError,
}


def test_the_list_is_complete():
    public = [getattr(darts_utils, name) for name in darts_utils.__all__]
    errors = {entry.__name__ for entry in public if isinstance(entry, type) and issubclass(entry, DartsError)}
    assert errors == {*STANDARD, "DartsError"}


@pytest.mark.parametrize(("name", "standard"), STANDARD.items())
def test_an_error_is_ours_and_the_standard_one(name, standard):
    kind = getattr(darts_utils, name)
    assert issubclass(kind, DartsError)
    with pytest.raises(standard):
        raise kind("The scene has no red band.")


@pytest.mark.parametrize("name", STANDARD)
def test_a_message_reads_as_written_and_survives_a_process(name):
    error = getattr(darts_utils, name)("The scene 'a' has no red band.")
    assert str(error) == "The scene 'a' has no red band."
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_an_error_without_a_message_has_an_empty_one():
    assert str(darts_utils.UnknownBandError()) == ""


def test_warnings_can_be_forbidden_as_a_family():
    assert issubclass(darts_utils.DeviceFallbackWarning, DartsWarning)
    assert issubclass(DartsWarning, UserWarning)
