"""geoseg train --task instance and panoptic: things from polygons, rasters and COCO."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from click.testing import CliRunner, Result
from rasterio.transform import from_origin
from scipy import ndimage

from geoseg.assess.overlap import OverlapTable
from geoseg.cli import geoseg
from geoseg.errors import InputError
from geoseg.learn.goal import TRAINED, Goal
from geoseg.learn.labels import LabelOptions
from geoseg.learn.objective import Centers
from geoseg.learn.samples import IGNORE, Chip, Labelled
from geoseg.learn.things import Things, ThingValidation
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.bundle import open_bundle
from geoseg.models.segmenter import InstanceTile
from geoseg.radiometry import Normalization

SIZE = 192
FAST = ["--batch", "2", "--size-px", "64", "--threads", "1", "--evaluate-every", "0",
        "--checkpoint-every", "3", "--encoder", "tu-mobilenetv3_small_050"]  # fmt: skip
THINGS = ["--task", "instance", "--exhaustive"]


def squares() -> np.ndarray:
    """Numbers of bright squares, two of which touch each other."""
    ids = np.zeros((SIZE, SIZE), np.int32)
    corners = [(r, c) for r in range(6, SIZE - 26, 32) for c in range(6, SIZE - 26, 32)]
    for number, (row, col) in enumerate(corners, 1):
        ids[row : row + 20, col : col + 20] = number
    return ids


def polygons(ids: np.ndarray) -> gpd.GeoDataFrame:
    """A polygon each; squares of odd numbers are crops, the others weeds."""
    found = ndimage.find_objects(ids)
    boxes = [shapely.box(500000 + c.start, 5.4e6 - r.stop, 500000 + c.stop, 5.4e6 - r.start)
             for r, c in found]  # fmt: skip
    names = ["crop" if k % 2 else "weed" for k in range(1, len(boxes) + 1)]
    return gpd.GeoDataFrame({"category": names}, geometry=boxes, crs="EPSG:32633")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    ids = squares()
    values = 60 + 110 * (ids > 0) + np.random.default_rng(0).normal(0, 6, (3, *ids.shape))
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": "EPSG:32633",
               "width": SIZE, "height": SIZE, "transform": from_origin(500000, 5.4e6, 1, 1)}  # fmt: skip
    with rasterio.open(tmp_path / "scene.tif", "w", **profile) as file:
        file.write(np.clip(values, 1, 255).astype(np.uint8))
    with rasterio.open(tmp_path / "ids.tif", "w", **(profile | {"count": 1, "dtype": "uint16"})) as file:  # fmt: skip
        file.write(ids.astype(np.uint16) * 3, 1)
    frame = polygons(ids)
    frame.to_file(tmp_path / "labels.gpkg")
    frame[["geometry"]].to_file(tmp_path / "plain.gpkg")
    return tmp_path / "scene.tif", tmp_path / "plain.gpkg", ids


def train(*arguments: Any) -> Result:
    return CliRunner().invoke(geoseg, ["train", *map(str, arguments)])


def refused(*arguments: Any) -> str:
    result = train(*arguments)
    assert result.exit_code == 2, result.output
    return [x for x in result.output.splitlines() if x.startswith("geoseg:")][-1]


@pytest.mark.slow
def test_polygons_without_a_class_become_a_model_that_maps_them(files, tmp_path: Path) -> None:
    image, labels, ids = files
    out = tmp_path / "parcels.zip"
    result = train(image, "-l", labels, "-o", out, *THINGS, *FAST, "--steps", "60", "--lr", "5e-3",
                   "--encoder", "tu-tf_efficientnet_lite0")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "validation PQ" in result.output and "F1" in result.output
    bundle = open_bundle(out)
    assert bundle.architecture.name == "parcels" and bundle.card.task == "instance"
    assert [(c.name, c.isthing) for c in bundle.card.legend] == [("object", True)]
    page = (tmp_path / "parcels.html").read_text()
    assert "background" in page and page.count("<img") >= 2  # the curves, a place
    target = tmp_path / "map.gpkg"
    mapped = CliRunner().invoke(
        geoseg, ["map", str(image), "--model", str(out), "-o", str(target), "-q"]
    )
    assert mapped.exit_code == 0, mapped.output
    assert abs(len(gpd.read_file(target)) - ids.max()) <= 3


def test_all_kinds_of_labels_say_the_same(files, tmp_path: Path) -> None:
    from geoseg.labels.coco import LabelImage, write_coco_instances
    from geoseg.learn.ground import read_labels
    from geoseg.legend import Category, Legend
    from geoseg.scene.opening import open_scene

    image, plain, ids = files
    coco = tmp_path / "labels.json"
    category = np.where(ids > 0, 0, 255).astype(np.uint8)
    legend = Legend((Category(0, "object", "#0072b2", isthing=True),))
    image_of = LabelImage(
        file_name="scene.tif", category_id=category, instance_id=ids.astype(np.uint32)
    )
    write_coco_instances(coco, [image_of], legend)
    options = LabelOptions(things=True, exhaustive=True)
    for path in (plain, tmp_path / "ids.tif", coco):
        found = read_labels(open_scene(image), path, options, SIZE)
        assert found.names == ("object", "background"), path
        np.testing.assert_array_equal(found.position, np.where(ids > 0, 0, 1))
        assert found.instance_id is not None
        pairs = np.unique(np.stack([found.instance_id, ids]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == ids.max() + 1, "one number each"
    assert found.things == {"object"}
    seen = read_labels(open_scene(image), plain, LabelOptions(things=True), SIZE)
    assert set(np.unique(seen.position)) == {0, IGNORE}, "unlabelled is ignored"


def command_line(image: Path, labels: Path, out: Path) -> list[str]:
    return ["train", image, "-l", labels, "-o", out, *THINGS, *FAST, "--steps", "10"]


@pytest.mark.slow
def test_killed_and_run_again_gives_the_same_weights(files, tmp_path: Path) -> None:
    image, labels, _ = files
    cut = tmp_path / "cut.zip"
    checkpoint = tmp_path / "cut.zip.geoseg-train" / "checkpoint.pt"
    process = subprocess.Popen(
        [sys.executable, "-m", "geoseg.cli", *command_line(image, labels, cut)],
        stderr=subprocess.DEVNULL,
    )
    assert train(*command_line(image, labels, tmp_path / "whole.zip")[1:]).exit_code == 0
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.005)
    process.kill()
    process.wait()
    if not cut.exists():
        assert train(*command_line(image, labels, cut)[1:]).exit_code == 0
    one, other = (open_bundle(tmp_path / n).read_weights() for n in ("whole.zip", "cut.zip"))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_stuff_and_things(files, tmp_path: Path) -> None:
    image, _, _ = files
    out = tmp_path / "both.zip"
    result = train(image, "-l", tmp_path / "labels.gpkg", "-o", out, "--task", "panoptic",
                   "--exhaustive", "--things", "crop,weed", *FAST, "--steps", "2")  # fmt: skip
    assert result.exit_code == 0, result.output
    bundle = open_bundle(out)
    assert bundle.architecture.name == "centers" and bundle.card.task == "panoptic"
    named = [(c.name, c.isthing) for c in bundle.card.legend]
    assert named == [("background", False), ("crop", True), ("weed", True)]
    several = tmp_path / "several.zip"
    result = train(image, "-l", tmp_path / "labels.gpkg", "-o", several, *THINGS, *FAST,
                   "--steps", "2")  # fmt: skip
    assert result.exit_code == 0, result.output
    bundle = open_bundle(several)
    assert bundle.architecture.name == "centers", "parcels know one class"
    assert [c.name for c in bundle.card.legend] == ["crop", "weed"]


def test_what_does_not_fit_is_one_clear_line(files, tmp_path: Path) -> None:
    image, plain, _ = files
    named = tmp_path / "labels.gpkg"
    out = ("-o", tmp_path / "out.zip", *FAST, "--steps", "2")
    said = refused(image, "-l", named, *out, "--architecture", "parcels")
    assert "--architecture parcels is not trained by --task semantic" in said
    assert "--task instance" in said
    said = refused(image, "-l", plain, *out, *THINGS, "--architecture", "unet")
    assert "unet is not trained by --task instance" in said and "parcels" in said
    said = refused(image, "-l", plain, *out, *THINGS, "--architecture", "mask_rcnn")
    assert "mask_rcnn is not trained" in said
    said = refused(image, "-l", plain, *out, "--task", "instance")
    assert "don't say where none are" in said and "--exhaustive" in said
    said = refused(image, "-l", named, *out, *THINGS, "--architecture", "parcels")
    assert "one class of things" in said and "centers" in said
    assert "--things is for" in refused(image, "-l", named, *out, *THINGS, "--things", "crop")
    panoptic = ("--task", "panoptic", "--exhaustive")
    assert "--things" in refused(image, "-l", named, *out, *panoptic)
    assert "--things mud" in refused(image, "-l", named, *out, *panoptic, "--things", "mud")
    both = refused(image, "-l", named, *out, *THINGS, "--extent", named)
    assert "--extent and --exhaustive" in both
    assert "multiple of 32" in refused(image, "-l", plain, *out, *THINGS, "--size-px", "72")
    assert not list(tmp_path.glob("out*")), "nothing is left behind"


def test_one_window_a_step_works_or_is_refused(files, tmp_path: Path) -> None:
    image, plain, _ = files
    out = ("-o", tmp_path / "out.zip", *FAST, "--steps", "2", "--batch", "1")
    named = ("-l", tmp_path / "labels.gpkg", "--exhaustive")
    said = refused(image, *named, *out, "--architecture", "deeplabv3plus")
    assert "--batch 1" in said and "--batch 2" in said
    assert not list(tmp_path.glob("out*")), "nothing is left behind"
    result = train(image, "-l", plain, *out, *THINGS)
    assert result.exit_code == 0, result.output


def test_every_trained_network_takes_its_targets() -> None:
    ids = squares()[:64, :64]
    labels = np.where(ids > 0, 0, 1).astype(np.uint8)
    labels[:, 60:] = IGNORE
    chip = Chip(np.zeros((3, 64, 64), np.float32), labels, ids)
    for task, things in (("instance", {"crop"}), ("panoptic", {"crop"})):
        for name in TRAINED[task]:
            goal = Goal(task=task, architecture=name, classes=("crop", "background"),
                        things=frozenset(things))  # fmt: skip
            objective = goal.objective(0.0)
            made = Architecture(name=name, encoder="tu-mobilenetv3_small_050", bands=3,
                                classes=goal.outputs)  # fmt: skip
            logits = build(made)(torch.zeros(2, 3, 64, 64))
            assert logits.shape[1] == objective.outputs
            targets = torch.from_numpy(np.stack([objective.targets(chip)] * 2))
            assert torch.isfinite(objective.loss(logits, targets))


def test_unlabelled_ground_moves_no_weight() -> None:
    objective = Centers((1, 0))
    ids = squares()[:32, :32]
    labels = np.where(ids > 0, 0, 1).astype(np.uint8)
    labels[:, 20:] = IGNORE
    targets = torch.from_numpy(objective.targets(Chip(np.zeros((3, 32, 32)), labels, ids)))[None]
    logits = torch.randn(1, objective.outputs, 32, 32, requires_grad=True)
    objective.loss(logits, targets).backward()
    assert logits.grad is not None
    assert not logits.grad[..., 20:].any() and logits.grad[..., :20].any()


class Perfect(torch.nn.Module):
    """Gives its input back."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def test_validation_joins_squares_and_judges_only_what_is_labelled() -> None:
    ids = squares()
    ids[60:100, 60:100] = 99  # across squares of 64 px
    labels = np.where(ids > 0, 0, 1).astype(np.uint8)
    labels[:, 150:] = IGNORE

    def decode(logits: torch.Tensor, valid: np.ndarray) -> InstanceTile:
        found = np.where(valid, logits[0].numpy().round().astype(np.int32), 0)
        category = np.where(found > 0, 0, 255).astype(np.uint8)
        return InstanceTile(found, category, category)

    things = Things(classes=("crop", "background"), isthing=(True, False), nothing=1, decode=decode)
    ground = Labelled(name="squares", pixels=ids[None].astype(np.float32),
                      valid=np.ones(ids.shape, bool), labels=labels, instance_id=ids)  # fmt: skip
    how = Normalization()
    judge = ThingValidation([ground, ground], things, how, 32, 64)
    figures = judge(Perfect(), 1)
    assert figures["PQ"] == figures["F1"] == figures["mIoU"] == 1.0
    judged = np.unique(ids[:, :150])
    pairs = sum((p.pairs for p in judge.places(Perfect())), OverlapTable.empty())
    found = np.unique(pairs.truth[pairs.truth >= 0])
    assert len(found) == 2 * (len(judged) - 1), "those of two grounds don't meet"
    wrong = ids.copy()
    wrong[wrong == 99] = 0
    missing = Labelled(name="less", pixels=wrong[None].astype(np.float32),
                       valid=np.ones(ids.shape, bool), labels=labels, instance_id=ids)  # fmt: skip
    less = ThingValidation([missing], things, how, 32, 64)(Perfect(), 1)
    n = len(judged) - 1
    assert less["F1"] == pytest.approx((n - 1) / (n - 0.5)), "one missed"
    assert less["IoU background"] < 1


def test_goals_say_what_they_lack() -> None:
    with pytest.raises(InputError, match="none of a, b is a thing"):
        Goal(task="panoptic", classes=("a", "b"))
    goal = Goal(task="instance", classes=("a", "b", "background"), things=frozenset("ab"))
    assert goal.network == "centers" and goal.outputs == 3
    assert json.dumps([c.name for c in goal.legend]) == '["a", "b"]'
