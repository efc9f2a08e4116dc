"""The large networks of things learn one crop of 256 px by heart: mask AP50 and loss.

    python benchmarks/overfit.py mask_rcnn fields 120
    python benchmarks/overfit.py mask2former fields 200
    python benchmarks/overfit.py mask_rcnn trees 100       boxes alone: box AP50

The architecture, the crop of the tests (at most five objects, of trees as few as there are) and
the number of steps. ``mask_rcnn`` and ``panoptic_fpn`` have a ResNet-50. Weights start at random;
one line per tenth of the steps, the figures at the end as Markdown.
"""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from overfit import QUERIES, ap50, box_ap50, boxes, crop, learn

from geoseg.legend import Category, Legend
from geoseg.models.deep.architectures import Architecture, build
from geoseg.models.deep.detections import DetectionRule, read_objects
from geoseg.models.deep.instance import box_targets, detect, detection_targets
from geoseg.models.deep.transformer import query_loss

LEGENDS = {
    "fields": Legend((Category(1, "field", "#e6ab02", True),)),
    "weeds": Legend(
        (Category(1, "caruru_weed", "#d95f02", True), Category(3, "soy_plant", "#66a61e", True))
    ),
    "trees": Legend((Category(1, "tree", "#1b7837", True),)),
}
RATES = {"mask_rcnn": 3e-4, "panoptic_fpn": 3e-4, "mask2former": 2e-3, "maskformer": 1e-3}


def main(name: str, place: str, steps: int) -> None:
    torch.manual_seed(0)
    x, ids, category = crop(place)
    things = LEGENDS[place]
    numbers = {c.id: k for k, c in enumerate(things, 1)}
    label = np.zeros(ids.shape, int)
    for number, k in numbers.items():
        label[category == number] = k
    trees = boxes() if place == "trees" else np.zeros((0, 4), np.float32)
    target = detection_targets(ids, label)
    if place == "trees":
        target = box_targets(trees, np.ones(len(trees), int), ids.shape)
    legend, classes, options = things, len(things), QUERIES.get(name, {})
    if name == "panoptic_fpn":
        legend = Legend((Category(0, "ground", "#a6761d"), *things))
        classes, options = len(legend), {"things": len(things)}
        target["semantic"] = torch.from_numpy(np.where(ids > 0, 0, 1))
    net = build(Architecture(name=name, bands=3, classes=classes, options=options))
    if name not in QUERIES and place != "trees":
        # a sixteenth of the usual proposals: there are five objects
        (
            net if name == "mask_rcnn" else net.detector
        ).roi_heads.fg_bg_sampler.batch_size_per_image = 32
    wanted = {"masks": target["masks"], "labels": target["labels"] - 1}

    def loss() -> torch.Tensor:
        if name in QUERIES:
            return query_loss(net, x, [wanted])
        losses = (
            detect(net, list(x), [target]).losses if name == "mask_rcnn" else net(list(x), [target])
        )
        return sum(losses.values(), torch.zeros(()))

    seen: list[float] = []

    def told() -> torch.Tensor:
        value = loss()
        seen.append(value.item())
        if len(seen) % max(steps // 10, 1) == 0:
            print(f"step {len(seen)}: loss {seen[-1]:.3f}", file=sys.stderr, flush=True)
        return value

    start = time.process_time()
    losses = learn(net, told, steps, RATES[name])
    took = time.process_time() - start
    with torch.inference_mode():
        if place == "trees":
            one = detect(net, list(x)).detections[0]
            score = box_ap50(one["boxes"].numpy(), one["scores"].numpy(), trees)
        else:
            score = ap50(read_objects(net, name, x, legend, DetectionRule())[0], ids, category)
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    print(
        f"| {name} | {parameters:.1f} M | {place} | {int(ids.max()) or len(trees)} | {steps} | "
        f"{np.mean(losses[:3]):.2f} to {np.mean(losses[-3:]):.2f} | "
        f"{score:.3f}{' of boxes' if place == 'trees' else ''} | {took:.0f} s |"
    )


if __name__ == "__main__":
    versions = ", ".join(f"{n} {version(n)}" for n in ("torch", "torchvision", "transformers"))
    print(f"`python {' '.join(sys.argv)}`: {platform.machine()}, {versions}\n", file=sys.stderr)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
