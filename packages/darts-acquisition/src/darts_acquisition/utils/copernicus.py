"""The original's ``init_copernicus``."""

from dataclasses import replace

from darts_acquisition.io.settings import CDSESettings
from darts_acquisition.io.store import find_credentials


def init_copernicus(profile_name: str = "default") -> None:
    """See that a profile of ``~/.aws`` holds keys for the Copernicus Data Space.

    Nothing else is to be done before scenes are loaded. Where the profile is not the one that the AWS tools take by
    themselves, `CDSESettings` or ``DARTS_CDSE_PROFILE`` names it.

    Args:
        profile_name: The profile.

    Raises:
        LoginError: If there is no such profile, or it holds no keys.
    """
    find_credentials(replace(CDSESettings.from_environment().s3, profile=profile_name))
