"""``METHOD:ARGS`` of the command line as a small value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from geoseg.errors import ModelError

__all__ = ["Spec", "split_spec"]

_OPTION = re.compile(r"([a-z_]+)=([^=<>]+)")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?%?")


@dataclass(frozen=True)
class Spec:
    """``text`` as given; ``features`` are indices, bands or formulas, ``numbers`` bare ones.

    ``used`` and ``taken`` record the options and bare numbers that a method asked for, so
    that a misspelt one is refused.
    """

    text: str
    method: str
    features: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set, compare=False)
    taken: set[int] = field(default_factory=set, compare=False)

    def number(
        self, name: str, default: float, low: float, high: float, *, bare: bool = False
    ) -> float:
        """An option as a number within its limits; ``bare``: its name may be left out."""
        self.used.add(name)
        text = self.options.get(name)
        if text is None and bare and self.numbers:
            self.taken.add(0)
            text = self.numbers[0]
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ModelError(f"{self.text}: {name}={text}: give a number from {low:g} to {high:g}")
        return value

    def whole(self, name: str, default: int, low: int, high: int, *, bare: bool = False) -> int:
        """An option as a whole number within its limits; ``bare`` as for ``number``."""
        value = self.number(name, default, low, high, bare=bare)
        if value != int(value):
            raise ModelError(f"{self.text}: {name}={value:g}: give a whole number")
        return int(value)

    def choice(self, name: str, *allowed: str) -> str:
        """An option as one of a few words, the first by default."""
        self.used.add(name)
        value = self.options.get(name, allowed[0])
        if value not in allowed:
            raise ModelError(f"{self.text}: {name}={value}: use one of {', '.join(allowed)}")
        return value

    def word(self, name: str) -> str | None:
        """An option as it is written."""
        self.used.add(name)
        return self.options.get(name)

    def leftover(self) -> list[str]:
        """Options and bare numbers that no method asked for."""
        numbers = [text for i, text in enumerate(self.numbers) if i not in self.taken]
        return sorted(set(self.options) - self.used) + numbers


def split_spec(text: str) -> Spec:
    """Cut at colons; ``key=value`` are options, numbers numbers, the rest features.

    >>> split_spec("kmeans:ndvi,(b1-b2)/b3:k=5").features
    ('ndvi', '(b1-b2)/b3')
    """
    method, *parts = text.strip().split(":")
    features: list[str] = []
    numbers: list[str] = []
    options: dict[str, str] = {}
    for part in parts:
        for item in split_commas(part):
            option = _OPTION.fullmatch(item)
            if option:
                options[option[1]] = option[2].strip()
            elif _NUMBER.fullmatch(item):
                numbers.append(item.rstrip("%"))
            elif item:
                features.append(item)
    return Spec(text, method.lower(), tuple(features), tuple(numbers), options)


def split_commas(text: str) -> list[str]:
    """Pieces between commas that stand outside parentheses.

    >>> split_commas("min(b1, b2), b3")
    ['min(b1, b2)', 'b3']
    """
    pieces, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece.strip() for piece in pieces]
