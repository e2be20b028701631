"""Open, describe and draw a project and files in QGIS, by the Python that it belongs to: PROJECT PICTURE FILE..."""

import json
import sys


def main(project_file: str, picture: str, files: list[str]) -> None:
    from qgis.core import (
        QgsApplication,
        QgsMapRendererSequentialJob,
        QgsMapSettings,
        QgsProject,
        QgsRasterLayer,
        QgsVectorLayer,
    )
    from qgis.PyQt.QtCore import QSize
    from qgis.PyQt.QtGui import QColor

    application = QgsApplication([], False)
    application.initQgis()

    def describe(layer) -> dict:
        about = {"name": layer.name(), "valid": layer.isValid(), "crs": layer.crs().authid()}
        about["renderer"] = type(layer.renderer()).__name__
        if isinstance(layer, QgsVectorLayer):
            return about | {"count": layer.featureCount(), "display": layer.displayField()}
        provider = layer.dataProvider()
        nodata = provider.sourceNoDataValue(1) if provider.sourceHasNoDataValue(1) else None
        return about | {"nodata": nodata}

    def draw(layers, extent, crs, target: str | None) -> list[int]:
        """Draw layers on green; return how many pixels are still green, and how many are in all."""
        settings = QgsMapSettings()
        settings.setLayers(layers)
        settings.setDestinationCrs(crs)
        settings.setExtent(extent)
        settings.setOutputSize(QSize(200, 200))
        settings.setBackgroundColor(QColor(0, 255, 0))
        job = QgsMapRendererSequentialJob(settings)
        job.start()
        job.waitForFinished()
        image = job.renderedImage()
        if target:
            image.save(target)
        green = sum(image.pixelColor(x, y) == QColor(0, 255, 0) for x in range(200) for y in range(200))
        return [green, 200 * 200]

    opened = {}
    for file in files:
        layer = QgsRasterLayer(file, "file") if file.endswith(".tif") else QgsVectorLayer(file, "file", "ogr")
        opened[file] = describe(layer)
        if layer.isValid():
            opened[file]["green"] = draw([layer], layer.extent(), layer.crs(), None)
    project = QgsProject.instance()
    read = project.read(project_file)
    layers = project.layerTreeRoot().findLayers()
    shown = [each.layer() for each in layers if each.isVisible()]
    extent = shown[0].extent()
    for layer in shown:
        extent.combineExtentWith(layer.extent())
    green = draw(shown, extent, project.crs(), picture)
    about = {
        "read": read,
        "crs": project.crs().authid(),
        "layers": [describe(each.layer()) for each in layers],
        "green": green,
        "files": opened,
    }
    print(json.dumps(about))
    project.clear()
    application.exitQgis()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
