"""Progress while a job runs, and the report of what it did and how fast."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from geoseg.engine.plan import Plan

__all__ = ["NoProgress", "Progress", "RunReport"]


class Progress(Protocol):
    """Hears how far a job is; the command line and notebooks draw it."""

    def start(self, stage: str, total_px: int, done_px: int = 0) -> None:
        """A stage begins; ``done_px`` of it were done before."""
        ...

    def advance(self, pixels: int) -> None:
        """So many more pixels are done."""
        ...


class NoProgress:
    """Silence."""

    def start(self, stage: str, total_px: int, done_px: int = 0) -> None:
        """See Progress."""

    def advance(self, pixels: int) -> None:
        """See Progress."""


@dataclass
class RunReport:
    """What a run did: seconds per stage, rates, memory against the projection, warnings.

    ``stage_seconds`` adds up over blocks and processes, so it can exceed ``wall_seconds``.
    ``masked`` are pixels that masks took, by mask and reason, of ``with_data`` that had data.
    """

    scene: str
    model: str
    pixels: int
    projected_bytes: int
    started: float
    wall_seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    area_m2: dict[int, float] = field(default_factory=dict)
    class_names: dict[int, str] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    by_worker: dict[str, dict[str, float]] = field(default_factory=dict)
    blocks: int = 0
    blocks_now: int = 0
    tiles: int = 0
    lost_tiles: list[list[int]] = field(default_factory=list)
    masked: Counter[str] = field(default_factory=Counter)
    with_data: int = 0
    warnings: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    pins: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, plan: Plan) -> RunReport:
        """A report that begins now."""
        from dataclasses import asdict

        return cls(
            scene=plan.scene,
            model=plan.model,
            pixels=plan.region.pixels,
            projected_bytes=plan.projected_bytes,
            started=time.perf_counter(),
            pins=asdict(plan.pins),
        )

    def ran(self, record: Mapping[str, Any]) -> None:
        """A block was done in this run, not an earlier one."""
        self.blocks_now += 1

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a block's ledger record."""
        worker = f"{record.get('host', '')}:{record.get('pid', '')}"
        mine = self.by_worker.setdefault(worker, {})
        for stage, seconds in record["seconds"].items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds
            mine[stage] = round(mine.get(stage, 0.0) + seconds, 6)
        self.peak_bytes[worker] = max(self.peak_bytes.get(worker, 0), record["peak_bytes"])
        for key, count in record.get("counts", {}).items():
            self.counts[int(key)] += count
            if record.get("pixel_m2"):
                area = self.area_m2.get(int(key), 0.0) + count * record["pixel_m2"]
                self.area_m2[int(key)] = area
        self.tiles += record.get("tiles", 0)
        self.lost_tiles += record.get("lost_tiles", [])
        for reason, count in record.get("masked", {}).items():
            self.masked[reason] += count
        self.with_data += record.get("with_data", 0)
        self.blocks += 1

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Count time spent outside blocks."""
        for stage, spent in seconds.items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + spent

    def finish(self) -> RunReport:
        """Stop the clock."""
        self.wall_seconds = time.perf_counter() - self.started
        return self

    @property
    def mpx_per_s(self) -> float:
        """Scene pixels per wall second, in millions."""
        return self.pixels / 1e6 / max(self.wall_seconds, 1e-9)

    def _share(self, count: int) -> float:
        """Of the pixels that had data before masks took some."""
        return count / max(self.with_data, 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "scene": self.scene,
            "model": self.model,
            "pixels": self.pixels,
            "wall_seconds": round(self.wall_seconds, 3),
            "mpx_per_s": round(self.mpx_per_s, 4),
            "stage_seconds": {k: round(v, 3) for k, v in self.stage_seconds.items()},
            "workers": self.by_worker,
            "peak_bytes": self.peak_bytes,
            "projected_bytes": self.projected_bytes,
            "pixels_by_category": {str(k): self.counts[k] for k in sorted(self.counts)},
            "class_names": {str(k): name for k, name in self.class_names.items()},
            "area_m2_by_category": {
                str(k): round(self.area_m2[k], 3) for k in sorted(self.area_m2)
            },
            "blocks": self.blocks,
            "blocks_in_this_run": self.blocks_now,
            "tiles": self.tiles,
            "lost_tiles": self.lost_tiles,
            "masked": {
                reason: {"pixels": count, "share": round(self._share(count), 6)}
                for reason, count in self.masked.items()
            },
            "pins": self.pins,
            "warnings": self.warnings,
            "outputs": self.outputs,
        }

    def __str__(self) -> str:
        total = sum(self.stage_seconds.values()) or 1.0
        stages = ", ".join(
            f"{stage} {seconds:.2f} s ({100 * seconds / total:.0f} %)"
            for stage, seconds in sorted(self.stage_seconds.items(), key=lambda s: -s[1])
        )
        peak = max(self.peak_bytes.values(), default=0)
        lines = [
            f"{self.pixels / 1e6:.2f} Mpx in {self.wall_seconds:.1f} s: {self.mpx_per_s:.2f} Mpx/s",
            f"stages   {stages}",
            f"blocks   {self.blocks} ({self.blocks_now} in this run), {self.tiles} tiles",
            f"ran on   {self.pins.get('device')}, {self.pins.get('backend')}, "
            f"{self.pins.get('precision')}, {self.pins.get('threads')} threads, "
            f"batches of {self.pins.get('batch')}",
            f"memory   peak {peak / 1e6:.0f} MB of {self.projected_bytes / 1e6:.0f} MB projected",
        ]
        if self.masked:
            masked = sum(self.masked.values())
            by = ", ".join(
                f"{reason} {count:,} ({self._share(count):.1%})"
                for reason, count in self.masked.items()
            )
            lines.append(f"masked   {masked:,} px ({self._share(masked):.1%}): {by}")
        if self.lost_tiles:
            lines.append(f"lost     {len(self.lost_tiles)} tiles could not be read: nodata there")
        return "\n".join(lines)
