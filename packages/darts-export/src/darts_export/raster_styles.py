"""How QGIS and GDAL draw the rasters of probabilities and of classes: transparent where nothing is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Entry:
    """What a value of a raster looks like: label, colour as red, green, blue 0…255, opacity 0…255."""

    value: int
    label: str
    colour: Colour
    opacity: int


# From pale yellow to dark red, lightness falling evenly, so that it reads in grey and for the colour-blind as well.
_PERCENT = (
    _Entry(0, "0 %", (255, 244, 176), 0),
    _Entry(10, "10 %", (255, 244, 176), 60),
    _Entry(30, "30 %", (254, 204, 92), 150),
    _Entry(50, "50 %", (250, 141, 60), 205),
    _Entry(75, "75 %", (227, 60, 40), 230),
    _Entry(100, "100 %", (135, 10, 45), 245),
)
_CLASSES = (_Entry(0, "no slump", (255, 255, 255), 0), _Entry(1, "slump", (230, 58, 20), 255))


def write_companions(folder: Path, names: Sequence[str]) -> None:
    """Write the styles that belong to rasters.

    Args:
        folder: Where to write.
        names: Files to write, as ``companions_of`` lists them.

    Raises:
        OSError: If a file cannot be written.
    """
    for name in names:
        if name.endswith(".aux.xml"):
            content = _auxiliary()
        else:
            content = _qml(_ramp() if name.startswith("probabilities") else _palette())
        (folder / name).write_bytes(content.encode())


def companions_of(raster: str) -> tuple[str, ...]:
    """Return the names of the files that say how a raster is drawn.

    Args:
        raster: Name of the file of a raster of probabilities or classes, for example ``binarized-rts.tif``.

    Returns:
        Names of files.

    Examples:
        >>> companions_of("binarized.tif")
        ('binarized.qml', 'binarized.tif.aux.xml')
    """
    style = f"{raster.removesuffix('.tif')}.qml"
    return (style, f"{raster}.aux.xml") if raster.startswith("binarized") else (style,)


def _ramp() -> str:
    items = "".join(
        f'<item value="{entry.value}" label="{entry.label}" color="{_hex(entry.colour)}" alpha="{entry.opacity}"/>'
        for entry in _PERCENT
    )
    return (
        '<rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" nodataColor=""'
        ' classificationMin="0" classificationMax="100"><rasterTransparency/><rastershader>'
        '<colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0"'
        f' maximumValue="100" labelPrecision="0">{items}</colorrampshader></rastershader></rasterrenderer>'
    )


def _palette() -> str:
    entries = "".join(
        f'<paletteEntry value="{entry.value}" label="{entry.label}" color="{_hex(entry.colour)}"'
        f' alpha="{entry.opacity}"/>'
        for entry in _CLASSES
    )
    return (
        '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor=""><rasterTransparency/>'
        f"<colorPalette>{entries}</colorPalette></rasterrenderer>"
    )


def _qml(renderer: str) -> str:
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        f'<qgis version="3.22" styleCategories="Symbology"><pipe>{renderer}<brightnesscontrast/><huesaturation/>'
        "<rasterresampler/></pipe><blendMode>0</blendMode></qgis>\n"
    )


def _auxiliary() -> str:
    """What GDAL reads beside a raster of classes: their names, and a table of colours with opacities."""
    fields = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8), ("Alpha", 0, 9))
    names = "".join(f"<Category>{entry.label}</Category>" for entry in _CLASSES)
    defined = "".join(
        f'<FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>'
        for index, (name, kind, usage) in enumerate(fields)
    )
    rows = "".join(
        f'<Row index="{index}">'
        + "".join(f"<F>{value}</F>" for value in (entry.value, entry.label, *entry.colour, entry.opacity))
        + "</Row>"
        for index, entry in enumerate(_CLASSES)
    )
    return (
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames>'
        f'<GDALRasterAttributeTable tableType="thematic">{defined}{rows}</GDALRasterAttributeTable>'
        "</PAMRasterBand></PAMDataset>\n"
    )


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
