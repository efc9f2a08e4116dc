"""A short training as its own process, to be killed: learn_short.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from test_learn_train import SCHEDULE, small_network, source

from geoseg.learn.objective import Classes
from geoseg.learn.train import train

torch.set_num_threads(1)
folder = Path(sys.argv[1])


def progress(entry: dict) -> None:
    sys.stdout.write(f"{entry['step']}\n")
    sys.stdout.flush()


done = train(small_network(), source(), Classes(2), SCHEDULE, folder, progress=progress)
torch.save(done.network.state_dict(), folder / "weights.pt")
