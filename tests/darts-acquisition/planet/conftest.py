"""What tests of orders begin with."""

import numpy as np
import pytest

from support.planet_orders import ORTHOTILE, SCENES


@pytest.fixture
def plain(delivery, tmp_path):
    """Folders of scenes with different pixels, and files of an order that no tile needs."""
    for number, name in enumerate((*SCENES, ORTHOTILE)):
        made = delivery(f"plain/{name}").complete()
        made.image(np.random.default_rng(number).integers(0, 3000, (4, 6, 5)).astype("uint16"))
        made.file("_3B_AnalyticMS_metadata.xml").write_text("<xml/>")
    return tmp_path / "plain"
