"""Training's throughput against a bare loop of steps on tensors that lie in memory.

python benchmarks/train.py [--rounds 5] [--steps 8] [--threads 1]

The bare loop takes the same batches, made beforehand: forward, loss, backward, clipping,
AdamW. ``train`` cuts and augments its chips from the ground while steps run, averages the
weights and keeps its log. Rounds alternate; each gives the time per step, and the ratio is
of the medians.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from geoseg.learn.augment import Augmentation
from geoseg.learn.objective import Classes
from geoseg.learn.samples import ChipSource, Labelled
from geoseg.learn.train import Schedule, train
from geoseg.models.deep.architectures import Architecture, build
from geoseg.radiometry import Normalization

BATCH, SIZE = 6, 192


def ground() -> Labelled:
    rng = np.random.default_rng(0)
    labels = (ndimage.gaussian_filter(rng.random((1500, 1500)), 8) > 0.5).astype(np.uint8)
    pixels = rng.integers(1, 255, (3, 1500, 1500), np.uint8)
    return Labelled(name="noise", pixels=pixels, valid=np.ones(labels.shape, bool), labels=labels)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made = build(
        Architecture(
            name="unet", bands=3, classes=2, options={"decoder_channels": [96, 64, 32, 16, 16]}
        )
    )
    return made.to(memory_format=torch.channels_last).train()


def bare(batches: list, objective: Classes, schedule: Schedule) -> float:
    """Seconds per step; the first step is left out."""
    unet = network()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=schedule.lr)
    begun = 0.0
    for number, (pixels, targets) in enumerate(batches):
        if number == 1:
            begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = objective.loss(unet(pixels), targets)
        float(loss.detach())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), schedule.clip)
        optimizer.step()
    return (time.perf_counter() - begun) / (len(batches) - 1)


def whole(source: ChipSource, objective: Classes, schedule: Schedule) -> float:
    """Seconds per step of ``train``; the first step is left out."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            network(),
            source,
            objective,
            schedule,
            Path(folder),
            # the last step's checkpoint comes after its progress
            progress=lambda entry: times.append(time.perf_counter()),
        )
    return (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = ChipSource(
        [ground()],
        size_px=SIZE,
        normalization=Normalization(mean=(127.5,), std=(127.5,)),
        augmentation=Augmentation(),
        seed=0,
    )
    objective = Classes(2)
    schedule = Schedule(steps=args.steps, batch=BATCH, checkpoint_every=0)
    batches = []
    begun = time.process_time()
    for step in range(args.steps):
        chips = [source.chip(step * BATCH + k) for k in range(BATCH)]
        pixels = torch.from_numpy(np.stack([c.pixels for c in chips]))
        targets = torch.from_numpy(np.stack([objective.targets(c) for c in chips]))
        batches.append((pixels.contiguous(memory_format=torch.channels_last), targets))
    chip_s = (time.process_time() - begun) / args.steps
    print(f"{platform.machine()}, torch {torch.__version__}, {args.threads} threads")
    print(f"a batch of {BATCH} chips of {SIZE} px: {chip_s:.3f} processor seconds")
    each: dict[str, list[float]] = {"bare": [], "train": []}
    for number in range(args.rounds):
        each["bare"].append(bare(batches, objective, schedule))
        each["train"].append(whole(source, objective, schedule))
        print(number, {name: round(times[-1], 3) for name, times in each.items()}, flush=True)
    median = {name: float(np.median(times)) for name, times in each.items()}
    ratios = np.array(each["bare"]) / np.array(each["train"])
    print(f"median s per step: bare {median['bare']:.3f}, train {median['train']:.3f}")
    print(f"throughput {median['bare'] / median['train']:.3f} of the bare loop's")
    print(
        f"round by round {ratios.min():.3f} to {ratios.max():.3f}, median {np.median(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
