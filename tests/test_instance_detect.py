"""Boxes, masks and queries: targets and decoding against independent references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import batched_nms, masks_to_boxes

from geoseg.errors import ModelError
from geoseg.legend import Category, Legend
from geoseg.models.catalogue import load_model
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.detections import (
    DetectionRule,
    lay_down,
    masks_from_heads,
    paste,
    stuff_labels,
    suppress,
)
from geoseg.models.deep.instance import box_targets, detect, detection_targets
from geoseg.models.deep.panoptic import SemanticBranch
from geoseg.models.deep.transformer import decode_queries
from geoseg.models.deep.yolo import YoloOutput, YoloSegmenter, decode_yolo
from geoseg.models.segmenter import Runtime

THINGS = Legend((Category(2, "crown", "#00ff00", True), Category(5, "pole", "#ff0000", True)))
MIXED = Legend((Category(0, "soil", "#aa8800"), Category(4, "plant", "#00ff00", True)))

_SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 12, "num_heads": [1, 2, 3, 4], "window_size": 4}
TINY_QUERIES: dict[str, dict[str, Any]] = {
    "mask2former": {
        "backbone": _SWIN,
        "feature_size": 32,
        "mask_feature_size": 32,
        "hidden_dim": 32,
        "encoder_feedforward_dim": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_attention_heads": 2,
        "dim_feedforward": 32,
        "num_queries": 8,
        "train_num_points": 512,
    },
    "maskformer": {
        "backbone": _SWIN,
        "fpn_feature_size": 32,
        "mask_feature_size": 32,
        "decoder": {
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "num_queries": 8,
        },
    },
}


def test_targets_are_torchvisions() -> None:
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 9, (4, 6)), np.ones((8, 8), int))
    label = np.where(ids > 0, 1 + ids % 2, 0)
    target = detection_targets(ids, label, min_px=65)
    kept = [k for k in range(1, 9) if (ids == k).sum() >= 65]
    masks = torch.as_tensor(np.stack([ids == k for k in kept]))
    assert torch.equal(target["masks"], masks.to(torch.uint8))
    inclusive = masks_to_boxes(masks)
    assert torch.equal(target["boxes"], inclusive + torch.tensor([0.0, 0, 1, 1]))
    assert target["labels"].tolist() == [1 + k % 2 for k in kept]
    empty = detection_targets(np.zeros((8, 8), int), np.zeros((8, 8), int))
    assert [tuple(v.shape) for v in empty.values()] == [(0, 4), (0,), (0, 8, 8)]


def test_boxes_alone_are_targets_too() -> None:
    target = box_targets(np.array([[1.2, 2, 4, 6.6]]), np.array([1]), (8, 8))
    assert target["masks"][0].nonzero().aminmax(dim=0).min.tolist() == [2, 1]
    assert target["masks"].sum() == 15
    with pytest.raises(ModelError, match="no area"):
        box_targets(np.array([[3, 2, 3, 6]]), np.array([1]), (8, 8))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_pasting_is_torchvisions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.random((28, 28), np.float32)
    low = rng.uniform(0, 40, 2)
    box = np.concatenate([low, low + rng.uniform(0.5, 24, 2)]).astype(np.float32)
    theirs = paste_masks_in_image(
        torch.tensor(probs)[None, None], torch.tensor(box)[None], (64, 64)
    )
    (top, left, bottom, right), mask = paste(probs, box, 0.5)
    ours = np.zeros((200, 200), bool)
    ours[top + 50 : bottom + 50, left + 50 : right + 50] = mask
    np.testing.assert_array_equal(ours[50:114, 50:114], theirs[0, 0].numpy() > 0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9))
def test_suppression_is_torchvisions(seed: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 30, (80, 2))], 1)
    scores, label = rng.permutation(80) / 80, rng.integers(0, 3, 80)
    theirs = batched_nms(*(torch.as_tensor(a) for a in (boxes, scores, label)), iou)
    assert suppress(boxes, scores, label, iou).tolist() == theirs.tolist()


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    torch.manual_seed(1)
    options = {"width": 32, "most": 40}
    given = Architecture(
        name="mask_rcnn", encoder="tu-mobilenetv3_small_050", bands=4, classes=2, options=options
    )
    return build(given).eval()


def test_detecting_is_torchvisions_forward_without_resizing(detector: torch.nn.Module) -> None:
    from torchvision.models.detection.image_list import ImageList

    x = torch.rand(1, 4, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        ours = detect(detector, list(x)).detections[0]
        # torchvision's own postprocessing of the same pass: masks pasted into the whole tile
        batch = ImageList(x, [(64, 96)])
        features = detector.backbone(x)
        proposals, _ = detector.rpn(batch, features)
        raw, _ = detector.roi_heads(features, proposals, [(64, 96)])
        theirs = detector.transform.postprocess(raw, [(64, 96)], [(64, 96)])[0]
    rule = DetectionRule(min_score=0.0, min_free=0.0)
    masks = masks_from_heads(ours, (2, 5), rule)
    assert len(masks) == len(theirs["scores"])
    for k in range(len(masks)):
        whole = np.zeros((400, 400), bool)
        top, left, bottom, right = masks.boxes[k] + 100
        whole[top:bottom, left:right] = masks.masks[k]
        np.testing.assert_array_equal(whole[100:164, 100:196], theirs["masks"][k, 0] > 0.5)


def test_overlapping_masks_are_flattened_by_score(detector: torch.nn.Module) -> None:
    found = {
        "boxes": torch.tensor([[2.0, 2, 20, 20], [10, 10, 30, 30], [40, 40, 50, 50]]),
        "labels": torch.tensor([1, 2, 1]),
        "scores": torch.tensor([0.6, 0.9, 0.3]),
        "masks": torch.ones(3, 1, 28, 28),
    }
    rule = DetectionRule()
    tile = lay_down(masks_from_heads(found, (2, 5), rule), (64, 64), rule)
    assert tile.instance_id.max() == 2
    assert tile.instance_id[15, 15] == 1
    assert tile.category_id[15, 15] == 5
    assert tile.category_id[5, 5] == 2
    assert tile.score[5, 5] == round(0.6 * 254)
    assert tile.category_id[45, 45] == 255


def test_the_semantic_branch_is_the_papers() -> None:
    torch.manual_seed(0)
    branch = SemanticBranch(8, 16, 3).eval()
    pyramid = [torch.rand(1, 8, 32 >> k, 32 >> k) for k in range(4)]
    with torch.inference_mode():
        total = torch.zeros(1, 16, 32, 32)
        for k, level in enumerate(pyramid):
            y = level
            layers = list(branch.levels[k])
            convolutions = [m for m in layers if isinstance(m, torch.nn.Conv2d)]
            norms = [m for m in layers if isinstance(m, torch.nn.GroupNorm)]
            assert len(convolutions) == max(k, 1)
            for convolve, norm in zip(convolutions, norms, strict=True):
                y = norm(convolve(y)).relu()
                if k:
                    y = functional.interpolate(y, scale_factor=2, mode="bilinear")
            total += y
        expected = functional.interpolate(branch.classify(total), scale_factor=4, mode="bilinear")
        torch.testing.assert_close(branch(pyramid), expected)


def test_stuff_is_never_the_channel_of_things() -> None:
    logits = torch.zeros(2, 4, 4)
    logits[0] = 9.0
    labels = stuff_labels(logits, MIXED)
    assert (labels.category_id == 0).all()
    with pytest.raises(ModelError, match="one for things"):
        stuff_labels(torch.zeros(3, 4, 4), MIXED)


def test_panoptic_queries_are_those_of_transformers() -> None:
    processing = pytest.importorskip("transformers.models.mask2former.image_processing_mask2former")
    rng = np.random.default_rng(4)
    noise = torch.as_tensor(rng.normal(size=(6, 8, 8)), dtype=torch.float32)
    masks = functional.interpolate(noise[None] * 6, size=(64, 64), mode="bicubic")[0].sigmoid()
    # certain queries, since transformers weighs masks by their scores before it judges areas
    classes = np.zeros((6, 3), np.float32)
    classes[np.arange(6), [0, 1, 1, 0, 2, 1]] = 1.0
    kept = [0, 1, 2, 3, 5]
    segmentation, segments = processing.compute_segments(
        masks[kept].clone(),
        torch.ones(5),
        torch.tensor([0, 1, 1, 0, 1]),
        0.5,
        0.6,
        {0},
    )
    rule = DetectionRule(min_free=0.6)
    ours = decode_queries(classes, masks.numpy(), MIXED, rule)
    kinds = {s["id"]: s["label_id"] for s in segments}
    for number, kind in kinds.items():
        own = (segmentation == number).numpy()
        if kind == 1:
            sure = own & (masks.numpy()[kept].max(0) >= 0.5)
            assert len(np.unique(ours.instance_id[sure])) == 1
            assert (ours.category_id[sure] == 4).all()
        else:
            assert (ours.category_id[own] == 0).all()
    assert ours.instance_id.max() == sum(kind == 1 for kind in kinds.values())
    assert (ours.category_id != 255).all()


def test_instance_queries_are_flattened_by_class_times_mask() -> None:
    masks = np.zeros((3, 16, 16), np.float32)
    masks[0, :8], masks[1, 4:12], masks[2] = 0.9, 0.6, 0.99
    classes = np.array([[0.6, 0.1, 0.3], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]], np.float32)
    tile = decode_queries(classes, masks, THINGS, DetectionRule(min_free=0.2))
    # 0.6 x 0.9 = 0.54 as well as 0.9 x 0.6: the first goes on top
    assert tile.category_id[5, 0] == 2
    assert tile.category_id[10, 0] == 5
    assert tile.category_id[14, 0] == 255
    assert tile.score[10, 0] == round(0.54 * 254)


def test_queries_of_maskformer_begin_apart() -> None:
    """As in the paper's code; drawn fifty times closer they all learnt the same object."""
    pytest.importorskip("transformers")
    net = build(
        Architecture(name="maskformer", bands=3, classes=2, options=TINY_QUERIES["maskformer"])
    )
    assert net.get_submodule("model.transformer_module.queries_embedder").weight.std() > 0.5


@pytest.mark.parametrize("name", ["mask2former", "maskformer"])
def test_queries_run_with_any_bands(name: str) -> None:
    pytest.importorskip("transformers")
    from geoseg.models.deep.detections import read_objects

    torch.manual_seed(0)
    net = build(Architecture(name=name, bands=5, classes=2, options=TINY_QUERIES[name])).eval()
    with torch.inference_mode():
        tile = read_objects(net, name, torch.rand(1, 5, 64, 96), MIXED, DetectionRule())[0]
    assert tile.category_id.shape == (64, 96)
    assert (tile.category_id != 255).all()


# YOLO-seg


def yolo_file(folder: Path, *, classes: int = 2, batch: int | str = 1, nms: bool = False) -> Path:
    """An ONNX file whose outputs are made of the input by rule.

    64 x 64 px, one anchor per cell of 8 px. The cell's mean red is the first class's
    probability, its mean green the second's; every box is its cell grown to 16 px. The one
    prototype of the 4 px grid is positive where blue is.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    cells = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"), -1).reshape(-1, 2)
    centers = (cells[:, ::-1].T * 8 + 4).astype(np.float32)
    fixed = np.concatenate([centers, np.full((2, 64), 16, np.float32)])[None]
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "flat_shape"], ["flat"]),
        helper.make_node("Slice", ["flat", "zero", "classes", "one"], ["probs"]),
        helper.make_node("Concat", ["boxes", "probs", "coefficient"], ["output0"], axis=1),
        helper.make_node("AveragePool", ["images"], ["fine"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Slice", ["fine", "two", "three", "one"], ["blue"]),
        helper.make_node("Sub", ["blue", "half"], ["output1"]),
    ]
    constants = {
        "flat_shape": np.array([1, 3, 64]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "three": np.array([3]),
        "classes": np.array([classes]),
        "half": np.array(0.5, np.float32),
        "boxes": fixed,
        "coefficient": np.full((1, 1, 64), 20, np.float32),
    }
    shape = [batch, 38, 64] if nms else [batch, 4 + classes + 1, 64]
    graph = helper.make_graph(
        nodes,
        "yolo",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 64, 64])],
        [
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("output1", TensorProto.FLOAT, [batch, 1, 16, 16]),
        ],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    # the default axes of Slice are the first; the second is wanted
    axis = numpy_helper.from_array(np.array([1]), "axis")
    graph.initializer.append(axis)
    for node in graph.node:
        if node.op_type == "Slice":
            node.input.insert(3, "axis")
            node.input[4] = "one"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'crown', 1: 'pole'}", "task": "segment"})
    path = folder / "yolo.onnx"
    save(model, path)
    return path


def test_a_yolo_file_is_read_run_and_decoded(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    segmenter = load_model(yolo_file(tmp_path))
    assert isinstance(segmenter, YoloSegmenter)
    assert [c.name for c in segmenter.card.legend] == ["crown", "pole"]
    assert all(c.isthing for c in segmenter.card.legend)
    assert segmenter.card.tile_size == 64
    segmenter, runtime = segmenter.pinned(Runtime(device="cpu"))
    assert runtime.backend == "onnxruntime"
    pixels = np.zeros((2, 3, 64, 64), np.uint8)
    pixels[0, 0, 8:16, 8:16] = 204  # a crown of 0.8, its box 4 to 20
    pixels[0, 1, 8:16, 40:48] = 230  # a pole of 0.9, box rows 4 to 20, columns 36 to 52
    pixels[0, 2] = 255
    pixels[0, 2, :, 44:] = 0  # no mask right of column 44
    valid = np.ones((2, 64, 64), bool)
    valid[0, :6] = False
    first, second = segmenter.predict(pixels, valid)
    assert second.instance_id.max() == 0
    crown = np.zeros((64, 64), bool)
    crown[6:20, 4:20] = True
    np.testing.assert_array_equal(first.category_id == 0, crown)
    assert (first.score[crown] == round(0.8 * 254)).all()
    rows, cols = np.nonzero(first.category_id == 1)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (6, 19, 36, 43)


def test_yolo_decoding_is_the_plain_one() -> None:
    rng = np.random.default_rng(7)
    rows = np.zeros((4 + 2 + 3, 60), np.float32)
    rows[:2], rows[2:4] = rng.uniform(5, 59, (2, 60)), rng.uniform(4, 30, (2, 60))
    rows[4:6], rows[6:] = rng.random((2, 60)), rng.normal(size=(3, 60))
    prototypes = rng.normal(size=(3, 16, 16)).astype(np.float32)
    rule = DetectionRule(min_score=0.4, iou=0.5, min_free=0.0)
    tile = decode_yolo(YoloOutput(rows, prototypes), (64, 64), THINGS, rule)
    boxes = torch.as_tensor(rows[:4].T)
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    scores, label = torch.as_tensor(rows[4:6]).max(0)
    sure = torch.nonzero(scores >= 0.4)[:, 0]
    kept = sure[batched_nms(corners[sure], scores[sure], label[sure], 0.5)]
    logits = torch.einsum(
        "mk,mrc->krc", torch.as_tensor(rows[6:, kept]), torch.as_tensor(prototypes)
    )
    masks = functional.interpolate(logits[None], size=(64, 64), mode="bilinear")[0].sigmoid() > 0.5
    expected = np.full((64, 64), 255)
    for k, mask in reversed(list(zip(kept, masks, strict=True))):
        x0, y0, x1, y1 = torch.floor(corners[k] + 0.5).clamp(0, 64).int().tolist()
        inside = np.zeros((64, 64), bool)
        inside[y0:y1, x0:x1] = True
        expected[inside & mask.numpy()] = (2, 5)[label[k]]
    np.testing.assert_array_equal(tile.category_id, expected)


def test_yolo_files_that_end_in_suppression_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = yolo_file(tmp_path, nms=True)
    import onnx

    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 300
    onnx.save(model, path)
    with pytest.raises(ModelError, match="nms=False"):
        load_model(path)
