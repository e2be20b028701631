"""A grid of MGRS tiles in the layout of the KML file that ESA publishes."""

from collections.abc import Mapping

from shapely.geometry import box

_PLACEMARK = """<Placemark><name>{name}</name><MultiGeometry>
<Polygon><outerBoundaryIs><LinearRing><coordinates>{ring}</coordinates></LinearRing></outerBoundaryIs></Polygon>
<Point><coordinates>{west},{south},0</coordinates></Point></MultiGeometry></Placemark>"""


def kml(tiles: Mapping[str, tuple[float, float]]) -> str:
    """Return the file.

    Args:
        tiles: South-west corners in degrees by name; a tile is 2° wide and 1° high.
    """
    marks = []
    for name, (west, south) in tiles.items():
        ring = " ".join(f"{x},{y},0" for x, y in box(west, south, west + 2, south + 1).exterior.coords)
        marks.append(_PLACEMARK.format(name=name, ring=ring, west=west + 1, south=south + 0.5))
    head = '<?xml version="1.0" encoding="UTF-8"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Folder>'
    return f"{head}<name>Features</name>{''.join(marks)}</Folder></Document></kml>"
