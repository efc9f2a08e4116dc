"""What a GPU needs, as far as a processor can tell: one each, batches, memory, no second look."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toys import MeanSegmenter, array_scene

from geoseg.engine.cluster import ClusterExecutor
from geoseg.engine.gpus import dask_setup, gpus_here
from geoseg.engine.store import JobStore
from geoseg.errors import BlockError
from geoseg.models.deep import inputs, overlap, runtime
from geoseg.models.deep.backends import Halving, Limit
from geoseg.models.deep.inputs import to_inputs
from geoseg.pipeline import NoProgress, RunOptions, prepare, run
from geoseg.radiometry import Normalization


def test_each_worker_sees_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f")
    with ClusterExecutor(2) as executor:
        client = executor._client
        assert client is not None
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(seen.values()) == ["3", "GPU-5f"]


def test_gpus_are_counted_without_torch(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_here() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus_here(tmp_path / "none") == []
    for name in ("0000:3b:00.0", "0000:af:00.0"):
        (tmp_path / name).mkdir()
    assert gpus_here(tmp_path) == ["0", "1"]
    dask_setup(SimpleNamespace(name="tcp://elsewhere"))  # a worker that geoseg did not name
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2,4")
    dask_setup(SimpleNamespace(name=5))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"


def test_a_batch_that_another_day_s_memory_would_give_is_no_other_job(
    tmp_path, monkeypatch
) -> None:
    there = tmp_path / "there"

    class Late(MeanSegmenter):
        def predict(self, pixels, valid):
            if not there.exists():
                raise BlockError("not yet")
            return super().predict(pixels, valid)

    scene = array_scene(np.full((1, 60, 60), 200, np.uint8))
    store = JobStore(str(tmp_path / "job"))
    options = RunOptions(workers=-1)
    first = prepare(scene, Late(), options)
    with pytest.raises(BlockError):
        run(first, store, NoProgress())
    there.touch()
    pins = replace(first.plan.pins, batch=2 * first.plan.pins.batch)
    other = replace(first, plan=replace(first.plan, pins=pins))
    found, report = run(other, store, NoProgress())
    assert report.pins["batch"] == first.plan.pins.batch
    assert (found.category_id == 1).all()


def test_steps_that_share_a_limit_learn_from_each_other() -> None:
    limit, sizes = Limit(), []

    def large(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return x + 1

    x = torch.arange(8.0).view(8, 1, 1, 1)
    inner = Halving(large, limit)
    assert torch.equal(Halving(lambda part: inner(part) * 2, limit)(x), (x + 1) * 2)
    assert limit.tiles == 2
    sizes.clear()
    Halving(inner, limit)(x)
    assert sizes == [2, 2, 2, 2]


def test_streams_and_small_tensors_are_made_once() -> None:
    assert overlap._lanes("cpu") is overlap._lanes("cpu")
    how = Normalization(scale=(0.1, 0.2), mean=(0.3,))
    assert inputs._per_band(how, 2, "cpu") is inputs._per_band(how, 2, "cpu")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
def test_a_table_on_the_device_is_the_table_of_the_host(dtype: str, monkeypatch) -> None:
    """``cpu:0`` goes the way of every device that is not called ``cpu``."""
    how = Normalization(kind="log_sigmoid", scale=(1.0, 0.5), mean=(1.2, 2.0), std=(0.4,))
    pixels = np.random.default_rng(0).integers(0, 200, (2, 2, 9, 7)).astype(dtype)
    if dtype == "int16":
        pixels[0, 0, 0] = -5
    wanted = to_inputs(pixels, np.ones((2, 9, 7), bool), how, "cpu")
    found = inputs._by_table(pixels, how, "cpu:0")
    assert torch.equal(found, wanted)


def test_the_caller_s_pixels_stay_as_they_are() -> None:
    """One float32 band is in every memory order at once, so nothing has to copy it."""
    pixels = np.full((2, 1, 8, 8), 3.0, np.float32)
    to_inputs(pixels, np.ones((2, 8, 8), bool), Normalization(mean=(1.0,), std=(2.0,)), "cpu")
    assert (pixels == 3).all()


def test_an_emulated_bf16_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def supported(*, including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return False

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert runtime.available("torch", "bf16", "cuda") == "this GPU has no bf16: use fp16 or fp32"
    assert asked == [False]
