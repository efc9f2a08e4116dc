"""Bundles: valid MLM metadata, checked weights, nothing executed, all or nothing."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jsonschema import Draft7Validator
from pystac.validation.local_validator import LocalValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from geoseg.cli import geoseg as cli
from geoseg.errors import ModelError, OutputError
from geoseg.legend import Category, Legend
from geoseg.models.catalogue import bundled_cards, load_model
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.bundle import open_bundle, write_bundle
from geoseg.models.deep.foreign import from_state_dict
from geoseg.models.deep.network import read_state_dict
from geoseg.models.segmenter import ModelCard
from geoseg.radiometry import Normalization

DATA = Path(__file__).parent / "data" / "stac"
SMALL = Architecture(name="unet", encoder="tu-mobilenetv3_small_050", bands=3, classes=2)
CARD = ModelCard(
    name="roofs",
    task="semantic",
    bands=("red", "green", "blue"),
    legend=Legend((Category(0, "other", "#888888"), Category(1, "roof", "#cc3311"))),
    gsd_m=(0.1, 0.3),
    normalization=Normalization(scale=(1 / 255,), mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3)),
    value_range=(0.0, 255.0),
    tile_size=128,
    halo=32,
    divisor=32,
    licence="CC-BY-4.0",
)


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(SMALL).eval()


@pytest.fixture
def bundle(module: torch.nn.Module, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "roofs", CARD, SMALL, module.state_dict()).path


@pytest.mark.parametrize("name", ["roofs", "roofs.zip"])
def test_what_is_written_is_read(module: torch.nn.Module, tmp_path: Path, name: str) -> None:
    written = write_bundle(tmp_path / name, CARD, SMALL, module.state_dict())
    read = open_bundle(tmp_path / name)
    assert read == written
    assert read.card.to_dict() == written.card.to_dict()
    weights = read.read_weights()
    for key, tensor in module.state_dict().items():
        assert torch.equal(weights[key], tensor)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]
    with pytest.raises(OutputError, match="exists"):
        write_bundle(tmp_path / name, CARD, SMALL, module.state_dict())
    write_bundle(tmp_path / name, CARD, SMALL, module.state_dict(), overwrite=True)


def registry() -> Registry:
    """The three fragments of other extensions that MLM refers to, as those define them."""
    base = "https://stac-extensions.github.io"
    classes = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["value", "name"],
            "properties": {
                "value": {"type": "integer"},
                "name": {"type": "string", "pattern": "^[0-9A-Za-z-_]+$"},
                "color_hint": {"type": "string", "pattern": "^([0-9A-Fa-f]{6})$"},
            },
        },
    }
    expression = {"type": "object", "required": ["format", "expression"]}
    types = {"enum": ["uint8", "int16", "uint16", "float32", "float64"]}
    fragments = {
        f"{base}/classification/v1.1.0/schema.json": {
            "definitions": {"fields": {"properties": {"classification:classes": classes}}}
        },
        f"{base}/processing/v1.1.0/schema.json": {
            "definitions": {"fields": {"properties": {"processing:expression": expression}}}
        },
        f"{base}/raster/v1.1.0/schema.json": {
            "definitions": {"bands": {"items": {"properties": {"data_type": types}}}}
        },
    }
    made = {url: Resource(contents=body, specification=DRAFT7) for url, body in fragments.items()}
    return Registry().with_resources(made.items())


def mlm_errors(item: dict) -> list[str]:
    schema = json.loads((DATA / "mlm-1.5.2.json").read_text())
    validator = Draft7Validator(schema, registry=registry())
    return [error.message for error in validator.iter_errors(item)]


def test_metadata_is_a_valid_stac_item_with_mlm(bundle: Path) -> None:
    terrain = resources.files("geoseg") / "data" / "terrain" / "model.json"
    for text in ((bundle / "model.json").read_text(), terrain.read_text()):
        item = json.loads(text)
        assert mlm_errors(item) == []
        errors = LocalValidator().item_validator(item["stac_version"]).iter_errors(item)
        assert [error.message for error in errors] == []
    del item["properties"]["mlm:input"]
    assert mlm_errors(item) != []


def test_changed_weights_are_refused(bundle: Path) -> None:
    weights = bundle / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match=r"weights have sha256 .* its card states"):
        open_bundle(bundle)
    with pytest.raises(ModelError, match="sha256"):
        load_model(bundle)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "no geoseg card"),
        ('{"geoseg": {"card": {}}}', "no geoseg card and architecture"),
        ('{"geoseg": {"card": {}, "architecture": {}, "format": 9}}', "install a newer geoseg"),
        ('{"geoseg": {"card": {"name": "x"}, "architecture": {}}}', "not a model card"),
    ],
)
def test_cards_that_are_none_are_refused(bundle: Path, text: str, says: str) -> None:
    (bundle / "model.json").write_text(text)
    with pytest.raises(ModelError, match=says):
        open_bundle(bundle)


class Harm:
    """What a pickle can do when it is loaded."""

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (open, ("harm.txt", "w"))


@pytest.mark.parametrize("name", ["m.pkl", "m.pickle", "m.joblib", "m.pt2"])
def test_pickles_and_programs_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ModelError, match="refused"):
        load_model(tmp_path / name)


def test_state_dicts_that_are_not_plain_tensors_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Harm()}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match="not plain tensors, so it was not loaded"):
        read_state_dict(tmp_path / "m.pt")
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "module.pt")
    with pytest.raises(ModelError, match="not plain tensors"):
        read_state_dict(tmp_path / "module.pt")
    (tmp_path / "short.safetensors").write_bytes(b"12345678")
    with pytest.raises(ModelError, match="not a safetensors file"):
        read_state_dict(tmp_path / "short.safetensors")
    assert not (tmp_path / "harm.txt").exists()
    with pytest.raises(ModelError, match="weights alone don't say"):
        load_model(tmp_path / "m.pt")


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "model._orig_mod."])
def test_plain_state_dicts_with_a_stated_architecture(module, tmp_path, prefix: str) -> None:
    state = {prefix + key: tensor for key, tensor in module.state_dict().items()}
    extra = {"criterion.weight": torch.ones(2)} if prefix == "model." else {}
    torch.save({"state_dict": state | extra, "epoch": 3}, tmp_path / "last.ckpt")
    read, card = from_state_dict(tmp_path / "last.ckpt", SMALL)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(read.eval()(x), module(x))
    assert card.bands == ("red", "green", "blue")
    with pytest.raises(ModelError, match="not those of this architecture"):
        from_state_dict(tmp_path / "last.ckpt", Architecture(**(SMALL.to_dict() | {"bands": 5})))


def test_a_save_pretrained_folder_is_loaded(tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    torch.manual_seed(3)
    theirs = smp.FPN("tu-mobilenetv3_small_050", encoder_weights=None, in_channels=4, classes=3)
    theirs.eval().save_pretrained(tmp_path / "fpn")
    model = load_model(tmp_path / "fpn")
    assert model.card.bands == ("band_1", "band_2", "band_3", "band_4")
    x = torch.rand(1, 4, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model.network.load()(x), theirs(x))
    config = tmp_path / "fpn" / "config.json"
    config.write_text(config.read_text().replace('"FPN"', '"Linknet"'))
    with pytest.raises(ModelError, match="its class is 'Linknet', geoseg knows Unet"):
        load_model(tmp_path / "fpn")


def test_a_network_of_the_hub_is_loaded_with_its_classes_named(tmp_path, monkeypatch) -> None:
    """From the hub's cache, as it lies after a download; nothing is fetched."""
    import huggingface_hub.constants as constants
    import segmentation_models_pytorch as smp

    folder = tmp_path / "models--owner--lands"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    made = smp.FPN("timm-mobilenetv3_small_100", encoder_weights=None, classes=5)
    made.save_pretrained(folder / "snapshots" / "abc123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded = load_model("hub:owner/lands", {"legend": "landcover_ai"})
    assert loaded.card.name == "lands"
    assert [c.name for c in loaded.card.legend] == [c.name for c in Legend.open("landcover_ai")]
    state = loaded.network.load().state_dict()
    assert all(torch.equal(state[key], value) for key, value in made.state_dict().items())
    with pytest.raises(ModelError, match="gives 5 classes, legend worldcover has 11"):
        load_model("hub:owner/lands", {"legend": "worldcover"})
    for name in ("owner/none", "a b"):
        with pytest.raises(ModelError, match=f"hub:{name}: can't be fetched"):
            load_model(f"hub:{name}")


def test_paths_that_are_no_model_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    for name, says in [
        ("empty", "neither a bundle"),
        ("a.txt", "not a model"),
        ("other.zip", "not a model"),
        ("nothing.zip", "no model"),
    ]:
        with pytest.raises(ModelError, match=says):
            load_model(tmp_path / name)


def test_the_command_makes_shows_and_lists(module: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(module.state_dict(), tmp_path / "best.pt")
    out = tmp_path / "roofs.zip"
    arguments = ["bundle", "make", str(tmp_path / "best.pt"), str(out), "--architecture", "unet"]
    arguments += ["--encoder", SMALL.encoder, "--bands", "red,green,blue", "--gsd", "0.1,0.3"]
    arguments += ["--legend", "other,roof", "--scale", "0.00392157", "--mean", "0.4,0.5,0.6"]
    made = CliRunner().invoke(cli, arguments)
    assert made.exit_code == 0, made.output
    assert CliRunner().invoke(cli, arguments).exit_code == 2  # it exists
    shown = CliRunner().invoke(cli, ["bundle", "info", str(out)])
    assert "other, roof" in shown.output
    assert "0.1 to 0.3 m" in shown.output
    card = json.loads(CliRunner().invoke(cli, ["bundle", "info", str(out), "--json"]).output)
    assert np.allclose(card["card"]["normalization"]["mean"], [0.4, 0.5, 0.6])
    listed = CliRunner().invoke(cli, ["models"])
    assert "terrain: Land cover" in listed.output
    assert "otsu" in listed.output
    both = json.loads(CliRunner().invoke(cli, ["models", "terrain", str(out), "--json"]).output)
    assert [one["name"] for one in both] == ["terrain", "roofs"]


@pytest.mark.parametrize(
    ("network", "legend", "task", "classes", "options"),
    [
        ("centers", ("soil,crop,weed", "crop,weed"), "panoptic", 3, {}),
        ("parcels", ("field", "field"), "instance", 3, {}),
        ("mask_rcnn", ("crop,weed", "crop,weed"), "instance", 2, {"width": 32}),
        ("panoptic_fpn", ("soil,crop", "crop"), "panoptic", 2, {"width": 32, "things": 1}),
    ],
)
def test_the_command_makes_networks_of_things(
    tmp_path: Path, network: str, legend: tuple[str, str], task: str, classes: int, options: dict
) -> None:
    given = Architecture(
        name=network, encoder=SMALL.encoder, bands=3, classes=classes, options=options
    )
    torch.save(build(given).state_dict(), tmp_path / "best.pt")
    out = tmp_path / "things.zip"
    arguments = ["bundle", "make", str(tmp_path / "best.pt"), str(out), "--architecture", network]
    arguments += ["--encoder", SMALL.encoder, "--bands", "red,green,blue"]
    arguments += ["--legend", legend[0], "--things", legend[1]]
    arguments += ["--option", "width=32"] if "width" in options else []
    made = CliRunner().invoke(cli, arguments)
    assert made.exit_code == 0, made.output
    model = load_model(out)
    assert model.card.task == task
    assert [c.name for c in model.card.legend if c.isthing] == legend[1].split(",")
    assert open_bundle(out).architecture == given
    pixels = np.zeros((1, 3, 64, 64), np.uint8)
    tile = model.predict(pixels, np.ones((1, 64, 64), bool))[0]
    assert tile.instance_id.shape == (64, 64)


@pytest.mark.parametrize(
    ("network", "legend", "says"),
    [
        ("centers", ["soil,crop"], "say which of soil, crop are things"),
        ("mask_rcnn", ["soil,crop", "--things", "crop"], "gives things alone: soil"),
        ("panoptic_fpn", ["a,b", "--things", "a,b"], "the legend has none"),
        ("centers", ["soil,crop", "--things", "tree"], "--things tree: not in the legend"),
        ("centers", ["a,b", "--things", "a", "--option", "width"], "such as width=32"),
    ],
)
def test_things_that_do_not_fit_are_refused(
    tmp_path: Path, network: str, legend: list[str], says: str
) -> None:
    arguments = ["bundle", "make", str(tmp_path / "x.pt"), str(tmp_path / "y.zip")]
    arguments += ["--architecture", network, "--bands", "red", "--legend", *legend]
    made = CliRunner().invoke(cli, arguments)
    assert made.exit_code == 2
    assert says in " ".join(made.output.split())


def test_a_job_notices_that_its_bundle_was_replaced(bundle: Path, module) -> None:
    model = load_model(bundle)
    shutil.rmtree(bundle)
    other = {key: tensor + 1 for key, tensor in module.state_dict().items()}
    write_bundle(bundle, CARD, SMALL, other)
    with pytest.raises(ModelError, match="changed since the job was planned"):
        model.network.load()


def test_cards_of_models_inside_are_read_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from geoseg.models.catalogue import bundled_cards as b; b(); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert [card.name for card in bundled_cards()] == ["terrain", "weeds", "fields"]
