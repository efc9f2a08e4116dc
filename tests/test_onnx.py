"""ONNX out and back in, Deepness's metadata, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_bundle import CARD, SMALL

import geoseg
from geoseg.errors import ModelError, OutputError
from geoseg.legend import Category, Legend
from geoseg.models.catalogue import load_model
from geoseg.models.deep.architectures import Architecture, build, defaults
from geoseg.models.deep.onnx import deepness_metadata, export_onnx
from geoseg.models.deep.semantic import SemanticSegmenter
from geoseg.models.segmenter import ModelCard, Runtime
from geoseg.scene.arrays import from_array

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def segmenter() -> SemanticSegmenter:
    torch.manual_seed(0)
    return SemanticSegmenter.from_module(build(SMALL).eval(), CARD)


@pytest.fixture(scope="module")
def exported(segmenter: SemanticSegmenter, tmp_path_factory) -> Path:
    return export_onnx(segmenter, tmp_path_factory.mktemp("onnx") / "roofs.onnx")


def pixels_of(size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, size, size), dtype=np.uint8)
    return pixels, np.ones((2, size, size), bool)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_exported_runs_within_a_thousandth_of_torch(segmenter, exported, backend: str, tmp_path, monkeypatch) -> None:  # fmt: skip
    pytest.importorskip(backend)
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path))
    back = load_model(exported)
    runtime = Runtime(device="cpu", backend=backend, precision="fp32", threads=1, batch=2)
    back, _ = back.pinned(runtime)
    pixels, valid = pixels_of()
    object.__setattr__(segmenter, "with_probs", True)
    object.__setattr__(back, "with_probs", True)
    wanted, found = segmenter.predict(pixels, valid), back.predict(pixels, valid)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one.probs, other.probs, atol=1e-3)


def test_it_is_accepted_back_with_its_whole_card(segmenter, exported) -> None:
    card = load_model(exported).card
    assert card.legend == CARD.legend
    assert card.normalization == CARD.normalization
    assert (card.tile_size, card.halo, card.gsd_m) == (128, 32, (0.1, 0.3))
    assert card.runtimes == ("onnxruntime-fp32", "openvino-fp32")
    with pytest.raises(OutputError, match="exists"):
        export_onnx(segmenter, exported)


def test_it_maps_a_scene(exported) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 150, 170), dtype=np.uint8)
    result = geoseg.segment(from_array(pixels), str(exported), threads=1, workers=-1)
    assert set(np.unique(result.category_id)) <= {0, 1}


def test_deepness_reads_what_is_written(exported) -> None:
    """The keys and JSON values that the plugin's model_base reads."""
    session = onnxruntime.InferenceSession(exported.read_bytes())
    found = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert found["model_type"] == "Segmentor"
    assert found["class_names"] == {"0": "other", "1": "roof"}
    assert found["resolution"] == pytest.approx(17.320508)  # cm; the middle of 10 to 30
    assert found["tile_size"] == 128
    assert found["tiles_overlap"] == 50
    assert found["standardization_mean"] == [0.4, 0.5, 0.6]
    assert found["standardization_std"] == [0.2, 0.2, 0.3]
    assert session.get_inputs()[0].shape[1:] == [3, 128, 128]


def rewritten(exported: Path, out: Path, metadata: dict[str, str]) -> Path:
    model = onnx.load(exported)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, out)
    return out


def test_a_file_made_for_deepness_is_read(exported, tmp_path: Path) -> None:
    path = rewritten(exported, tmp_path / "theirs.onnx", deepness_metadata(CARD))
    card = load_model(path).card
    assert [category.name for category in card.legend] == ["other", "roof"]
    assert card.bands == ("red", "green", "blue")
    assert card.gsd_m == pytest.approx((0.17320508, 0.17320508))
    assert card.normalization.mean == (0.4, 0.5, 0.6)
    assert (card.tile_size, card.halo, card.divisor) == (128, 32, 32)
    assert card.parameters["activated"] is True
    bare = load_model(rewritten(exported, tmp_path / "bare.onnx", {})).card
    assert [category.name for category in bare.legend] == ["class_0", "class_1"]
    # older files hold Python literals
    old = {"class_names": "{0: 'x', 1: 'y'}", "model_type": '"Segmentor"'}
    named = load_model(rewritten(exported, tmp_path / "old.onnx", old)).card
    assert [category.name for category in named.legend] == ["x", "y"]


def test_one_output_is_background_and_a_class(tmp_path: Path) -> None:
    one = build(Architecture(**(SMALL.to_dict() | {"classes": 1}))).eval()
    made = SemanticSegmenter.from_module(one, CARD)
    path = export_onnx(made, tmp_path / "one.onnx")
    names = deepness_metadata(CARD) | {"class_names": json.dumps({0: "roof"})}
    model = load_model(rewritten(path, tmp_path / "named.onnx", names))
    assert [category.name for category in model.card.legend] == ["background", "roof"]
    pixels, valid = pixels_of()
    wanted = made.predict(pixels, valid)
    found = model.pinned(Runtime(backend="onnxruntime", threads=1, batch=2))[0].predict(
        pixels, valid
    )
    assert (wanted[0].category_id == found[0].category_id).mean() > 0.999


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"model_type": '"Detector"'}, "model_type is Detector"),
        ({"class_names": '{"0": "a", "1": "b", "2": "c"}'}, "gives 2 classes and names 3"),
        ({"class_names": "open('x')"}, "not JSON"),
    ],
)
def test_metadata_that_does_not_fit_says_so(exported, tmp_path, metadata, says) -> None:
    path = rewritten(exported, tmp_path / "odd.onnx", metadata)
    with pytest.raises(ModelError, match=says):
        load_model(path)


def test_tensors_in_other_files_are_refused(exported, tmp_path: Path) -> None:
    model = onnx.load(exported)
    path = tmp_path / "outside.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ModelError, match=r"refused: \d+ of its tensors lie in other files"):
        load_model(path)
    (tmp_path / "page.onnx").write_text("<html>")
    with pytest.raises(ModelError, match="not an ONNX file"):
        load_model(tmp_path / "page.onnx")


def test_torch_does_not_run_onnx(exported) -> None:
    with pytest.raises(ModelError, match="does not run on torch"):
        load_model(exported).pinned(Runtime(backend="torch"))


@pytest.mark.slow
@pytest.mark.parametrize("bands", [1, 12])
@pytest.mark.parametrize(
    "name",
    [
        "fcn",
        "unet",
        "unetplusplus",
        "deeplabv3plus",
        "fpn",
        "pspnet",
        "segformer",
        "upernet",
        "dpt",
    ],
)
def test_every_architecture_goes_out_and_comes_back(name: str, bands: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = {"segformer": "mit_b0", "dpt": "tu-vit_tiny_patch16_224"}
    options = {"decoder_intermediate_channels": [16] * 4, "decoder_fusion_channels": 16}
    given = Architecture(
        name=name,
        encoder=small.get(name, "tu-mobilenetv3_small_050"),
        bands=bands,
        classes=3,
        options=options if name == "dpt" else {},
    )
    legend = Legend(tuple(Category(i, n, "#ff0000") for i, n in enumerate("abc")))
    card = ModelCard(
        name=name,
        task="semantic",
        bands=tuple(f"band_{i}" for i in range(bands)),
        legend=legend,
        tile_size=64,
        divisor=defaults(name).divisor,
    )
    model = SemanticSegmenter.from_module(build(given).eval(), card)
    path = export_onnx(model, tmp_path / "model.onnx")  # compared with torch, within 1e-3
    back = replace(load_model(path), runtime=Runtime(device="cpu", backend="onnxruntime", precision="fp32", threads=1, batch=1))  # fmt: skip
    pixels = np.random.default_rng(0).random((1, bands, 64, 64), np.float32)
    valid = np.ones((1, 64, 64), bool)
    here = replace(model, with_probs=True).predict(pixels, valid)[0].probs
    there = replace(back, with_probs=True).predict(pixels, valid)[0].probs
    assert np.abs(here - there).max() < 1e-3
