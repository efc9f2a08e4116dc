"""Runs in QGIS' own Python: opens what geoseg wrote, says what it saw, renders it.

Usage: python3 qgis_look.py FOLDER, with FOLDER/request.json; answers in FOLDER/answer.json.
"""

import json
import os
import sys

from qgis.core import (
    Qgis,
    QgsApplication,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize

folder = sys.argv[1]
with open(os.path.join(folder, "request.json")) as file:
    request = json.load(file)
application = QgsApplication([], False)
application.initQgis()
messages = []
QgsApplication.messageLog().messageReceived.connect(
    lambda text, tag, level: messages.append([tag, text]) if level > Qgis.Info else None
)


def render(layers, extent, crs, path):
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(crs)
    settings.setExtent(extent)
    settings.setOutputSize(QSize(500, 500))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path)


def describe(layer):
    out = {"valid": layer.isValid(), "crs": layer.crs().authid(), "name": layer.name()}
    renderer = layer.renderer()
    if isinstance(layer, QgsVectorLayer):
        out["renderer"] = renderer.type()
        out["rows"] = layer.featureCount()
        out["indexed"] = layer.hasSpatialIndex()
        out["aliases"] = {f.name(): f.alias() for f in layer.fields()}
        out["descriptions"] = {f.name(): f.comment() for f in layer.fields()}
        out["labels"] = layer.labelsEnabled()
        if renderer.type() == "categorizedSymbol":
            out["attribute"] = renderer.classAttribute()
            out["categories"] = [
                [c.value(), c.label(), c.symbol().color().name(), c.symbol().color().alpha()]
                for c in renderer.categories()
            ]
    else:
        out["renderer"] = renderer.type()
        if renderer.type() == "paletted":
            out["categories"] = [[c.value, c.label, c.color.name()] for c in renderer.classes()]
    return out


answer = {"layers": [], "version": Qgis.QGIS_VERSION}
for number, source in enumerate(request.get("layers", [])):
    vector = source["provider"] == "ogr"
    layer = (QgsVectorLayer if vector else QgsRasterLayer)(
        source["source"], "layer", source["provider"]
    )
    answer["layers"].append(describe(layer))
    if layer.isValid():
        picture = os.path.join(folder, f"layer{number}.png")
        render([layer], layer.extent(), layer.crs(), picture)
if "project" in request:
    project = QgsProject.instance()
    answer["read"] = project.read(request["project"])
    answer["crs"] = project.crs().authid()
    root = project.layerTreeRoot()
    answer["groups"] = [g.name() for g in root.children()]
    order = [node.layer() for node in root.findLayers()]
    answer["tree"] = [describe(layer) for layer in order]
    answer["bookmarks"] = [b.name() for b in project.bookmarkManager().bookmarks()]
    shown = [n.layer() for n in root.findLayers() if n.isVisible()]
    extent = project.viewSettings().defaultViewExtent()
    answer["extent"] = [extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()]
    render(shown, extent, project.crs(), os.path.join(folder, "project.png"))
    layouts = project.layoutManager().printLayouts()
    answer["layouts"] = [layout.name() for layout in layouts]
    if layouts:
        settings = QgsLayoutExporter.ImageExportSettings()
        settings.dpi = 110
        path = os.path.join(folder, "layout.png")
        answer["printed"] = QgsLayoutExporter(layouts[0]).exportToImage(path, settings)
        for item in layouts[0].items():
            if isinstance(item, QgsLayoutItemLegend):
                shown = item.model()
                nodes = [shown.layerLegendNodes(n) for n in shown.rootGroup().findLayers()]
                answer["legend"] = [node.data(0) for layer in nodes for node in layer]
        answer["items"] = sorted(type(i).__name__ for i in layouts[0].items())
answer["messages"] = messages
with open(os.path.join(folder, "answer.json"), "w") as file:
    json.dump(answer, file)
os._exit(0)  # QGIS may crash while it lets go of layers
