"""Holding a job: one run at a time, and the same job as when it was started."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from geoseg.engine.store import JobStore, writing
from geoseg.errors import LockedError, ResumeError

__all__ = ["check_same_job", "describe_job", "hold"]

SCHEDULING = ("memory", "block_tiles", "batch_memory", "passes")
"""Keys of a plan that place the work but change no bit of it."""


@contextmanager
def hold(store: JobStore, name: str = "lock") -> Iterator[None]:
    """Hold a job's store; raises LockedError, which names who holds it.

    A lock whose process is gone from this machine is taken over.
    """
    key = f"{name}.json"
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": psutil.Process().create_time(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    while not _claim(store, key, mine):
        other = store.read_json(key)
        if other is not None and not _is_stale(other):
            raise LockedError(
                f"{store.url}: process {other['pid']} on {other['host']} has been writing it since "
                f"{other['since']}: wait for it, or remove {key} there if it is gone"
            )
        store.remove_file(key)
    try:
        yield
    finally:
        store.remove_file(key)


def _claim(store: JobStore, key: str, mine: Mapping[str, Any]) -> bool:
    """Create the lock where none is; on object stores as atomically as they can."""
    data = json.dumps(mine, sort_keys=True).encode()
    if not store.is_local:
        if store.read(key) is not None:
            return False
        store.write(key, data)
        return store.read(key) == data
    beside = Path(f"{store.url}/{key}.{os.getpid()}.part")
    try:
        with writing(store.url):
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(data)
        # a hard link appears whole or not at all, unlike a file that is created and then filled
        os.link(beside, f"{store.url}/{key}")
    except FileExistsError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True


def _is_stale(other: Mapping[str, Any]) -> bool:
    if other["host"] != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(other["pid"]).create_time() - other["born"]) > 1
    except psutil.NoSuchProcess:
        return True


def describe_job(
    version: str,
    fingerprint: Mapping[str, Any],
    card: Mapping[str, Any],
    plan: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What a job is made from, as JSON values that a later run is compared with."""
    pinned = {key: value for key, value in plan.items() if key not in SCHEDULING}
    derived = ("tiles", "blocks", "block_px", "read_bytes", "projected_bytes")
    pinned = {key: value for key, value in pinned.items() if key not in derived}
    identity = {
        "geoseg": version,
        "source": dict(fingerprint),
        "model": dict(card),
        "plan": pinned,
        "options": dict(options),
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return plain


def check_same_job(before: Mapping[str, Any], now: Mapping[str, Any], url: str) -> None:
    """Raises ResumeError that names the first differences between two jobs."""
    differences = list(_differences(before, now, ""))
    if differences:
        shown = "; ".join(differences[:3])
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ResumeError(
            f"{url}: the unfinished job there was started with something else: {shown}{more}. "
            "Give what it was started with, or start afresh with --overwrite"
        )


def _differences(before: Any, now: Any, where: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            name = f"{where}.{key}" if where else str(key)
            yield from _differences(before.get(key), now.get(key), name)
    elif before != now:
        yield f"{where} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    if len(text) <= 60:
        return text
    return f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:8]})"
