"""Every light trainable head learns a real crop of 256 px by heart: mask AP50 of at least 0.9."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from overfit import QUERIES, WEED_CATEGORIES, ap50, box_ap50, boxes, crop, learn

from geoseg.legend import Category, Legend
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.centers import (
    CenterRule,
    CenterTargets,
    Channels,
    center_loss,
    center_targets,
    split,
)
from geoseg.models.deep.detections import DetectionRule, read_objects
from geoseg.models.deep.instance import box_targets, detect, detection_targets
from geoseg.models.deep.oneshot import centers_tile, parcels_tile
from geoseg.models.deep.parcels import ParcelRule, parcel_loss, parcel_targets
from geoseg.models.segmenter import InstanceTile

TINY = "tu-mobilenetv3_small_050"
FIELDS = Legend((Category(1, "field", "#e6ab02", True),))
WEEDS = Legend(
    (Category(1, "caruru_weed", "#d95f02", True), Category(3, "soy_plant", "#66a61e", True))
)
GROUND = Category(0, "ground", "#a6761d")
LEGENDS = {"fields": FIELDS, "weeds": WEEDS}
SLIM = {"decoder_channels": (64, 48, 32, 24, 16)}
EVERYWHERE = np.ones((256, 256), bool)


def panoptic(legend: Legend) -> Legend:
    return Legend((GROUND, *legend), legend.name)


@pytest.fixture(autouse=True)
def _same_every_time() -> None:
    torch.manual_seed(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fields", "weeds"])
def test_parcels(name: str) -> None:
    x, ids, _ = crop(name)
    net = build(Architecture(name="parcels", encoder=TINY, bands=3, classes=3, options=SLIM))
    target = torch.from_numpy(parcel_targets(ids, reach_px=16))[None]
    known = torch.ones(1, 256, 256, dtype=torch.bool)
    losses = learn(net, lambda: parcel_loss(net(x), target, known), 60, 3e-3)
    assert losses[-1] < 0.5 * losses[0]
    with torch.inference_mode():
        probs = net(x).sigmoid()[0].numpy()
    found = parcels_tile(probs, EVERYWHERE, FIELDS, ParcelRule())
    assert ap50(found, ids, np.where(ids > 0, 1, 255)) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "name", "steps"),
    [
        ("panoptic_deeplab", "weeds", 60),
        ("panoptic_deeplab", "fields", 60),
        ("centers", "fields", 100),
        ("centers", "weeds", 100),
    ],
)
def test_centers(network: str, name: str, steps: int) -> None:
    one_decoder = network == "centers"
    legend = LEGENDS[name] if one_decoder else panoptic(LEGENDS[name])
    channels = Channels.of(legend)
    x, ids, category = crop(name)
    channel = channels.index(np.where(ids > 0, category, channels.category_id[0]))
    targets = CenterTargets(*(torch.as_tensor(a)[None] for a in center_targets(ids, channel)))
    net = build(Architecture(name=network, encoder=TINY, bands=3, classes=len(channels)))
    # long offsets come late in the one decoder for all: here they weigh as much as the rest
    far = one_decoder and name == "fields"
    weight = {"semantic": 3.0, "center": 0.2, "offset": 10.0} if far else {}

    def loss() -> torch.Tensor:
        losses = center_loss(split(net(x)), targets)
        return sum((v * weight.get(k, 1.0) for k, v in losses.items()), torch.zeros(()))

    losses = learn(net, loss, steps, 3e-3)
    assert losses[-1] < 0.5 * losses[0]
    # fields reach further than the rule's default has it
    rule = CenterRule(threshold=0.5, reach_px=96)
    with torch.inference_mode():
        found = centers_tile(net(x), EVERYWHERE, channels, rule)
    assert ap50(found, ids, category) >= 0.9
    if network == "panoptic_deeplab":
        assert (found.category_id != 255).all()


def labels_of(category: np.ndarray, legend: Legend) -> np.ndarray:
    """Classes from 1 in the legend's order of things; 0 where there is none."""
    ids = [c.id for c in legend if c.isthing]
    return sum(((category == i) * k for k, i in enumerate(ids, 1)), np.zeros_like(category, int))


@pytest.mark.parametrize("name", ["weeds", pytest.param("fields", marks=pytest.mark.slow)])
def test_mask_rcnn(name: str) -> None:
    legend = LEGENDS[name]
    x, ids, category = crop(name)
    target = detection_targets(ids, labels_of(category, legend))
    net = build(
        Architecture(
            name="mask_rcnn", encoder=TINY, bands=3, classes=len(legend), options={"width": 32}
        )
    )
    losses = learn(net, lambda: total(detect(net, list(x), [target]).losses), 60, 3e-3)
    assert losses[-1] < 0.5 * losses[0]
    with torch.inference_mode():
        found = read_objects(net, "mask_rcnn", x, legend, DetectionRule())[0]
    assert ap50(found, ids, category) >= 0.9


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(losses.values(), torch.zeros(()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fields", "weeds"])
def test_panoptic_fpn(name: str) -> None:
    things = LEGENDS[name]
    legend = panoptic(things)
    x, ids, category = crop(name)
    target = detection_targets(ids, labels_of(category, things))
    target["semantic"] = torch.from_numpy(np.where(ids > 0, 0, 1))  # all things, ground
    net = build(
        Architecture(
            name="panoptic_fpn",
            encoder=TINY,
            bands=3,
            classes=len(legend),
            options={"things": len(things), "width": 32},
        )
    )
    losses = learn(net, lambda: total(net(list(x), [target])), 60, 3e-3)
    assert losses[-1] < 0.5 * losses[0]
    with torch.inference_mode():
        found = read_objects(net, "panoptic_fpn", x, legend, DetectionRule())[0]
    assert ap50(found, ids, category) >= 0.9
    assert (found.category_id != 255).all()


@pytest.mark.slow
def test_boxes_of_trees() -> None:
    x, _, _ = crop("trees")
    truth = boxes()
    target = box_targets(truth, np.ones(len(truth), int), (256, 256))
    net = build(
        Architecture(name="mask_rcnn", encoder=TINY, bands=3, classes=1, options={"width": 32})
    )
    learn(net, lambda: total(detect(net, list(x), [target]).losses), 60, 3e-3)
    with torch.inference_mode():
        one = detect(net, list(x)).detections[0]
    assert box_ap50(one["boxes"].numpy(), one["scores"].numpy(), truth) >= 0.9


def test_the_measure_sees_what_is_wrong() -> None:
    _, ids, category = crop("weeds")
    level = np.where(ids > 0, np.uint8(200), np.uint8(255))
    perfect = InstanceTile(ids, category, level)
    assert ap50(perfect, ids, category) == 1.0
    # the weed, one object, is still found; the plants are one
    assert ap50(replace(perfect, instance_id=(ids > 0).astype(np.int32)), ids, category) == 0.5
    assert set(np.unique(category[ids > 0])) == set(WEED_CATEGORIES)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mask_rcnn", "panoptic_fpn"])
def test_the_loss_falls_with_resnet50(network: str) -> None:
    x, ids, category = crop("weeds")
    target = detection_targets(ids, labels_of(category, WEEDS))
    target["semantic"] = torch.from_numpy(np.where(ids > 0, 0, 1))
    classes, options = (3, {"things": 2}) if network == "panoptic_fpn" else (2, {})
    net = build(Architecture(name=network, bands=3, classes=classes, options=options))
    small = x[..., 64:192, 128:256]
    window = {k: v[..., 64:192, 128:256] for k, v in target.items() if k in ("semantic",)}
    cut = detection_targets(ids[64:192, 128:256], labels_of(category, WEEDS)[64:192, 128:256])

    def loss() -> torch.Tensor:
        if network == "mask_rcnn":
            return total(detect(net, list(small), [cut]).losses)
        return total(net(list(small), [cut | window]))

    losses = learn(net, loss, 12, 1e-3)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mask2former", "maskformer"])
def test_the_loss_falls_with_queries(network: str) -> None:
    from test_instance_detect import TINY_QUERIES

    from geoseg.models.deep.transformer import query_loss

    x, ids, category = crop("weeds")
    target = detection_targets(ids, labels_of(category, WEEDS))
    wanted = {"masks": target["masks"], "labels": target["labels"] - 1}
    options = TINY_QUERIES[network]
    net = build(Architecture(name=network, bands=3, classes=2, options=options))
    losses = learn(net, lambda: query_loss(net, x, [wanted]), 40, 1e-3)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fields", "weeds"])
def test_queries_of_maskformer(name: str) -> None:
    """Queries that begin too much alike all find the same object."""
    pytest.importorskip("transformers")
    from geoseg.models.deep.transformer import query_loss

    x, ids, category = crop(name)
    legend = LEGENDS[name]
    target = detection_targets(ids, labels_of(category, legend))
    wanted = {"masks": target["masks"], "labels": target["labels"] - 1}
    options = QUERIES["maskformer"]
    net = build(Architecture(name="maskformer", bands=3, classes=len(legend), options=options))
    learn(net, lambda: query_loss(net, x, [wanted]), 300, 1e-3)
    with torch.inference_mode():
        found = read_objects(net, "maskformer", x, legend, DetectionRule())[0]
    assert ap50(found, ids, category) >= 0.9
