"""Runs in QGIS' own Python: the plugin's algorithms through ``processing.run``.

Usage: python3 qgis_process.py FOLDER PLUGINS, with FOLDER/runs.json: algorithm, parameters, and
what to cancel at (seconds, or a line of the log); or, for the batch dialog, rows of parameters.
Answers in FOLDER/answer.json. FOLDER/chain.model3 is a model of two algorithms.
"""

import json
import os
import sys
import threading
import time

folder, plugins = sys.argv[1], sys.argv[2]
sys.path[:0] = ["/usr/share/qgis/python/plugins", plugins]

from qgis.core import (  # noqa: E402
    QgsApplication,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterRasterLayer,
    QgsProject,
    QgsVectorLayer,
)

application = QgsApplication([], True)  # the dialogs need widgets
application.initQgis()
import processing  # noqa: E402
from geoseg_processing import classFactory  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402
from processing.gui.AlgorithmDialog import AlgorithmDialog  # noqa: E402
from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog  # noqa: E402
from processing.tools import dataobjects  # noqa: E402

Processing.initialize()
plugin = classFactory(None)
plugin.initProcessing()
registry = QgsApplication.processingRegistry()


def widgets(algorithm):
    """Names and kinds of the widgets in the toolbox dialog."""
    made = AlgorithmDialog(algorithm.create()).mainWidget().wrappers
    return {name: type(wrapper).__name__ for name, wrapper in made.items()}


def models():
    """What the dialog offers as a model, chooses at first, and takes beside."""
    algorithm = registry.createAlgorithmById("geoseg:map")
    wrapper = AlgorithmDialog(algorithm).mainWidget().wrappers["MODEL"]
    offered = [wrapper.box.itemText(n) for n in range(wrapper.box.count())]
    first = wrapper.parameterValue()
    wrapper.setValue("own.zip")
    return [offered, first, wrapper.parameterValue()]


def cancel_at(feedback, line):
    """Cancel once the log has a line."""
    end = time.time() + 120
    while line not in feedback.textLog() and time.time() < end:
        time.sleep(0.1)
    feedback.cancel()


def batch(algorithm, rows):
    """The batch dialog, filled and run."""
    dialog = BatchAlgorithmDialog(registry.createAlgorithmById(algorithm))
    panel = dialog.mainWidget()
    panel.checkLoadLayersOnCompletion.setChecked(False)
    context = dataobjects.createContext()
    for number, row in enumerate(rows):
        if number:
            panel.addRow()
        for name, value in row.items():
            column = panel.parameter_to_column[name]
            wrapper = panel.wrappers[number][column]
            if wrapper is not None:
                wrapper.setParameterValue(value, context)
            else:
                panel.tblParameters.cellWidget(number + 1, column).setValue(value)
    dialog.runAlgorithm()
    return [os.path.exists(row["POLYGONS"]) for row in rows]


def write_model(path):
    """A model: thresholds, then polygons of their raster."""
    model = QgsProcessingModelAlgorithm("chain", "geoseg")
    scene = QgsProcessingParameterRasterLayer("scene", "Scene")
    model.addModelParameter(scene, QgsProcessingModelParameter("scene"))
    source = QgsProcessingModelChildParameterSource
    steps = (
        ("geoseg:classic", "classic", "SCENE", source.fromModelParameter("scene"), "CLASSES"),
        ("geoseg:polygonize", "polygons", "RASTER", source.fromChildOutput("classic", "CLASSES"),
         "POLYGONS"),
    )  # fmt: skip
    for algorithm, name, parameter, value, output in steps:
        child = QgsProcessingModelChildAlgorithm(algorithm)
        child.setChildId(name)
        child.addParameterSources(parameter, [value])
        for one in registry.algorithmById(algorithm).parameterDefinitions():
            if one.name() != parameter and not one.isDestination():
                default = source.fromStaticValue(one.defaultValue())
                child.addParameterSources(one.name(), [default])
        wanted = QgsProcessingModelOutput(output.lower(), output)
        wanted.setChildOutputName(output)
        child.setModelOutputs({output.lower(): wanted})
        model.addChildAlgorithm(child)
    return model.validate()[0] and model.toFile(path)


hidden = QgsProcessingParameterDefinition.FlagAdvanced
answer = {"algorithms": [], "runs": [], "models": models()}
for algorithm in registry.providerById("geoseg").algorithms():
    answer["algorithms"].append(
        {
            "id": algorithm.id(),
            "help": algorithm.shortHelpString(),
            "parameters": [p.name() for p in algorithm.parameterDefinitions()],
            "advanced": [p.name() for p in algorithm.parameterDefinitions() if p.flags() & hidden],
            "can_run": algorithm.canExecute()[0],
            "widgets": widgets(algorithm),
        }
    )
with open(os.path.join(folder, "runs.json")) as file:
    runs = json.load(file)
for name, source in (("scratch", "scratch.json"),):
    if os.path.exists(os.path.join(folder, source)):  # a layer that is no file
        kept = QgsVectorLayer(os.path.join(folder, source), name, "ogr")
        scratch = QgsVectorLayer("Polygon?crs=EPSG:32721&field=category:string", name, "memory")
        scratch.dataProvider().addFeatures(list(kept.getFeatures()))
        QgsProject.instance().addMapLayer(scratch)
answer["model"] = write_model(os.path.join(folder, "chain.model3"))
for run in runs:
    if "rows" in run:
        answer["runs"].append({"written": batch(run["algorithm"], run["rows"])})
        continue
    feedback = QgsProcessingFeedback(False)
    seen = []
    feedback.progressChanged.connect(seen.append)
    if run.get("cancel_after_s") is not None:
        threading.Timer(run["cancel_after_s"], feedback.cancel).start()
    if run.get("cancel_at"):
        watch = threading.Thread(target=cancel_at, args=(feedback, run["cancel_at"]), daemon=True)
        watch.start()
    start = time.time()
    out = {"error": ""}
    try:
        out["results"] = processing.run(run["algorithm"], run["parameters"], feedback=feedback)
    except Exception as error:  # noqa: BLE001 - the test judges it
        out["error"] = str(error)
    out["seconds"] = time.time() - start
    out["progress"] = seen
    out["log"] = feedback.textLog()
    polygons = out.get("results", {}).get("POLYGONS")
    if polygons:
        layer = QgsVectorLayer(polygons.split("|")[0], "x", "ogr")
        out["rows"] = layer.featureCount()
        out["renderer"] = layer.renderer().type() if layer.isValid() else ""
    answer["runs"].append(out)
plugin.unload()
answer["unloaded"] = registry.providerById("geoseg") is None
with open(os.path.join(folder, "answer.json"), "w") as file:
    json.dump(answer, file, default=str)
os._exit(0)
