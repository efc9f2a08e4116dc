"""Every architecture by name: built, trained a step, saved, loaded bit-equal, run tiled."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

import geoseg
from geoseg.errors import ModelError
from geoseg.legend import Category, Legend
from geoseg.models.catalogue import load_model
from geoseg.models.deep import backends
from geoseg.models.deep.architectures import ARCHITECTURES, Architecture, build, defaults
from geoseg.models.deep.bundle import open_bundle, write_bundle
from geoseg.models.deep.fuse import fuse
from geoseg.models.segmenter import ModelCard
from geoseg.radiometry import Normalization
from geoseg.scene.arrays import from_array
from geoseg.scene.reader import Scene

DEMO = resources.files("geoseg") / "data" / "demo" / "java_west_s2l2a.tif"
NAMES = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CHOICES = {1: ("B08",), 3: ("B04", "B03", "B02"), 4: ("B04", "B03", "B02", "B08"), 12: NAMES}
LEGEND = Legend((Category(0, "a", "#ff0000"), Category(4, "b", "#00ff00"), Category(9, "c", "#0000ff")))  # fmt: skip
SMALL = "tu-mobilenetv3_small_050"
ENCODERS = {"segformer": "mit_b0", "dpt": "tu-vit_tiny_patch16_224"}
OPTIONS = {"dpt": {"decoder_intermediate_channels": [16] * 4, "decoder_fusion_channels": 16}}
NETWORKS = [name for name in ARCHITECTURES if name != "dynamic_world"]


@pytest.fixture(scope="module")
def crop() -> Scene:
    """80 x 100 pixels of the bundled Sentinel-2 scene."""
    whole = geoseg.open_scene(str(DEMO))
    pixels, _ = whole.read(geoseg.Window(100, 60, 80, 100))
    box = whole.geobox[100:180, 60:160]
    return from_array(pixels, crs="EPSG:32749", transform=box.affine, bands=NAMES)


def card_of(name: str, bands: tuple[str, ...]) -> ModelCard:
    default = defaults(name)
    return ModelCard(
        name=f"{name}-{len(bands)}",
        task="semantic",
        bands=bands,
        legend=LEGEND,
        gsd_m=(10.0, 10.0),
        values="reflectance",
        value_range=(0.0, 1.6),
        normalization=Normalization(mean=(0.12,), std=(0.1,)),
        tile_size=64,
        halo=0,
        divisor=default.divisor,
    )


@pytest.fixture(autouse=True)
def _few_networks() -> None:
    """Networks of earlier tests are not kept."""
    backends._ready.clear()


def train_a_step(module: torch.nn.Module, bands: int) -> float:
    module.train()
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    x, y = torch.rand(2, bands, 64, 64), torch.randint(0, 3, (2, 64, 64))
    out = module(x)
    assert out.shape == (2, 3, 64, 64)
    torch.nn.functional.cross_entropy(out, y).backward()
    optimizer.step()
    return max(
        float((p.detach() - q).abs().max())
        for p, q in zip(module.parameters(), before, strict=True)
    )


@pytest.mark.parametrize("bands", CHOICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_built_trained_saved_loaded_and_run(name: str, bands: int, crop: Scene, tmp_path: Path) -> None:  # fmt: skip
    torch.manual_seed(0)
    given = Architecture(
        name=name,
        encoder=ENCODERS.get(name, SMALL),
        bands=bands,
        classes=3,
        options=OPTIONS.get(name, {}),
    )
    module = build(given)
    assert train_a_step(module, bands) > 0
    module.eval()

    card = card_of(name, CHOICES[bands])
    write_bundle(tmp_path / "model", card, given, module.state_dict())
    loaded = load_model(tmp_path / "model")
    again = loaded.network.load()
    state = again.state_dict()
    for key, tensor in module.state_dict().items():
        assert torch.equal(state[key], tensor), key
    x = torch.rand(1, bands, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(x), module(x))

    run = {"threads": 1, "workers": -1, "batch": 2}
    result = geoseg.segment(crop, str(tmp_path / "model"), **run)
    assert result.category_id.shape == crop.shape
    assert set(np.unique(result.category_id)) <= {0, 4, 9}


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus", "segformer"])
def test_fused_is_the_same_network(name: str) -> None:
    torch.manual_seed(1)
    module = build(Architecture(name=name, encoder="", bands=3, classes=3)).eval()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        before = module(x)
        assert fuse(module, x[:1]) > 0
        after = module(x)
    assert torch.allclose(before, after, atol=1e-4 * float(before.abs().max()))


def test_a_pair_with_another_listener_is_not_fused() -> None:
    """What a convolution gives is used twice: fusing would change the second use."""

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(3)
            self.norm.running_var.fill_(4.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.norm(y) + y

    module, x = Twice().eval(), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        before = module(x)
        assert fuse(module, x) == 0
        assert torch.equal(module(x), before)


def test_unknown_architectures_encoders_and_options_are_named() -> None:
    with pytest.raises(ModelError, match="no architecture 'vnet': use one of fcn, unet"):
        build(Architecture(name="vnet", bands=3, classes=2))
    with pytest.raises(ModelError, match="can't build unet with encoder 'resnet1'"):
        build(Architecture(name="unet", encoder="resnet1", bands=3, classes=2))
    with pytest.raises(ModelError, match="can't build unet"):
        build(Architecture(name="unet", bands=3, classes=2, options={"no_such": 1}))


def test_fcn_is_torchvisions_own_where_it_has_one() -> None:
    from torchvision.models.segmentation import fcn_resnet50

    own = fcn_resnet50(weights=None, weights_backbone=None, num_classes=3).state_dict()
    ours = build(Architecture(name="fcn", encoder="resnet50", bands=3, classes=3)).state_dict()
    assert {f"network.{key}": v.shape for key, v in own.items()} == {
        key: v.shape for key, v in ours.items()
    }


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    made = build(Architecture(name="unet", encoder=SMALL, bands=3, classes=3))
    stated = Architecture(name="unet", encoder=SMALL, bands=4, classes=3)
    write_bundle(tmp_path / "m", card_of("unet", CHOICES[4]), stated, made.state_dict())
    assert open_bundle(tmp_path / "m").architecture.bands == 4
    with pytest.raises(ModelError, match=r"1 of another shape .*instead of"):
        load_model(tmp_path / "m").network.load()
