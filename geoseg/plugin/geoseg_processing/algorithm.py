# ruff: noqa: D102, N802 - names and texts are those of QGIS
"""One algorithm: parameters and the command line that they make."""

import os
import shutil

from qgis.core import (
    QgsMapLayerType,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterCrs,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingParameterVectorLayer,
    QgsProcessingUtils,
)
from qgis.PyQt.QtGui import QIcon

from .runner import CommandFailed, run

FOLDER = os.path.dirname(__file__)


class GeosegAlgorithm(QgsProcessingAlgorithm):
    """Built from its description in algorithms.json."""

    def __init__(self, description):
        super().__init__()
        self.description = description

    def createInstance(self):
        return GeosegAlgorithm(self.description)

    def name(self):
        return self.description["name"]

    def displayName(self):
        return self.description["title"]

    def group(self):
        return self.description["group"]

    def groupId(self):
        return self.description["group"].lower().replace(" ", "_")

    def shortHelpString(self):
        return self.description["help"]

    def icon(self):
        return QIcon(os.path.join(FOLDER, "icon.svg"))

    def initAlgorithm(self, configuration=None):
        for one in self.description["parameters"]:
            parameter = make_parameter(one)
            if one.get("advanced"):
                parameter.setFlags(
                    parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced
                )
            parameter.setHelp(one.get("help", ""))
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputString("PRINTED", "What geoseg printed"))

    def processAlgorithm(self, parameters, context, feedback):
        options, places, outputs = [], [], {}
        for one in self.description["parameters"]:
            value = self.value_of(one, parameters, context)
            if value is None or one.get("part"):
                continue
            if "with" in one:
                rest = self.parameterAsString(parameters, one["with"], context)
                value = f"{value}:{rest}" if rest else value
            if one["type"].endswith("_out"):
                outputs[one["name"]] = value
            other = one.get("instead_of")
            if other and parameters.get(other) not in (None, ""):
                raise QgsProcessingException(f"{one['name']} and {other}: give one of them")
            if one["type"] == "switch":
                options.append(value)
            elif one["type"] == "flag":
                options.append(one["option"])
            elif isinstance(value, list):
                option = one.get("option")
                (options if option else places).extend(
                    f"{option}={path}" if option else path for path in value
                )
            elif "option" in one:  # joined, so that no value can be read as an option
                options.append(f"{one['option']}={value}")
            else:
                places.append(value)
        arguments = [*self.description["command"], *options, "--", *places]
        feedback.pushCommandInfo("geoseg " + " ".join(arguments))
        try:
            printed = run(arguments, feedback)
        except CommandFailed as error:
            raise QgsProcessingException(str(error)) from error
        if feedback.isCanceled():
            for path in outputs.values():  # what a later run could go on with: not from here
                for job in ("job", "train"):
                    shutil.rmtree(f"{path}.geoseg-{job}", ignore_errors=True)
            return {}
        return {**outputs, "PRINTED": printed}

    def value_of(self, one, parameters, context):
        """Text for the command line; None where the parameter was left out."""
        name, kind = one["name"], one["type"]
        if kind == "flag":
            return "" if self.parameterAsBool(parameters, name, context) else None
        if kind == "file_out":
            return self.parameterAsFileOutput(parameters, name, context) or None
        if kind.endswith("_out"):
            return self.parameterAsOutputLayer(parameters, name, context) or None
        if parameters.get(name, one.get("default")) in (None, ""):
            return None
        if kind in ("rasters", "vectors", "layers"):
            layers = self.parameterAsLayerList(parameters, name, context)
            return [file_of(layer, context) for layer in layers] or None
        if kind in ("raster", "vector", "layer"):
            as_layer = {
                "raster": self.parameterAsRasterLayer,
                "vector": self.parameterAsVectorLayer,
                "layer": self.parameterAsLayer,
            }[kind]
            layer = as_layer(parameters, name, context)
            if layer is None:
                raise QgsProcessingException(f"{one['title']}: the layer can't be found")
            return file_of(layer, context)
        if kind == "choice":
            return one["choices"][self.parameterAsEnum(parameters, name, context)]
        if kind == "choices":
            chosen = self.parameterAsEnums(parameters, name, context)
            return ",".join(one["choices"][number] for number in chosen) or None
        if kind == "switch":
            return one["flags"][self.parameterAsEnum(parameters, name, context)] or None
        if kind == "list":
            text = self.parameterAsString(parameters, name, context)
            return [part.strip() for part in text.split(";") if part.strip()] or None
        if kind == "crs":
            crs = self.parameterAsCrs(parameters, name, context)
            return (crs.authid() or crs.toWkt()) if crs.isValid() else None
        if kind == "number":
            value = self.parameterAsDouble(parameters, name, context)
            return None if value == one.get("default") else repr(value)
        if kind in ("integer", "band"):
            return str(self.parameterAsInt(parameters, name, context))
        if kind == "extent":
            return self.box(one, parameters, context)
        return self.parameterAsString(parameters, name, context) or None

    def box(self, one, parameters, context):
        """An extent with its CRS, or in that of the scene where it has no name."""
        name = one["name"]
        crs = self.parameterAsExtentCrs(parameters, name, context)
        scene = self.parameterAsRasterLayer(parameters, one["scene"], context)
        if crs.isValid() and not crs.authid() and scene is not None:
            crs = scene.crs()
            box = self.parameterAsExtent(parameters, name, context, crs)
        else:
            box = self.parameterAsExtent(parameters, name, context)
        sides = (box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
        named = [crs.authid()] if crs.isValid() and crs.authid() else []
        return None if box.isNull() else ",".join([*map(repr, sides), *named])


def file_of(layer, context):
    """The file of a layer; layers that are none, or not the first of theirs, are copied."""
    path, _, rest = layer.source().partition("|")
    named = rest.partition("layername=")[2].partition("|")[0]
    plain = os.path.exists(path) and named in ("", os.path.splitext(os.path.basename(path))[0])
    if layer.type() == QgsMapLayerType.VectorLayer and not (plain and "subset=" not in rest):
        return QgsProcessingUtils.convertToCompatibleFormat(
            layer, False, "layer", ["parquet"], "gpkg", context, QgsProcessingFeedback()
        )
    if not os.path.exists(path):
        raise QgsProcessingException(
            f"{layer.name()}: is not a file of this machine: save it as a file first"
        )
    return path


def make_parameter(one):
    """QGIS' parameter for a description."""
    name, title, kind = one["name"], one["title"], one["type"]
    optional = one.get("optional", False)
    default = one.get("default")
    if kind == "raster":
        return QgsProcessingParameterRasterLayer(name, title, default, optional)
    if kind == "vector":
        types = [QgsProcessing.TypeVectorAnyGeometry]
        return QgsProcessingParameterVectorLayer(name, title, types, default, optional)
    if kind == "layer":
        return QgsProcessingParameterMapLayer(name, title, default, optional)
    if kind in ("rasters", "vectors", "layers"):
        types = {
            "rasters": QgsProcessing.TypeRaster,
            "vectors": QgsProcessing.TypeVectorPolygon,
            "layers": QgsProcessing.TypeMapLayer,
        }[kind]
        return QgsProcessingParameterMultipleLayers(name, title, types, default, optional)
    if kind == "crs":
        return QgsProcessingParameterCrs(name, title, default, optional)
    if kind == "band":
        return QgsProcessingParameterBand(name, title, default, one["of"], optional)
    if kind == "field":
        anything = QgsProcessingParameterField.Any
        return QgsProcessingParameterField(
            name, title, default, one["of"], anything, False, optional
        )
    if kind in ("choice", "choices", "switch"):
        several = kind == "choices"
        return QgsProcessingParameterEnum(name, title, one["choices"], several, default, optional)
    if kind in ("number", "integer"):
        double = kind == "number"
        form = (
            QgsProcessingParameterNumber.Double if double else QgsProcessingParameterNumber.Integer
        )
        return QgsProcessingParameterNumber(
            name,
            title,
            form,
            default,
            optional,
            one.get("min", 0),
            one.get("max", 1e12 if double else 2**31 - 1),
        )
    if kind == "flag":
        return QgsProcessingParameterBoolean(name, title, bool(default), True)
    if kind == "extent":
        return QgsProcessingParameterExtent(name, title, default, optional)
    if kind == "file":
        return QgsProcessingParameterFile(name, title, optional=optional, defaultValue=default)
    if kind == "vector_out":
        return QgsProcessingParameterVectorDestination(
            name, title, QgsProcessing.TypeVectorAnyGeometry, default, optional, one.get("on", True)
        )
    if kind == "raster_out":
        return QgsProcessingParameterRasterDestination(
            name, title, default, optional, one.get("on", True)
        )
    if kind == "file_out":
        return QgsProcessingParameterFileDestination(
            name, title, one["filter"], default, optional, one.get("on", True)
        )
    text = QgsProcessingParameterString(name, title, default, False, optional)
    if kind == "model":  # named, not imported: without a window there are no widgets
        wrapper = {"class": "geoseg_processing.widgets.ModelWrapper", "models": one["models"]}
        text.setMetadata({"widget_wrapper": wrapper})
    return text
