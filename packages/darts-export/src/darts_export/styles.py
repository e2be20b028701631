"""The default styles that QGIS finds in the GeoPackages (table `layer_styles`)."""

from dataclasses import dataclass

from darts_utils.geopackage import WRITTEN

# Column names and types as QGIS itself creates the table.
STYLE_TABLE = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256),
    f_table_schema TEXT(256),
    f_table_name TEXT(256),
    f_geometry_column TEXT(256),
    styleName TEXT(30),
    styleQML TEXT,
    styleSLD TEXT,
    useAsDefault BOOLEAN,
    description TEXT,
    owner TEXT(30),
    ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""


@dataclass(frozen=True)
class _Fill:
    """A filled outline: colours as red, green, blue 0…255, opacity of the fill 0…255, width in mm, naming field."""

    title: str
    line: tuple[int, int, int]
    opacity: int
    width: float
    display: str


_STYLES = {
    "objects": _Fill("Retrogressive thaw slumps", (230, 58, 20), 60, 0.5, "object_uid"),
    "extent": _Fill("Reliable area", (40, 120, 200), 0, 0.4, "tile_id"),
}


def style_row(layer: str, style: str) -> dict[str, str | int]:
    """Return the row of `layer_styles` that draws a layer.

    Args:
        layer: Name of the layer.
        style: "objects" or "extent".

    Returns:
        Values by column.
    """
    fill = _STYLES[style]
    return {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": "geom",
        "styleName": f"DARTS {style}",
        "styleQML": _qml(fill),
        "styleSLD": _sld(fill, layer),
        "useAsDefault": 1,
        "description": fill.title,
        "owner": "",
        "update_time": WRITTEN,
    }


def _qml(fill: _Fill) -> str:
    red, green, blue = fill.line
    properties = {
        "color": f"{red},{green},{blue},{fill.opacity}",
        "joinstyle": "round",
        "offset": "0,0",
        "offset_unit": "MM",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": f"{fill.width}",
        "outline_width_unit": "MM",
        "style": "solid" if fill.opacity else "no",
    }
    options = "".join(f'<Option name="{name}" type="QString" value="{value}"/>' for name, value in properties.items())
    # QGIS before 3.20 reads <prop>, later ones <Option>.
    older = "".join(f'<prop k="{name}" v="{value}"/>' for name, value in properties.items())
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
        '<qgis version="3.22" styleCategories="Symbology|Fields">'
        '<renderer-v2 type="singleSymbol" symbollevels="0" enableorderby="0" forceraster="0">'
        '<symbols><symbol type="fill" name="0" alpha="1" clip_to_extent="1" force_rhr="0">'
        '<layer class="SimpleFill" enabled="1" locked="0" pass="0">'
        f'<Option type="Map">{options}</Option>{older}'
        "</layer></symbol></symbols><rotation/><sizescale/></renderer-v2>"
        "<blendMode>0</blendMode><featureBlendMode>0</featureBlendMode><layerOpacity>1</layerOpacity>"
        f"<previewExpression>&quot;{fill.display}&quot;</previewExpression>"
        "<layerGeometryType>2</layerGeometryType></qgis>"
    )


def _sld(fill: _Fill, layer: str) -> str:
    colour = "#{:02x}{:02x}{:02x}".format(*fill.line)
    inside = (
        f'<se:Fill><se:SvgParameter name="fill">{colour}</se:SvgParameter>'
        f'<se:SvgParameter name="fill-opacity">{fill.opacity / 255:.2f}</se:SvgParameter></se:Fill>'
        if fill.opacity
        else ""
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<StyledLayerDescriptor xmlns="http://www.opengis.net/sld" '
        'xmlns:se="http://www.opengis.net/se" version="1.1.0">'
        f"<NamedLayer><se:Name>{layer}</se:Name><UserStyle><se:Name>{layer}</se:Name><se:FeatureTypeStyle><se:Rule>"
        f"<se:PolygonSymbolizer>{inside}<se:Stroke>"
        f'<se:SvgParameter name="stroke">{colour}</se:SvgParameter>'
        '<se:SvgParameter name="stroke-width">2</se:SvgParameter>'
        "</se:Stroke></se:PolygonSymbolizer></se:Rule></se:FeatureTypeStyle></UserStyle></NamedLayer>"
        "</StyledLayerDescriptor>"
    )
