"""Which file is it? Decided by its first bytes, before GDAL sees it.

GDAL follows what a file says, whatever its name: a VRT called ``scene.tif`` reads other files
and makes network requests. So the magic bytes choose the one driver a file is opened with, and
anything that can point elsewhere needs a word from the person who runs it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import SceneError

__all__ = ["DRIVERS", "Access", "Source", "find_source", "image_files", "is_remote", "sniff"]

_SNIFFED_BYTES = 512
_MAGIC = (
    (b"II*\x00", "GTiff"),
    (b"MM\x00*", "GTiff"),
    (b"II+\x00", "GTiff"),  # BigTIFF
    (b"MM\x00+", "GTiff"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),  # a bare codestream
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
)
_SIDECARS = (".msk", ".ovr")
DRIVERS = ("GTiff", "JP2OpenJPEG", "JPEG", "PNG")
_WANTED = "give a GeoTIFF, JPEG 2000, JPEG or PNG"


@dataclass(frozen=True, slots=True)
class Source:
    """A file or address and the one GDAL driver that may open it ("" where unknown)."""

    path: str
    driver: str
    network: bool = False

    @property
    def remote(self) -> bool:
        """Whether it is no local file."""
        return is_remote(self.path)


@dataclass(frozen=True, slots=True)
class Access:
    """What a person allows a source to reach: other files by a VRT, the network."""

    vrt: bool = False
    network: bool = False


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether GDAL would look for it elsewhere than in the file system: URLs and /vsi paths."""
    text = os.fspath(path)
    return text.startswith("/vsi") or "://" in text


def sniff(head: bytes) -> str | None:
    """The driver for a file that begins with ``head``; None when it is none of ours."""
    for magic, driver in _MAGIC:
        if head.startswith(magic):
            return driver
    return "VRT" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<VRTDataset") else None


def find_source(path: str | Path, access: Access) -> Source:
    """The driver that a file is to be opened with; raises SceneError with the remedy."""
    if is_remote(path):
        if not access.network:
            raise SceneError(
                f"{path}: not a local file: pass --allow-network to read it from there"
            )
        return Source(str(path), "", network=True)
    file = Path(path)
    head = _head(file)
    driver = sniff(head)
    if driver is None:
        raise SceneError(f"{file}: {_what_instead(head)}: {_WANTED}")
    if driver == "VRT":
        _check_vrt(file, access)
    for suffix in _SIDECARS:
        sidecar = Path(f"{file}{suffix}")
        if sidecar.is_file() and sniff(_head(sidecar)) != "GTiff":
            raise SceneError(f"{sidecar}: a mask or overview file that is no TIFF: remove it")
    return Source(str(file.absolute()), driver, network=access.network)


def image_files(folder: str | Path) -> list[Path]:
    """The images of a folder by their first bytes, sorted by name; folders in it are left out.

    Raises SceneError when there is none.
    """
    try:
        files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    except OSError as error:
        raise SceneError(f"{folder}: can't be listed: {error.strerror}: give a folder") from error
    found = [file for file in files if _is_image(file)]
    if not found:
        raise SceneError(f"{folder}: no image in it: {_WANTED}")
    return found


def _is_image(file: Path) -> bool:
    try:
        return sniff(_head(file)) in DRIVERS and not file.name.endswith(_SIDECARS)
    except SceneError:
        return False


def _head(file: Path) -> bytes:
    try:
        mode = os.stat(file).st_mode
        if stat.S_ISDIR(mode):
            raise SceneError(
                f"{file}: a directory: give a file in it, or several with --mosaic or --stack"
            )
        if not stat.S_ISREG(mode):
            raise SceneError(f"{file}: not a regular file: {_WANTED}")
        with open(file, "rb") as opened:
            head = opened.read(_SNIFFED_BYTES)
    except FileNotFoundError:
        raise SceneError(f"{file}: no such file: check the path") from None
    except (OSError, ValueError) as error:
        # symbolic link loops, no permission, names too long, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise SceneError(f"{file}: can't be read: {reason}: check the path") from None
    if not head:
        raise SceneError(f"{file}: empty, 0 bytes: fetch or write it again")
    return head


def _what_instead(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image (the download failed?)"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image (git lfs pull fetches it)"
    if text.startswith(b"<"):
        return "an XML file, not an image"
    return "not an image that is read here"


def _check_vrt(file: Path, access: Access) -> None:
    if not access.vrt:
        raise SceneError(
            f"{file}: a VRT, which may read any other file: pass --allow-vrt if you trust it"
        )
    text = file.read_text(errors="replace")
    if not access.network and any(mark in text for mark in ("/vsi", "://", "<GDAL_WMS")):
        raise SceneError(
            f"{file}: a VRT with sources that are not local files: "
            "pass --allow-network if you trust it"
        )
