"""A semantic network as geoseg runs it: inputs, symmetries, scores, memory, runtimes."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_bundle import CARD, SMALL

from geoseg.errors import InputError, ModelError
from geoseg.heap import keep_memory
from geoseg.models.catalogue import load_model
from geoseg.models.deep import backends
from geoseg.models.deep.architectures import build
from geoseg.models.deep.bundle import write_bundle
from geoseg.models.deep.calibrate import fit_temperature
from geoseg.models.deep.ensemble import ensemble
from geoseg.models.deep.inputs import to_inputs
from geoseg.models.deep.overlap import predict_batches
from geoseg.models.deep.runtime import choose
from geoseg.models.deep.semantic import SemanticSegmenter, best_class, score_of
from geoseg.models.deep.symmetry import SYMMETRIES, apply, undo
from geoseg.models.segmenter import Runtime, Segmenter
from geoseg.radiometry import Normalization, normalize, score_level
from geoseg.scene.arrays import from_array


@pytest.fixture(scope="module")
def segmenter() -> SemanticSegmenter:
    torch.manual_seed(0)
    return SemanticSegmenter.from_module(build(SMALL).eval(), CARD)


def tiles(count: int = 4, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return pixels, np.ones((count, size, size), bool)


# inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "dn", "scale", "offset", "by_hand"),
    [
        ("uint8", 200, 1 / 255, 0.0, (200 / 255 - 0.4) / 0.2),
        ("uint16", 3000, 1e-4, 0.0, (0.3 - 0.4) / 0.2),
        ("int16", 3000, 1e-4, -0.1, (0.2 - 0.4) / 0.2),
        ("float32", 0.3, 1.0, 0.0, (0.3 - 0.4) / 0.2),
        ("float64", 0.3, 1.0, 0.0, (0.3 - 0.4) / 0.2),
    ],
)
def test_the_network_sees_hand_computed_values(dtype, dn, scale, offset, by_hand) -> None:
    how = Normalization(scale=(scale,), offset=(offset,), mean=(0.4, 0.1), std=(0.2, 0.5))
    pixels = np.full((1, 2, 4, 4), dn, dtype)
    seen = to_inputs(pixels, np.ones((1, 4, 4), bool), how, "cpu")
    assert seen.dtype == torch.float32
    assert float(seen[0, 0, 1, 2]) == pytest.approx(by_hand, abs=1e-5)
    assert float(seen[0, 1, 1, 2]) == pytest.approx((by_hand * 0.2 + 0.3) / 0.5, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["uint8", "int16", "uint16", "float32"]).flatmap(
        lambda name: hnp.arrays(np.dtype(name), (2, 3, 5, 7))
    ),
    st.sampled_from(["standard", "log_sigmoid"]),
)
def test_the_device_gives_what_the_pure_function_gives(pixels: np.ndarray, kind: str) -> None:
    how = Normalization(
        kind=kind, scale=(0.5, 1.0, 2.0), offset=(1.0,), mean=(0.1,), std=(0.3, 0.5, 2.0)
    )
    valid = np.ones((2, 5, 7), bool)
    seen = to_inputs(pixels, valid, how, "cpu").numpy()
    with np.errstate(all="ignore"):
        wanted = normalize(pixels, how)
    lost = ~np.isfinite(pixels).all(axis=1, keepdims=True) | ~np.isfinite(wanted)
    wanted = np.where(lost, np.float32(0.5 if kind == "log_sigmoid" else 0), wanted)
    np.testing.assert_array_equal(seen, wanted)


def test_invalid_pixels_look_like_the_mean() -> None:
    pixels, valid = tiles(1, 8)
    valid[0, 2, 3] = False
    seen = to_inputs(pixels, valid, CARD.normalization, "cpu")
    assert (seen[0, :, 2, 3] == 0).all()
    assert (seen[0, :, 2, 4] != 0).any()


def test_the_bands_own_scale_is_used_where_the_card_wants_reflectance(segmenter) -> None:
    how = Normalization(mean=(0.2,), std=(0.1,))
    card = replace(CARD, values="reflectance", normalization=how, value_range=(0, 1))
    model = replace(segmenter, card=card)
    place = {"crs": "EPSG:32632", "transform": Affine(0.2, 0, 5e5, 0, -0.2, 5e6)}
    scene = from_array(np.full((3, 64, 64), 9000, np.uint16), bands=CARD.bands, **place)
    bands = tuple(replace(band, scale=2.75e-5, offset=-0.2) for band in scene.bands)
    fitted, _ = model.for_scene(replace(scene, bands=bands))  # Landsat collection 2
    seen = fitted._inputs(np.full((1, 3, 8, 8), 9000, np.uint16), np.ones((1, 8, 8), bool))
    assert seen[0, 0, 0, 0] == pytest.approx((9000 * 2.75e-5 - 0.2 - 0.2) / 0.1, abs=1e-4)


# symmetries, ensembles, scores ------------------------------------------------------------


@pytest.mark.parametrize("name", SYMMETRIES)
def test_symmetries_are_undone_and_differ(name: str) -> None:
    x = torch.arange(2 * 16).reshape(2, 4, 4)
    assert torch.equal(undo(apply(x, name), name), x)
    assert len({tuple(apply(x, other).flatten().tolist()) for other in SYMMETRIES}) == 8


def test_symmetries_are_averaged_by_hand(segmenter) -> None:
    pixels, valid = tiles(2)
    turned = replace(segmenter.with_parameters(symmetries=8), with_probs=True)
    found = np.stack([tile.probs for tile in turned.predict(pixels, valid)])
    plain = replace(segmenter, with_probs=True)
    total = np.zeros_like(found)
    for k in range(4):
        for mirrored in (False, True):
            given_pixels = np.rot90(pixels[..., ::-1] if mirrored else pixels, k, (-2, -1))
            probs = np.stack([t.probs for t in plain.predict(given_pixels.copy(), valid)])
            back = np.rot90(probs, -k, (-2, -1))
            total += back[..., ::-1] if mirrored else back
    np.testing.assert_allclose(found, total / 8, atol=1e-5)


def test_symmetries_make_the_map_turn_with_the_scene(segmenter) -> None:
    """With all eight, a turned tile gives the turned probabilities."""
    pixels, valid = tiles(1)
    model = replace(segmenter.with_parameters(symmetries=8), with_probs=True)
    first = model.predict(pixels, valid)[0].probs
    turned = model.predict(np.rot90(pixels, 1, (-2, -1)).copy(), valid)[0].probs
    np.testing.assert_allclose(np.rot90(first, 1, (-2, -1)), turned, atol=1e-5)


def test_an_ensemble_is_the_mean_of_its_members(segmenter, tmp_path) -> None:
    torch.manual_seed(5)
    other = build(SMALL).eval()
    card = replace(CARD, name="second", bands=("blue", "green", "red"), halo=64, tile_size=256)
    write_bundle(tmp_path / "a.zip", CARD, SMALL, segmenter.network.module.state_dict())
    write_bundle(tmp_path / "b.zip", card, SMALL, other.state_dict())
    both = load_model(f"{tmp_path}/a.zip+{tmp_path}/b.zip")
    assert isinstance(both, Segmenter)
    assert (both.card.halo, both.card.tile_size) == (64, 256)
    assert both.card.bands == ("red", "green", "blue")
    pixels, valid = tiles(2)
    mean = replace(both, with_probs=True).predict(pixels, valid)[0].probs
    first = replace(segmenter, with_probs=True).predict(pixels, valid)[0].probs
    second = SemanticSegmenter.from_module(other, card)
    swapped = replace(second, with_probs=True).predict(pixels[:, ::-1].copy(), valid)[0].probs
    np.testing.assert_allclose(mean, (first + swapped) / 2, atol=1e-6)
    with pytest.raises(ModelError, match="different classes"):
        ensemble([segmenter, load_model("terrain")])


probabilities = hnp.arrays(np.float32, (1, 4, 3, 5), elements=st.floats(0.015625, 1, width=32)).map(
    lambda p: torch.from_numpy(p / p.sum(1, keepdims=True))
)


@settings(max_examples=60, deadline=None)
@given(probabilities)
def test_scores_are_what_they_are_called(probs: torch.Tensor) -> None:
    array = probs.numpy()
    ordered = np.sort(array, axis=1)
    np.testing.assert_allclose(score_of(probs, "confidence"), ordered[:, -1])
    np.testing.assert_allclose(score_of(probs, "margin"), ordered[:, -1] - ordered[:, -2])
    entropy = -(array * np.log(array)).sum(1) / np.log(4)
    np.testing.assert_allclose(score_of(probs, "entropy"), entropy.clip(0, 1), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(probabilities, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_thresholds_leave_the_best_class_that_reaches_its_own(probs, least) -> None:
    found = best_class(probs, tuple(least)).numpy()[0]
    array = probs.numpy()[0]
    for row in range(3):
        for col in range(5):
            held = [c for c in range(4) if array[c, row, col] >= np.float32(least[c])]
            wanted = max(held, key=lambda c: (array[c, row, col], -c)) if held else 4
            assert found[row, col] == wanted


def test_thresholds_make_nodata_where_no_class_reaches_its_own(segmenter) -> None:
    pixels, valid = tiles(1)
    strict = segmenter.with_parameters(thresholds={"roof": 1.01, "other": 0.55})
    labels = strict.predict(pixels, valid)[0].category_id
    assert set(np.unique(labels)) == {0, 255}
    with pytest.raises(InputError, match="no category 'shed'"):
        segmenter.with_parameters(thresholds={"shed": 0.5})
    for wrong in ({"symmetries": 3}, {"score": "x"}, {"temperature": 0}, {"symetries": 2}):
        with pytest.raises(ModelError, match="roofs: "):
            segmenter.with_parameters(**wrong)


def test_temperature_is_found_again_and_keeps_labels(segmenter) -> None:
    """Labels drawn from softmax(logits / 2.5): that temperature is found."""
    torch.manual_seed(0)
    logits = torch.randn(20_000, 3) * 4
    drawn = torch.multinomial((logits / 2.5).softmax(1), 1)[:, 0]
    assert fit_temperature(logits.numpy(), drawn.numpy()) == pytest.approx(2.5, rel=0.04)
    pixels, valid = tiles(2)
    warm = segmenter.with_parameters(temperature=2.5)
    for one, other in zip(segmenter.predict(pixels, valid), warm.predict(pixels, valid)):
        np.testing.assert_array_equal(one.category_id, other.category_id)
        assert (other.score <= one.score).all()


def test_layers_are_kept_beside_the_labels(segmenter) -> None:
    pixels, valid = tiles(2)
    model = segmenter.with_parameters(layers="probs,margin,entropy")
    assert model.card.layers == ("prob_0", "prob_1", "margin", "entropy")
    probs = replace(segmenter, with_probs=True).predict(pixels, valid)[1].probs
    tile = model.predict(pixels, valid)[1]
    np.testing.assert_array_equal(tile.layers["prob_1"], score_level(probs[1]))
    np.testing.assert_array_equal(tile.layers["margin"], score_level(np.abs(probs[0] - probs[1])))
    np.testing.assert_array_equal(tile.category_id, segmenter.predict(pixels, valid)[1].category_id)
    streamed = next(iter(predict_batches(model, [(pixels, valid)])))[1]
    np.testing.assert_array_equal(streamed.layers["entropy"], tile.layers["entropy"])
    with pytest.raises(ModelError, match="layer 'x': use probs, confidence"):
        segmenter.with_parameters(layers=["x"])


# batches, memory, processes ---------------------------------------------------------------


def test_a_tile_does_not_depend_on_its_batch(segmenter) -> None:
    pixels, valid = tiles(4)
    first = segmenter.predict(pixels, valid)
    order = [2, 0, 3, 1]
    again = segmenter.predict(pixels[order], valid[order])
    filled = segmenter.predict(pixels[[3, 3, 3, 3]], valid)
    for place, tile in enumerate(order):
        np.testing.assert_array_equal(again[place].score, first[tile].score)
        np.testing.assert_array_equal(again[place].category_id, first[tile].category_id)
    np.testing.assert_array_equal(filled[0].score, first[3].score)


def test_short_memory_halves_the_batch_once_and_gives_the_same(segmenter, caplog) -> None:
    pixels, valid = tiles(8)
    wanted = segmenter.predict(pixels, valid)
    forward = backends.forward_of(segmenter.network, segmenter.runtime, (8, 3, 64, 64))
    sizes = []

    def tight(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x)

    key = (segmenter.network.key, "cpu", "torch", "fp32")
    backends._ready[key] = backends.Halving(tight)
    try:
        with caplog.at_level(logging.WARNING, "geoseg"):
            found = segmenter.predict(pixels, valid)
            segmenter.predict(pixels, valid)
    finally:
        backends._ready[key] = forward
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert len(caplog.records) == 2
    assert "batches of 2 tiles" in caplog.records[1].message
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one.category_id, other.category_id)
        np.testing.assert_array_equal(one.score, other.score)


def test_one_tile_that_does_not_fit_is_an_error() -> None:
    def never(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(ModelError, match="not even one tile of 64 px"):
        backends.Halving(never)(torch.zeros(1, 3, 64, 64))


def test_other_failures_are_not_taken_for_short_memory() -> None:
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        backends.Halving(broken)(torch.zeros(4, 3, 8, 8))


def test_a_stream_of_batches_is_the_batches(segmenter) -> None:
    batches = [(p[None].repeat(2, 0), np.ones((2, 64, 64), bool)) for p in tiles(5)[0]]
    streamed = list(predict_batches(segmenter, iter(batches)))
    for one, (pixels, valid) in zip(streamed, batches, strict=True):
        for a, b in zip(one, segmenter.predict(pixels, valid), strict=True):
            np.testing.assert_array_equal(a.category_id, b.category_id)
            np.testing.assert_array_equal(a.score, b.score)


def test_it_travels_to_workers(segmenter) -> None:
    pixels, valid = tiles(1)
    there = pickle.loads(pickle.dumps(segmenter))
    assert there == segmenter
    np.testing.assert_array_equal(
        there.predict(pixels, valid)[0].score, segmenter.predict(pixels, valid)[0].score
    )


def test_a_person_s_module_is_left_alone(segmenter) -> None:
    module = build(SMALL).eval()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    SemanticSegmenter.from_module(module, CARD).predict(*tiles(1))
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_network_of_other_classes_is_an_error(segmenter) -> None:
    from geoseg.models.deep.foreign import plain_legend

    wrong = replace(segmenter, card=replace(CARD, legend=plain_legend(5)))
    with pytest.raises(ModelError, match="gives 2 classes, its legend has 5"):
        wrong.predict(*tiles(1))


# runtimes ---------------------------------------------------------------------------------


def test_the_first_pair_of_the_card_that_is_here_is_chosen(monkeypatch) -> None:
    from geoseg.models.deep import runtime

    card = replace(CARD, runtimes=("openvino-bf16", "torch-bf16", "openvino-fp32", "torch-fp32"))
    wanted = Runtime(device="cpu")

    def chosen(bf16: bool, openvino: bool) -> str:
        monkeypatch.setattr(runtime, "_cpu_has_bf16", lambda: bf16)
        monkeypatch.setattr(runtime, "find_spec", lambda name: object() if openvino else None)
        found = choose(card, wanted)
        return f"{found.backend}-{found.precision}"

    assert chosen(True, True) == "openvino-bf16"
    assert chosen(True, False) == "torch-bf16"
    assert chosen(False, True) == "openvino-fp32"
    assert chosen(False, False) == "torch-fp32"
    with pytest.raises(ModelError, match=r"openvino is not installed: pip install 'geoseg\[open"):
        choose(card, replace(wanted, backend="openvino"))
    with pytest.raises(ModelError, match="this processor has no bf16"):
        choose(card, replace(wanted, precision="bf16"))


def test_what_was_not_measured_is_had_only_by_asking(monkeypatch) -> None:
    from geoseg.models.deep import runtime

    monkeypatch.setattr(runtime, "_cpu_has_bf16", lambda: True)
    card = replace(CARD, runtimes=("torch-fp32",))
    assert choose(card, Runtime(device="cpu")).precision == "fp32"
    assert choose(card, Runtime(device="cpu", precision="bf16")).precision == "bf16"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Runtime(device="tpu"), "device 'tpu' is unknown"),
        (Runtime(device="cuda:7"), "this machine has"),
        (Runtime(device="cpu", backend="jax"), "no backend 'jax'"),
        (Runtime(device="cpu", precision="int4"), "no precision 'int4'"),
        (Runtime(device="cpu", precision="fp16"), "fp16 is for GPUs"),
    ],
)
def test_what_can_not_be_had_is_said(wanted: Runtime, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        choose(CARD, wanted)


@pytest.mark.slow
def test_openvino_gives_the_labels_of_torch(segmenter, tmp_path, monkeypatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("GEOSEG_CACHE", str(tmp_path))
    pixels, valid = tiles(2, 128)
    fast, _ = segmenter.pinned(Runtime(device="cpu", backend="openvino", threads=1, batch=2))
    wanted, found = segmenter.predict(pixels, valid), fast.predict(pixels, valid)
    same = np.mean([a.category_id == b.category_id for a, b in zip(wanted, found, strict=True)])
    assert same >= 0.999
    assert len(list(tmp_path.glob("openvino/*/model.xml"))) == 1  # converted once, kept


@pytest.mark.skipif(not keep_memory(), reason="not glibc")
def test_memory_is_kept_between_batches(segmenter) -> None:
    import resource

    pixels, valid = tiles(2, 256)
    segmenter.predict(pixels, valid)
    segmenter.predict(pixels, valid)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    segmenter.predict(pixels, valid)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < 2000  # 20,000 and more where glibc gives the memory back
