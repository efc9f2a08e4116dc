"""What can be told of a request without loading a network: names of devices, backends,
precisions and parameters. A typing error is found before torch is imported, which takes seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from geoseg.errors import ModelError
from geoseg.models.segmenter import ModelCard, Runtime

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "SEMANTIC_PARAMETERS",
    "check_parameter_names",
    "check_runtime_names",
]

BACKENDS = ("torch", "openvino", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "fp16")

SEMANTIC_PARAMETERS = ("symmetries", "score", "layers", "thresholds", "temperature", "legend")
"""What a person may set of any network that gives classes."""

_OWN_PARAMETERS: Mapping[str, tuple[str, ...]] = {"terrain": ("level", "offset")}
"""Of models that come with geoseg, besides those of their kind."""

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_runtime_names(wanted: Runtime) -> None:
    """Raises ModelError for a device, backend or precision that there is nowhere."""
    if not _DEVICE.fullmatch(wanted.device):
        raise ModelError(
            f"device {wanted.device!r} is unknown: use cpu, cuda, cuda:N such as cuda:1, mps or "
            "auto"
        )
    for kind, value, known in (
        ("backend", wanted.backend, BACKENDS),
        ("precision", wanted.precision, PRECISIONS),
    ):
        if value != "auto" and value not in known:
            raise ModelError(f"there is no {kind} {value!r}: use one of {', '.join(known)} or auto")


def check_parameter_names(card: ModelCard, given: Iterable[str]) -> None:
    """Raises ModelError for a parameter that a network hasn't: it would change nothing."""
    known = list(card.parameters)
    if card.task == "semantic":
        known = [*_OWN_PARAMETERS.get(card.name, ()), *SEMANTIC_PARAMETERS, *known]
        known = list(dict.fromkeys(known))
    for name in given:
        if name not in known:
            raise ModelError(f"{card.name}: no parameter {name!r}: it has {', '.join(known)}")
