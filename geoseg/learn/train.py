"""The training loop: small, exact to resume, the same on a CPU and on a GPU."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoseg.errors import InputError, ResumeError
from geoseg.heap import keep_memory
from geoseg.learn.objective import Objective
from geoseg.learn.samples import ChipSource
from geoseg.switching import quick_switches

__all__ = ["Schedule", "Trained", "train"]

Evaluate = Callable[[nn.Module, int], dict[str, float]]
Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: optimizer steps in all.
        batch: chips per step.
        lr: peak learning rate, reached after ``warmup`` steps, then a cosine to 1 % of it.
        encoder_lr: factor for a pretrained encoder's parameters.
        weight_decay: AdamW's, on weights with two or more axes.
        ema: decay of the averaged weights that are kept; 0 keeps the last ones.
        clip: largest norm of the gradient.
        evaluate_every, checkpoint_every: steps; 0: only at the end.
        seed: of chips and of all that torch draws.

    """

    steps: int
    batch: int = 8
    lr: float = 1e-3
    encoder_lr: float = 0.5
    warmup: int = 50
    weight_decay: float = 1e-3
    ema: float = 0.995
    clip: float = 5.0
    evaluate_every: int = 0
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: use 1 or more")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class Trained:
    """``network`` in evaluation mode with the averaged weights; ``log`` one dict per entry."""

    network: nn.Module
    log: list[dict[str, Any]]


def train(
    network: nn.Module,
    source: ChipSource,
    objective: Objective,
    schedule: Schedule,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train ``network`` in place; what a kill leaves in ``folder`` is continued exactly.

    ``folder/checkpoint.pt`` holds weights, averages, optimizer and step, replaced in one
    rename; ``folder/log.jsonl`` is rewritten with it. Raises ResumeError when the checkpoint
    was made with another schedule, InputError when a loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        keep_memory()
    network.to(memory_format=torch.channels_last).to(device).train()
    run = _Run(network, schedule, folder)
    run.resume()
    batches = _ahead(source, objective, schedule, run.step)
    with quick_switches():
        for step, (pixels, targets) in zip(range(run.step, schedule.steps), batches, strict=False):
            started = time.perf_counter()
            loss = run.one(pixels.to(device), targets.to(device), objective)
            entry = {"step": step + 1, "loss": loss, "seconds": time.perf_counter() - started}
            last = step + 1 == schedule.steps
            if evaluate and (last or _due(step + 1, schedule.evaluate_every)):
                with run.averaged() as averaged:
                    entry |= evaluate(averaged, step + 1)
            run.log.append(entry)
            if progress:
                progress(entry)
            if last or _due(step + 1, schedule.checkpoint_every):
                run.save()
    batches.close()
    network.load_state_dict(run.average)
    return Trained(network.eval(), run.log)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _ahead(
    source: ChipSource, objective: Objective, schedule: Schedule, first: int
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Batches from step ``first`` on, made by a thread while the steps before them run."""

    def make(step: int) -> tuple[Tensor, Tensor]:
        chips = [source.chip(step * schedule.batch + i) for i in range(schedule.batch)]
        # (n, band, row, col) and (n, target, row, col)
        pixels = torch.from_numpy(np.stack([chip.pixels for chip in chips]))
        targets = torch.from_numpy(np.stack([objective.targets(chip) for chip in chips]))
        return pixels.contiguous(memory_format=torch.channels_last), targets

    waiting: list[Future[tuple[Tensor, Tensor]]] = []
    with ThreadPoolExecutor(1) as pool:
        waiting += [pool.submit(make, step) for step in (first, first + 1)]
        step = first + 2
        while True:
            yield waiting.pop(0).result()
            waiting.append(pool.submit(make, step))
            step += 1


class _Run:
    """The state that a checkpoint holds."""

    def __init__(self, network: nn.Module, schedule: Schedule, folder: Path) -> None:
        self.network, self.schedule = network, schedule
        # several GPUs share each batch; the loss is still of the whole of it
        several = torch.cuda.device_count() > 1
        self.forward: nn.Module = nn.DataParallel(network) if several else network
        self.path, self.log_path = folder / "checkpoint.pt", folder / "log.jsonl"
        self.step = 0
        self.log: list[dict[str, Any]] = []
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(_groups(network, schedule))

    def one(self, pixels: Tensor, targets: Tensor, objective: Objective) -> float:
        """One optimizer step; the loss."""
        torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)
        rate = self.schedule.lr_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=pixels.is_cuda):
            logits = self.forward(pixels)
        loss = objective.loss(logits.float(), targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} at step {self.step + 1}: use a lower learning rate than "
                f"{self.schedule.lr}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.schedule.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return value

    @torch.no_grad()
    def _average(self) -> None:
        # young averages forget faster, or they would remember the start for ever
        decay = min(self.schedule.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def averaged(self) -> _Averaged:
        """The network with averaged weights in evaluation mode, within a with block."""
        return _Averaged(self)

    def save(self) -> None:
        """Checkpoint and log, each in one rename."""
        state = {
            "schedule": asdict(self.schedule),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "log": json.dumps(self.log),
        }
        beside = self.path.with_suffix(".writing")
        torch.save(state, beside)
        os.replace(beside, self.path)
        beside = self.log_path.with_suffix(".writing")
        beside.write_text("".join(json.dumps(entry) + "\n" for entry in self.log))
        os.replace(beside, self.log_path)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["schedule"] != asdict(self.schedule):
            raise ResumeError(
                f"{self.path}: made with another schedule: {state['schedule']}: "
                "give the same options or another output"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.step, self.log = state["step"], json.loads(state["log"])


class _Averaged:
    def __init__(self, run: _Run) -> None:
        self.run = run

    def __enter__(self) -> nn.Module:
        self.own = {k: v.clone() for k, v in self.run.network.state_dict().items()}
        self.run.network.load_state_dict(self.run.average)
        return self.run.network.eval()

    def __exit__(self, *_: object) -> None:
        self.run.network.load_state_dict(self.own)
        self.run.network.train()


def _groups(network: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Parameters by learning rate and decay; biases and norms don't decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        factor = schedule.encoder_lr if name.startswith("encoder.") else 1.0
        decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": params, "factor": factor, "weight_decay": decay, "lr": schedule.lr * factor}
        for (factor, decay), params in groups.items()
    ]
