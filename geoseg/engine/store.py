"""The store of a job: a chunked map, what blocks publish, and the ledger of what is done.

Everything goes through fsspec: a local disk, a shared folder and an object store look the
same. One shard of the map per block, one writer per shard; a block's ledger record, with a
checksum, is written after its data. What has no record is not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import InputError, OutputError
from geoseg.models.segmenter import Arrays

if TYPE_CHECKING:
    import fsspec
    import zarr

__all__ = ["JobStore", "MapLayout", "create_map", "open_map", "writing"]

MAP_DTYPES = {"category_id": "uint8", "score": "uint8", "instance_id": "uint32"}
MAP_FILL = {"category_id": 255, "score": 255, "instance_id": 0}


@dataclass(frozen=True, kw_only=True)
class MapLayout:
    """Arrays of a map in a store: shape, side of a block (shard) and of an inner chunk."""

    shape: tuple[int, int]
    block: int
    chunk: int
    names: tuple[str, ...]


def _zarr_store(url: str, storage_options: Mapping[str, Any], read_only: bool) -> Any:
    from zarr.storage import FsspecStore, LocalStore

    if "://" not in url:
        return LocalStore(url, read_only=read_only)
    try:
        return FsspecStore.from_url(url, storage_options=dict(storage_options), read_only=read_only)
    except (ValueError, ImportError) as error:
        raise _unknown_place(url, error) from error


def _unknown_place(url: str, error: Exception) -> InputError:
    """Of a protocol that is not known, or whose library is not installed."""
    return InputError(f"{url}: no place for a job or a map: {error}")


def create_map(
    url: str, layout: MapLayout, storage_options: Mapping[str, Any] | None = None
) -> None:
    """An empty map: a zarr v3 group with one sharded array per name; nothing is allocated.

    What is there stays: several machines may begin the same job at once.
    """
    import zarr

    store = _zarr_store(url, storage_options or {}, read_only=False)
    group = zarr.open_group(store, mode="a")
    for name in layout.names:
        group.require_array(
            name,
            shape=layout.shape,
            dtype=MAP_DTYPES.get(name, "uint8"),
            chunks=(layout.chunk, layout.chunk),
            shards=(layout.block, layout.block),
            fill_value=MAP_FILL.get(name, 255),
            compressors=zarr.codecs.ZstdCodec(level=1),
            dimension_names=("row", "col"),
        )


def open_map(
    url: str, storage_options: Mapping[str, Any] | None = None, *, read_only: bool = True
) -> zarr.Group:
    """The map at ``url``; raises InputError where there is none."""
    import zarr

    store = _zarr_store(url, storage_options or {}, read_only)
    try:
        return zarr.open_group(store, mode="r" if read_only else "r+")
    except FileNotFoundError:
        raise InputError(f"{url}: no map there: give a .zarr that geoseg wrote") from None
    except OSError as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: OSError) -> InputError:
    return InputError(f"{url}: could not be read: {error.strerror or error}: check the address")


@contextlib.contextmanager
def writing(url: str) -> Iterator[None]:
    """Turns what a file system refuses, a full disk say, into an OutputError that names ``url``."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{url}: could not be written: {error.strerror or error}: make room there, or choose "
            "another place with --store, and run the same command again"
        ) from error


def pack(arrays: Arrays) -> bytes:
    """Named arrays as one compressed string of bytes, the same for the same values."""
    import pyarrow as pa
    from safetensors.numpy import save

    # it takes the bytes as they lie
    raw = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    head = len(raw).to_bytes(8, "little")
    packed: bytes = pa.Codec("zstd", compression_level=1).compress(raw, asbytes=True)
    return head + packed


def unpack(data: bytes) -> Arrays:
    """What ``pack`` packed.

    Not NumPy's own format: its headers are Python literals, and Python 3.11 can't parse those
    in several threads at once (SystemError: AST constructor recursion depth mismatch).
    """
    import pyarrow as pa
    from safetensors.numpy import load

    size = int.from_bytes(data[:8], "little")
    raw = pa.Codec("zstd").decompress(data[8:], decompressed_size=size, asbytes=True)
    arrays: Arrays = load(raw)
    return arrays


def checksum(arrays: Mapping[str, NDArray[Any]]) -> int:
    """CRC-32 over names and values, in the order of the names."""
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(np.ascontiguousarray(arrays[name]).data, crc)
    return crc


@dataclass(frozen=True)
class JobStore:
    """A folder, local or remote, that holds one job. Picklable; workers open it themselves."""

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """True for a folder of this machine's file systems."""
        return "://" not in self.url

    @property
    def map_url(self) -> str:
        """Where the map is."""
        return f"{self.url}/map.zarr"

    @property
    def _fs(self) -> fsspec.AbstractFileSystem:
        import fsspec

        try:
            fs, _ = fsspec.core.url_to_fs(self.url, **self.storage_options)
        except (ValueError, ImportError) as error:
            raise _unknown_place(self.url, error) from error
        return fs

    def _path(self, name: str) -> str:
        import fsspec

        _, root = fsspec.core.url_to_fs(self.url, **self.storage_options)
        return f"{root}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """All or nothing: a reader sees the old bytes or the new ones."""
        if not self.is_local:
            self._fs.pipe_file(self._path(name), data)
            return
        path = Path(self.url, name)
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        with writing(self.url):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(data)
                os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """The bytes; None where there are none."""
        try:
            if self.is_local:
                return Path(self.url, name).read_bytes()
            data: bytes = self._fs.cat_file(self._path(name))
            return data
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreachable(self.url, error) from error

    def write_json(self, name: str, value: Any) -> None:
        """A small record, keys sorted."""
        self.write(name, json.dumps(value, sort_keys=True).encode())

    def read_json(self, name: str) -> Any:
        """What ``write_json`` wrote; None where there is nothing."""
        data = self.read(name)
        return None if data is None else json.loads(data)

    def write_arrays(self, name: str, arrays: Arrays) -> None:
        """Named arrays in one file."""
        self.write(name, pack(arrays))

    def read_arrays(self, name: str) -> Arrays:
        """What ``write_arrays`` wrote; raises FileNotFoundError where there is nothing."""
        data = self.read(name)
        if data is None:
            raise FileNotFoundError(f"{self.url}/{name}")
        return unpack(data)

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder of the store, sorted; without partial ones."""
        try:
            if self.is_local:
                found = os.listdir(Path(self.url, folder))
            else:
                fs = self._fs
                fs.invalidate_cache(self._path(folder))
                found = [path.rsplit("/", 1)[-1] for path in fs.ls(self._path(folder), False)]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name and not name.endswith(".part"))

    def remove_file(self, name: str) -> None:
        """One file, if it is there."""
        if self.is_local:
            Path(self.url, name).unlink(missing_ok=True)
        elif self._fs.exists(self._path(name)):
            self._fs.rm_file(self._path(name))

    def remove(self, folder: str = "") -> None:
        """A folder of the store with all in it; the whole job by default."""
        import shutil

        if self.is_local:
            shutil.rmtree(Path(self.url, folder), ignore_errors=True)
        elif self._fs.exists(self._path(folder)):
            self._fs.rm(self._path(folder), recursive=True)

    def record(self, phase: str, number: int, record: Mapping[str, Any]) -> None:
        """Write the ledger's record of a block: it is done."""
        self.write_json(f"ledger/{phase}/{number:09d}.json", record)

    def done(self, phase: str) -> set[int]:
        """Numbers of the blocks with a record."""
        return {int(name[:-5]) for name in self.names(f"ledger/{phase}") if name.endswith(".json")}

    def has_records(self) -> bool:
        """Whether any block of any phase is done, those of a mask's own job included."""
        phases = [*self.names("ledger"), *self.names("mask/ledger")]
        return any(not name.endswith(".json") for name in phases)

    def records(self, phase: str) -> Iterator[dict[str, Any]]:
        """Records of a phase in block order."""
        for number in sorted(self.done(phase)):
            yield self.read_json(f"ledger/{phase}/{number:09d}.json")
