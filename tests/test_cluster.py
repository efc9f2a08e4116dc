"""Any executor, any host: the same files. TLS, loopback, names on the dashboard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
import rasterio
from clusters import Host, cluster_in
from distributed import Client, LocalCluster, Security
from toys import MeanSegmenter, array_scene

from geoseg.engine.cluster import ClusterExecutor
from geoseg.grid import Window
from geoseg.pipeline import MapRequest, RunOptions, map_scene
from geoseg.vectorize.stream import (
    VectorizeOptions,
    merge_blocks,
    polygonize_blocks,
    polygonize_traced,
    trace_block,
)
from geoseg.vectorize.strips import ArraySource, BlockLabels
from geoseg.vectorize.table import Attributes

pytestmark = pytest.mark.slow

PIXELS = np.random.default_rng(4).integers(0, 256, (1, 300, 280), np.uint8)
OUTPUTS = ("map.gpkg", "map.tif", "map.parquet", "map.fgb")


def files(folder: Path, **options) -> dict[str, bytes]:
    folder.mkdir()
    request = MapRequest(outputs=[str(folder / name) for name in OUTPUTS])
    wanted = RunOptions(min_area_m2=700.0, **options)
    map_scene(array_scene(PIXELS), MeanSegmenter(), request, wanted)
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files(tmp_path_factory.mktemp("serial") / "out", workers=-1, block_tiles=2)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
@pytest.mark.parametrize("side", [1, 3, 16])
def test_threads_and_processes(expected, workers: int, side: int, tmp_path: Path) -> None:
    assert files(tmp_path / "out", workers=workers, block_tiles=side) == expected


def test_a_client_of_ones_own(expected, tmp_path: Path) -> None:
    with LocalCluster(n_workers=2, dashboard_address=None) as cluster, Client(cluster) as client:
        assert files(tmp_path / "out", client=client, block_tiles=2) == expected
        assert client.status == "running"


def traced(path: str, window: Window, options: VectorizeOptions):
    """A block that a worker reads and traces by itself."""
    labels = np.load(path, mmap_mode="r")
    halo = BlockLabels.halo(window).slices
    return trace_block(BlockLabels(labels.shape, window, np.array(labels[halo])), options)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_vectorizing_as_tasks(connectivity: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, (53, 71), np.uint8).repeat(7, 0).repeat(5, 1)
    labels[rng.random(labels.shape) < 0.03] = 3
    np.save(tmp_path / "labels.npy", labels)
    options = VectorizeOptions(connectivity=connectivity, nodata=(3,), threads=2)
    where = Attributes(crs_wkt=None)
    expected = pa.Table.from_batches(polygonize_blocks(ArraySource(labels), options, where))
    with LocalCluster(n_workers=2, dashboard_address=None) as cluster, Client(cluster) as client:
        rows = []
        for row in range(0, labels.shape[0], 100):
            windows = [
                Window(row, col, 100, 64) & Window(0, 0, *labels.shape)
                for col in range(0, labels.shape[1], 64)
            ]
            blocks = [
                client.submit(traced, str(tmp_path / "labels.npy"), window, options)
                for window in windows
            ]
            while len(blocks) > 1:  # neighbours in pairs, wherever they lie
                pairs = [
                    client.submit(merge_blocks, *pair)
                    for pair in zip(blocks[::2], blocks[1::2], strict=False)
                ]
                blocks = pairs + blocks[len(pairs) * 2 :]
            rows += blocks
        merged = (([row.result()]) for row in rows)
        got = pa.Table.from_batches(polygonize_traced(merged, labels.shape, options, where))
    assert len(got) > 500
    assert got.equals(expected)


@pytest.fixture
def two_hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Network namespaces with an address each, and a cable between them."""
    ip = shutil.which("ip")
    if ip is None:
        if os.environ.get("GEOSEG_NO_SKIP"):
            pytest.fail("ip is not installed, and nothing may be skipped here")
        pytest.skip("ip is not installed: apt-get install iproute2")
    names = [f"geoseg{os.getpid() % 10_000}{end}" for end in "ab"]

    def call(*arguments: str) -> None:
        subprocess.run([ip, *arguments], check=True, capture_output=True)

    try:
        try:
            for name in names:
                call("netns", "add", name)
                call("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError:
            pytest.skip("network namespaces need root")
        call("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for number, name in enumerate(names, 1):
            call("link", "set", name, "netns", name)
            call("-n", name, "addr", "add", f"10.99.77.{number}/24", "dev", name)
            call("-n", name, "link", "set", name, "up")
        yield tuple(
            Host(f"10.99.77.{n}", (ip, "netns", "exec", name)) for n, name in enumerate(names, 1)
        )
    finally:
        for name in names:
            subprocess.run([ip, "netns", "del", name], check=False, capture_output=True)


def test_two_hosts(expected, two_hosts: tuple[Host, Host], tmp_path: Path) -> None:
    here, there = two_hosts
    folder = tmp_path / "out"
    folder.mkdir()
    script = (
        "import sys; from test_cluster import *; "
        "request = MapRequest(outputs=[str(Path(sys.argv[2]) / name) for name in OUTPUTS], "
        "report=sys.argv[2] + '/report.json'); "
        "wanted = RunOptions(min_area_m2=700.0, scheduler=sys.argv[1], block_tiles=1); "
        "map_scene(array_scene(PIXELS), MeanSegmenter(), request, wanted)"
    )
    with cluster_in(tmp_path, two_hosts) as cluster:
        # the client is the second host's, the scheduler the first's
        done = subprocess.run(
            [*there.prefix, sys.executable, "-c", script, cluster.address, str(folder)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert cluster.address.startswith(f"tcp://{here.ip}")
    assert {name: (folder / name).read_bytes() for name in OUTPUTS} == expected

    report = json.loads((folder / "report.json").read_text())
    assert len(report["workers"]) == 2, "both hosts worked"


def test_tls(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    made = Security.temporary()
    files = []
    for name, text in (
        ("ca", made.tls_ca_file), ("cert", made.tls_client_cert), ("key", made.tls_client_key),
    ):  # fmt: skip
        files.append(tmp_path / f"{name}.pem")
        files[-1].write_text(text)
    scene = tmp_path / "scene.tif"
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)}
    shape = {"width": PIXELS.shape[2], "height": PIXELS.shape[1], "count": 1}
    with rasterio.open(scene, "w", driver="GTiff", dtype="uint8", **shape, **place) as out:
        out.write(PIXELS)
    flags = zip(("--tls-ca-file", "--tls-cert", "--tls-key"), map(str, files), strict=True)

    def called(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).parent.mkdir()
        outputs = ["-o", str(tmp_path / name)]
        return subprocess.run(
            [*program, *outputs, *more], capture_output=True, text=True, check=False
        )

    program = [sys.executable, "-m", "geoseg", "map", str(scene), "-m", "otsu:b1", "-q"]
    with cluster_in(
        tmp_path, (Host(),), "--protocol", "tls", *(word for pair in flags for word in pair)
    ) as cluster:
        assert cluster.address.startswith("tls://")
        given = ["--scheduler", cluster.address]
        keys = ["--tls", ",".join(map(str, files))]
        done = called("tls/map.gpkg", *given, *keys)
        assert done.returncode == 0, done.stderr
        bare = called("no/map.gpkg", *given)
    assert bare.returncode != 0 and "--tls" in bare.stderr and bare.stderr.count("\n") == 1
    alone = called("alone/map.gpkg")
    assert alone.returncode == 0
    assert (tmp_path / "tls/map.gpkg").read_bytes() == (tmp_path / "alone/map.gpkg").read_bytes()
    assert not (tmp_path / "no/map.gpkg").exists()


def test_own_clusters_listen_on_loopback_and_name_their_tasks() -> None:
    pytest.importorskip("bokeh")
    with ClusterExecutor(2, dashboard="127.0.0.1:0") as executor:
        client = executor._client
        assert client is not None
        own = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [
            connection.laddr.ip
            for process in own
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 3 and set(listening) == {"127.0.0.1"}
        assert dict(executor.run(predict_nothing, (), iter([(0, 0), (0, 1)]))) == {
            (0, 0): 0,
            (0, 1): 1,
        }
        # what the dashboard's progress bars are called
        names = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
        assert "predict-nothing" in names
        page = urllib.request.urlopen(client.dashboard_link, timeout=20)
        assert page.status == 200 and b"Dask" in page.read()


def predict_nothing(place: tuple[int, int]) -> int:
    return place[1]
