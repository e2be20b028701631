"""The original's ``init_ee``."""

from darts_acquisition import EarthEngineSettings, initialize_earth_engine


def init_ee(project: str | None = None, use_highvolume: bool = True) -> None:
    """Initialise Earth Engine for this process, which the pipelines do by themselves where they need it.

    Args:
        project: Cloud project; None for the one of the login.
        use_highvolume: Use the endpoint for many small requests.

    Raises:
        LoginError: If there is no login, or it is refused.
        ServiceError: If Earth Engine does not answer.
    """
    initialize_earth_engine(EarthEngineSettings(project=project, use_highvolume=use_highvolume))
