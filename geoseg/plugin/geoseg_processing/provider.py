# ruff: noqa: D102, N802 - names and texts are those of QGIS
"""The plugin and its provider."""

import json
import os

from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithm import GeosegAlgorithm

FOLDER = os.path.dirname(__file__)


class GeosegProvider(QgsProcessingProvider):
    """All algorithms of algorithms.json."""

    def id(self):
        return "geoseg"

    def name(self):
        return "geoseg"

    def icon(self):
        return QIcon(os.path.join(FOLDER, "icon.svg"))

    def supportsNonFileBasedOutput(self):
        return False

    def supportedOutputVectorLayerExtensions(self):
        return ["gpkg", "fgb", "geojson", "shp"]

    def supportedOutputRasterLayerExtensions(self):
        return ["tif"]

    def loadAlgorithms(self):
        with open(os.path.join(FOLDER, "algorithms.json"), encoding="utf-8") as file:
            described = json.load(file)
        for description in described["algorithms"]:
            parameters = []
            for one in description["parameters"]:  # "@name": the parameters of a group
                parameters += described["groups"][one[1:]] if isinstance(one, str) else [one]
            self.addAlgorithm(GeosegAlgorithm({**description, "parameters": parameters}))


class GeosegPlugin:
    """What QGIS loads; without a window (qgis_process) only the provider is."""

    def __init__(self, iface=None):
        self.iface = iface
        self.provider = None

    def initProcessing(self):
        self.provider = GeosegProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self):
        self.initProcessing()

    def unload(self):
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
