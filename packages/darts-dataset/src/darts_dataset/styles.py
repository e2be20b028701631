"""How QGIS draws the GeoPackages."""

_COLOURS = {"objects": (200, 30, 60, 90), "detections": (230, 120, 20, 40), "seen": (40, 120, 200, 0)}
"""Red, green, blue of the outline, and the opacity of what is inside, 0 to 255."""


def qgis_style(layer: str) -> str:
    """Return a style file (.qml) for a layer: outlines of 0.4 mm, filled thinly, labelled by nothing."""
    red, green, blue, opacity = _COLOURS[layer]
    options = {
        "color": f"{red},{green},{blue},{opacity}",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.4",
        "outline_width_unit": "MM",
        "style": "solid" if opacity else "no",
    }
    lines = "".join(f'<Option name="{name}" type="QString" value="{value}"/>' for name, value in options.items())
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22" styleCategories="Symbology">'
        '<renderer-v2 type="singleSymbol" symbollevels="0" enableorderby="0" forceraster="0"><symbols>'
        '<symbol type="fill" name="0" alpha="1" clip_to_extent="1" force_rhr="0">'
        f'<layer class="SimpleFill" enabled="1" locked="0" pass="0"><Option type="Map">{lines}</Option></layer>'
        "</symbol></symbols></renderer-v2><layerGeometryType>2</layerGeometryType></qgis>\n"
    )
