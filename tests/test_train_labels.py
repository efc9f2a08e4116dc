"""Labels of every kind, as a person has them: which belong to a scene and what they are called."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from test_train_command import SIZE, polygons, refused, scene

from geoseg.assess.segmentation import Confusion
from geoseg.errors import InputError
from geoseg.learn.ground import LabelOptions, labels_for, read_labels
from geoseg.learn.job import Job, Outcome, Split, prepare
from geoseg.learn.prepare import Prepared
from geoseg.learn.report import report_html
from geoseg.learn.samples import Labelled
from geoseg.learn.train import Schedule
from geoseg.learn.validate import Place
from geoseg.legend import Category, Legend
from geoseg.models.segmenter import ModelCard
from geoseg.scene.opening import open_scene


def prepared(scenes: list[Path], labels: list[Path], **options: Any) -> Prepared:
    schedule = Schedule(steps=1, batch=1)
    return prepare(
        Job(scenes=tuple(scenes), labels=tuple(labels), size_px=32, schedule=schedule, **options)
    )


def photographs(folder: Path) -> tuple[list[Path], Path]:
    """Three photographs and one COCO file of them all; the last one has no annotation."""
    images, annotations, files = [], [], []
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        files.append(folder / f"photo {k} ü.png")
        Image.fromarray(pixels).save(files[-1])
        name = f"train/{files[-1].name}"
        images.append({"id": 7 - k, "file_name": name, "height": 96, "width": 128})
    for k in range(2):
        for number, left in enumerate((8, 50, 90)):
            ring = [
                left,
                10 + 40 * k,
                left + 20,
                10 + 40 * k,
                left + 20,
                40 + 40 * k,
                left,
                40 + 40 * k,
            ]
            annotations.append(
                {"id": len(annotations), "image_id": 7 - k, "category_id": 1 + number % 2,
                 "segmentation": [ring], "iscrowd": 0}
            )  # fmt: skip
    categories = [{"id": 1, "name": "crop"}, {"id": 2, "name": "weed"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(document))
    return files, folder / "labels.json"


def test_one_coco_file_labels_many_photographs(tmp_path: Path) -> None:
    files, labels = photographs(tmp_path)
    found = [read_labels(open_scene(f), labels, LabelOptions(), 0) for f in files[:2]]
    assert found[0].window.row_off == 10 and found[1].window.row_off == 50
    assert [f.names for f in found] == [("crop", "weed")] * 2
    drawn = prepared(files, [labels])
    assert {g.name for g in drawn.train} == {f.name for f in files[:2]}
    assert "1 scenes have no label and are left out" in drawn.notes
    # where everything is labelled a photograph without a weed is as good as one with
    drawn = prepared(files, [labels], reading=LabelOptions(exhaustive=True))
    assert len(drawn.train) == 3 and "background" in drawn.goal.classes
    stranger = tmp_path / "other.png"
    files[0].rename(stranger)
    with pytest.raises(InputError, match="none of its 3 images is called 'other.png'"):
        read_labels(open_scene(stranger), labels, LabelOptions(), 0)


def test_a_file_for_all_scenes_may_leave_some_out_but_not_all(tmp_path: Path) -> None:
    images = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for k, image in enumerate(images):
        blobs = scene(image, west=500000.0 + 5000 * k)
    labels = tmp_path / "labels.gpkg"
    polygons(blobs, 505000.0).to_file(labels)
    drawn = prepared(images, [labels])
    assert [g.name for g in drawn.train] == ["b.tif"]
    polygons(blobs, 900000.0).to_file(labels)
    with pytest.raises(InputError, match="no label lies on any of the 2 scenes"):
        prepared(images, [labels], reading=LabelOptions(exhaustive=True))


def test_a_folder_gives_each_scene_its_own_labels(tmp_path: Path) -> None:
    names = ["s1.tif", "s10.tif", "s1_labels.tif", "s10.geojson", "s10-old.gpkg", "s[2].gpkg"]
    for name in names:
        (tmp_path / name).touch()
    scenes = [tmp_path / "s1.tif", tmp_path / "s10.tif", tmp_path / "s[2].png"]
    found = [path.name for path in labels_for(scenes, [tmp_path])]
    assert found == ["s1_labels.tif", "s10.geojson", "s[2].gpkg"]
    with pytest.raises(InputError, match=r"no labels of t\.tif"):
        labels_for([tmp_path / "t.tif"], [tmp_path])


def test_numbers_are_called_as_the_legend_has_them_and_keep_its_order(tmp_path: Path) -> None:
    blobs = scene(tmp_path / "scene.tif")
    frame = polygons(blobs)
    frame["category"] = frame["category"].map({"low": 3.0, "high": 1.0})
    frame.to_file(tmp_path / "labels.gpkg")
    opened = open_scene(tmp_path / "scene.tif")
    plain = read_labels(opened, tmp_path / "labels.gpkg", LabelOptions(), 0)
    assert plain.names == ("1", "3")
    legend = Legend((Category(1, "zinc", "#000001"), Category(3, "alder", "#000002")))
    reading = LabelOptions(legend=legend)
    found = prepared([tmp_path / "scene.tif"], [tmp_path / "labels.gpkg"], reading=reading)
    assert found.goal.classes == ("zinc", "alder")


def test_words_say_what_is_a_thing(tmp_path: Path) -> None:
    blobs = scene(tmp_path / "scene.tif")
    frame = polygons(blobs)
    frame["isthing"] = frame["category"].map({"low": "false", "high": "True"})
    frame.to_file(tmp_path / "labels.gpkg")
    reading = LabelOptions(things=True)
    found = read_labels(open_scene(tmp_path / "scene.tif"), tmp_path / "labels.gpkg", reading, 0)
    assert found.things == {"high"}


def test_a_class_that_no_training_place_shows_is_said(tmp_path: Path) -> None:
    scene(tmp_path / "scene.tif")
    north = 5.4e6
    boxes = {"one": (2, 2, 60, 60), "two": (190, 190, 250, 250), "rare": (100, 100, 104, 104)}
    frame = gpd.GeoDataFrame(
        {"category": list(boxes)},
        geometry=[shapely.box(500000 + a, north - d, 500000 + c, north - b)
                  for a, b, c, d in boxes.values()],
        crs="EPSG:32633",
    )  # fmt: skip
    frame.to_file(tmp_path / "labels.gpkg")
    notes: list[str] = []
    for fold in range(1, 6):
        try:
            split = Split(folds=5, fold=fold, square_px=64, buffer_px=0)
            drawn = prepared([tmp_path / "scene.tif"], [tmp_path / "labels.gpkg"], split=split)
            notes += drawn.notes
        except InputError as error:
            notes.append(str(error))
    assert sum("no place to train on shows 'rare'" in note for note in notes) == 1
    frame = frame[frame["category"] != "rare"]
    frame.geometry = [shapely.box(500000 + west, north - 60, 500060 + west, north - 2)
                      for west in (2, 190)]  # fmt: skip
    frame.to_file(tmp_path / "labels.gpkg")
    line = refused(
        tmp_path / "scene.tif", "-l", tmp_path / "labels.gpkg", "-o", tmp_path / "x.zip",
        "--size-px", "32", "--batch", "2", "--folds", "2", "--square-px", "128", "--steps", "1",
    )  # fmt: skip
    assert "the places to train on show only" in line


def test_a_local_crs_and_lines_are_one_line_each(tmp_path: Path, recwarn: Any) -> None:
    blobs = scene(tmp_path / "scene.tif")
    frame = polygons(blobs)
    local = 'LOCAL_CS["field",UNIT["metre",1]]'
    frame.set_crs(local, allow_override=True).to_file(tmp_path / "local.gpkg")
    arguments = (tmp_path / "scene.tif", "-o", tmp_path / "x.zip", "-l")
    assert "a local CRS has no place" in refused(*arguments, tmp_path / "local.gpkg")
    frame.geometry = [shapely.Polygon()] * len(frame)
    frame.to_file(tmp_path / "empty.gpkg")
    assert "holds no polygon" in refused(*arguments, tmp_path / "empty.gpkg")
    assert not [w for w in recwarn if "notna" in str(w.message)]


def test_a_folder_of_scenes_is_all_of_them(tmp_path: Path) -> None:
    inside = tmp_path / "scenes"
    inside.mkdir()
    for k in range(2):
        blobs = scene(inside / f"s{k}.tif", west=500000.0 + SIZE * k)
    polygons(blobs, 900000.0).to_file(tmp_path / "labels.gpkg")
    line = refused(inside, "-l", tmp_path / "labels.gpkg", "-o", tmp_path / "x.zip")
    assert "no label lies on any of the 2 scenes" in line
    with rasterio.open(inside / "s0.tif") as file:
        assert file.count == 3


def test_the_report_shows_any_class_name_and_true_colours(recwarn: Any) -> None:
    """Names that matplotlib would take for mathematics, or has no letters for."""
    legend = Legend((Category(0, "$x_{", "#00aa00"), Category(1, "草 <b>", "#aa0000")))
    pixels = np.zeros((4, 64, 64), np.uint16)
    pixels[2] = np.arange(64)
    labels = (np.indices((64, 64))[1] // 32).astype(np.uint8)
    ground = Labelled(name="s.tif", pixels=pixels, valid=np.ones((64, 64), bool), labels=labels)
    place = Place(ground, 0, 0, labels, Confusion.of(labels, labels))
    card = ModelCard(name="m", task="semantic", legend=legend, bands=("B02", "B03", "B04", "B08"))
    figures = {"mIoU": 1.0, "IoU $x_{": 1.0, "IoU 草 <b>": 1.0}
    log = [{"step": 1, "loss": 1.0} | figures]
    outcome = Outcome(card=card, labels=legend, log=log, places=[place], figures=figures)
    page = report_html(outcome, ())
    assert "IoU $x_{" in page and "IoU 草 &lt;b&gt;" in page and "<b>" in page
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
    # B04 is the red one
    picture = base64.b64decode(page.split("base64,")[2].split("'")[0])
    left = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))[:, :270].reshape(-1, 3)
    coloured = left[(left.max(1) - left.min(1)) > 60]
    assert len(coloured) and (coloured[:, 0] > coloured[:, 2]).all()


def test_a_legend_that_is_none_says_which_file_and_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "leg.json").write_text('{"0": "soil"}')
    with pytest.raises(InputError, match=r"leg\.json: not a legend .*\"categories\""):
        Legend.open(tmp_path / "leg.json")
