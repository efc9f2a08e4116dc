"""How far a job is: read from its store alone, while it runs or after it stopped."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geoseg.engine.plan import Plan
from geoseg.engine.store import JobStore
from geoseg.errors import InputError

__all__ = ["JobStatus", "read_status"]


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """``passes`` holds the blocks done of each pass; ``held_by`` who runs it now, if anyone."""

    url: str
    scene: str
    model: str
    blocks: int
    passes: dict[str, int]
    held_by: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"job      {self.url}", f"scene    {self.scene}", f"model    {self.model}"]
        for name, done in self.passes.items():
            share = 100 * done / max(self.blocks, 1)
            lines.append(f"{name:8} {done:,} of {self.blocks:,} blocks ({share:.0f} %)")
        lines.append(f"held by  {self.held_by or 'nobody: run the same command to go on'}")
        return "\n".join(lines)


def read_status(job: str) -> JobStatus:
    """The status of a job, given its folder or the output it makes; raises InputError."""
    candidates = [job] if "://" in job else [job, f"{Path(job).resolve()}.geoseg-job"]
    for url in candidates:
        store = JobStore(url)
        header = store.read_json("job.json")
        if header is None:
            continue
        plan = Plan.from_dict(header["plan"])
        names = [name for name in store.names("ledger") if name.startswith("pass-")]
        locks = [name for name in store.names("") if name.startswith("lock")]
        holders = [store.read_json(name) for name in locks]
        return JobStatus(
            url=url,
            scene=plan.scene,
            model=plan.model,
            blocks=plan.block_count,
            passes={name: len(store.done(name)) for name in names},
            held_by=", ".join(f"process {h['pid']} on {h['host']}" for h in holders if h) or None,
        )
    raise InputError(
        f"{job}: no unfinished job there: give an output that is being made, or its folder "
        "that ends in .geoseg-job"
    )
