"""Areas of classes with their uncertainty, from a stratified reference sample.

Counting the pixels of a map gives areas that carry the map's errors. A probability sample
of reference labels corrects them and says how certain they are. All formulas and names are
those of Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of
land change", Remote Sensing of Environment 148, doi:10.1016/j.rse.2014.02.015; numbers of
equations in the code are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from geoseg.errors import InputError
from geoseg.grid import Window

__all__ = [
    "AreaEstimate",
    "SamplePoint",
    "allocate",
    "draw_sample",
    "error_matrix",
    "estimate_areas",
    "sample_size",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AreaEstimate:
    """Areas and accuracies per class, in the order of ``classes``.

    ``*_se`` are standard errors; ``interval`` turns them into half-widths. Areas have the
    unit of the mapped areas that were given; accuracies are shares. NaN where a class has no
    map area, or none in the reference.
    """

    classes: tuple[str, ...]
    mapped_area: FloatArray
    area: FloatArray
    area_se: FloatArray
    users: FloatArray
    users_se: FloatArray
    producers: FloatArray
    producers_se: FloatArray
    overall: float
    overall_se: float
    proportions: FloatArray
    samples: NDArray[np.int64]

    def interval(self, standard_error: ArrayLike, confidence: float = 0.95) -> FloatArray:
        """Half-width of the confidence interval: z times the standard error."""
        z = float(stats.norm.ppf(0.5 + confidence / 2))
        return z * np.asarray(standard_error, np.float64)


def error_matrix(
    mapped: Sequence[str], reference: Sequence[str], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Sample counts: rows the map's classes, columns the reference's.

    Raises InputError on a class that isn't among ``classes``.
    """
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for one, other in zip(mapped, reference, strict=True):
        for name in (one, other):
            if name not in place:
                raise InputError(f"class {name!r} is none of {', '.join(classes)}")
        counts[place[one], place[other]] += 1
    return counts


def estimate_areas(
    samples: ArrayLike, mapped_area: ArrayLike, classes: Sequence[str]
) -> AreaEstimate:
    """Areas and accuracies from an error matrix of a sample that is stratified by map class.

    ``samples`` (map class, reference class) counts; ``mapped_area`` of each map class, any
    unit. Raises InputError where a mapped class has fewer than two samples: no variance
    can be had there.
    """
    counts = np.asarray(samples, np.int64)
    area = np.asarray(mapped_area, np.float64)
    names = tuple(classes)
    if counts.shape != (len(names), len(names)) or area.shape != (len(names),):
        raise InputError(
            f"{len(names)} classes need a square matrix and as many areas, got "
            f"{counts.shape} and {area.shape}"
        )
    if (counts < 0).any() or (area < 0).any() or area.sum() <= 0:
        raise InputError("counts and areas must not be negative, and some area must be mapped")
    per_class = counts.sum(1)
    few = [f"{n} ({k})" for n, k, a in zip(names, per_class, area) if a > 0 and k < 2]
    if few:
        raise InputError(f"each mapped class needs two or more samples: {', '.join(few)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        return _estimate(counts, area, names)


def _estimate(counts: NDArray[np.int64], area: FloatArray, names: tuple[str, ...]) -> AreaEstimate:
    total = area.sum()
    weight = area / total
    n = counts.sum(1).astype(np.float64)
    share = np.nan_to_num(counts / n[:, None])  # n_ij / n_i
    p = weight[:, None] * share  # eq. 4
    diagonal, columns = np.diag(p), p.sum(0)
    users = np.where(n > 0, np.diag(share), np.nan)  # eq. 2
    users_variance = users * (1 - users) / (n - 1)  # eq. 6
    overall_variance = float(np.nansum(weight**2 * users_variance))  # eq. 5
    spread = np.where(weight[:, None] > 0, share * (1 - share) / (n[:, None] - 1), 0.0)
    area_variance = (weight[:, None] ** 2 * spread).sum(0)  # eq. 10
    producers = np.where(columns > 0, diagonal / columns, np.nan)  # eq. 3
    # eq. 7, with areas in place of pixel counts
    estimated = columns * total
    own = area**2 * (1 - producers) ** 2 * np.nan_to_num(users_variance)
    others = area[:, None] ** 2 * spread
    others = others.sum(0) - np.diag(others)
    producers_variance = (own + producers**2 * others) / estimated**2
    return AreaEstimate(
        classes=names,
        mapped_area=area,
        area=estimated,  # eq. 9 and 11
        area_se=np.sqrt(area_variance) * total,
        users=users,
        users_se=np.sqrt(users_variance),
        producers=producers,
        producers_se=np.sqrt(producers_variance),
        overall=float(diagonal.sum()),
        overall_se=float(np.sqrt(overall_variance)),
        proportions=p,
        samples=counts,
    )


def sample_size(mapped_area: ArrayLike, users: ArrayLike, overall_se: float) -> int:
    """How many samples in all for a standard error of overall accuracy (eq. 13).

    ``users`` are the user's accuracies that are expected. The paper's example, 0.645 +
    0.320 + 0.015 + 0.020 of the area and a standard error of 0.01:

    >>> sample_size([0.020, 0.015, 0.320, 0.645], [0.7, 0.6, 0.9, 0.95], 0.01)
    641
    """
    if not 0 < overall_se < 0.5:
        raise InputError(f"standard error {overall_se}: use a share between 0 and 0.5")
    area = np.asarray(mapped_area, np.float64)
    accuracy = np.asarray(users, np.float64)
    spread = np.sqrt(accuracy * (1 - accuracy))
    return round(float(((area / area.sum() * spread).sum() / overall_se) ** 2))


def allocate(total: int, mapped_area: ArrayLike, smallest: int = 50) -> NDArray[np.int64]:
    """Samples per class: ``smallest`` for rare ones, the rest in proportion to area.

    The paper's advice (section 5.1.2): proportional allocation, but 50 to 100 for rare
    classes. Classes without area get none. Raises InputError when the total is too small.

    >>> allocate(641, [0.020, 0.015, 0.320, 0.645], 75).tolist()
    [75, 75, 163, 328]
    """
    area = np.asarray(mapped_area, np.float64)
    there = area > 0
    if smallest < 2 or total < smallest * int(there.sum()):
        raise InputError(
            f"{total} samples give less than {max(smallest, 2)} to each of {int(there.sum())} "
            "classes: draw more, or allow fewer per class (2 at least)"
        )
    fixed = np.zeros(area.shape, np.bool_)
    while True:
        free = there & ~fixed
        left = total - smallest * int(fixed.sum())
        ideal = np.where(free, area / max(area[free].sum(), 1e-300) * left, 0.0)
        rare = free & (ideal < smallest)
        if not rare.any():
            break
        fixed |= rare
    counts = np.where(fixed, smallest, np.floor(ideal)).astype(np.int64)
    # what flooring left over goes to the largest remainders
    remainder = np.where(free, ideal - np.floor(ideal), -1.0)
    for i in np.argsort(-remainder, kind="stable")[: total - int(counts.sum())]:
        counts[i] += 1
    return counts


@dataclass(frozen=True, slots=True)
class SamplePoint:
    """A sampled pixel: where it is, and what the map says there."""

    row: int
    col: int
    category_id: int


def draw_sample(
    windows: Callable[[], Iterable[tuple[Window, NDArray[np.uint8]]]],
    wanted: Mapping[int, int],
    seed: int = 0,
) -> list[SamplePoint]:
    """A simple random sample of pixels without replacement within each class.

    ``windows()`` goes over the map's categories window by window, in the same order each
    time it is called: it is called twice, so a map of any size fits. Points come in random
    order, so that labelling may stop anywhere. Raises InputError when a class has fewer
    pixels than wanted.
    """
    found: dict[int, int] = dict.fromkeys(wanted, 0)
    for _, categories in windows():
        counts = np.bincount(categories.ravel(), minlength=256)
        for category in wanted:
            found[category] += int(counts[category])
    for category, number in wanted.items():
        if number > found[category]:
            raise InputError(
                f"class {category} has {found[category]} pixels, fewer than the {number} to draw"
            )
    rng = np.random.default_rng(seed)
    ranks = {
        category: np.sort(_distinct(rng, found[category], number))
        for category, number in wanted.items()
    }
    points = list(_pick(windows(), ranks))
    return [points[i] for i in rng.permutation(len(points))]


def _distinct(rng: np.random.Generator, population: int, number: int) -> NDArray[np.int64]:
    """``number`` different ranks of ``population``, all alike, without a list of them all."""
    return rng.choice(population, number, replace=False, shuffle=False)


def _pick(
    windows: Iterable[tuple[Window, NDArray[np.uint8]]], ranks: Mapping[int, NDArray[np.int64]]
) -> Iterator[SamplePoint]:
    """The pixels that have these ranks within their class, in the order of the windows."""
    seen = dict.fromkeys(ranks, 0)
    for window, categories in windows:
        flat = categories.ravel()
        for category, wanted in ranks.items():
            here = np.flatnonzero(flat == category)
            low, high = np.searchsorted(wanted, [seen[category], seen[category] + here.size])
            for rank in wanted[low:high]:
                row, col = divmod(int(here[rank - seen[category]]), categories.shape[1])
                yield SamplePoint(window.row_off + row, window.col_off + col, category)
            seen[category] += here.size
