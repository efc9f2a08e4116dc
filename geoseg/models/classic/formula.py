"""Band arithmetic as text: parsed to a small tree, evaluated on arrays, never executed.

Whole-number bands stay whole numbers through ``+ - *``, so that histograms of ``2*g-r-b``
are exact; everything else, and what 64 bits might not hold, is computed in float64. A band
alone keeps its own dtype.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ModelError

__all__ = ["Formula", "parse_formula"]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "max": (2, np.maximum),
    "min": (2, np.minimum),
    "sqrt": (1, np.sqrt),
}
_LONGEST = 400
_LARGEST = 1e300
_STRIP = 1 << 15
"""Pixels computed at a time: intermediate results stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression of bands. ``names`` are its variables in order of appearance."""

    text: str
    names: tuple[str, ...]

    def __call__(self, bands: Mapping[str, NDArray[Any]], scale: float = 1.0) -> NDArray[Any]:
        """The value of each pixel; all bands of one shape.

        ``scale`` other than 1 multiplies every band first (reflectance from digital
        numbers). Divisions by zero and their like give NaN or infinity, without a warning.
        """
        tree = _tree(self.text)
        if isinstance(tree, ast.Name) and scale == 1.0:
            return bands[tree.id]
        first = bands[self.names[0]]
        sources = [np.ascontiguousarray(bands[name]).reshape(-1) for name in self.names]
        whole = scale == 1.0 and all(s.dtype.kind in "iu" for s in sources)
        limits = {n: _limits(s.dtype) for n, s in zip(self.names, sources)} if whole else {}
        whole = whole and _whole_range(tree, limits) is not None
        dtype = np.dtype(np.int64 if whole else np.float64)
        out = np.empty(first.size, dtype)
        with np.errstate(all="ignore"):
            for start in range(0, first.size, _STRIP):
                part = slice(start, start + _STRIP)
                values: dict[str, Any] = {
                    n: s[part].astype(dtype) for n, s in zip(self.names, sources)
                }
                if scale != 1.0:
                    values = {n: v * scale for n, v in values.items()}
                out[part] = _evaluate(tree, values, int if whole else float)
        return out.reshape(first.shape)


def parse_formula(text: str) -> Formula:
    """A formula from text such as ``(b8-b4)/(b8+b4)``.

    Allowed are band names, numbers, ``+ - * / **`` (and ``^`` for a power), parentheses,
    ``sqrt abs log exp min max``. Raises ModelError on anything else.
    """
    tree = _tree(text)
    names: list[str] = []
    _check(tree, text, names)
    if not names:
        raise ModelError(f"formula {text!r} names no band: write (b8-b4)/(b8+b4), say")
    return Formula(text, tuple(dict.fromkeys(names)))


@lru_cache(maxsize=256)
def _tree(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ModelError(f"formula of {len(text)} characters: at most {_LONGEST} are allowed")
    try:
        return ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ModelError(
            f"can't read the formula {text!r}: write it like (b8-b4)/(b8+b4)"
        ) from None


def _check(node: ast.expr, text: str, names: list[str]) -> None:
    """Refuse every kind of node that is not arithmetic; collect the names."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value) if abs(value) <= _LARGEST:
            return
        case ast.Name(id=name):
            names.append(name)
            return
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _check(operand, text, names)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left, text, names)
            return _check(right, text, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            if len(args) == _FUNCTIONS[name][0]:
                for argument in args:
                    _check(argument, text, names)
                return None
    raise ModelError(
        f"formula {text!r}: {ast.unparse(node)!r} is not allowed: use bands, numbers, "
        f"+ - * / ** and {', '.join(_FUNCTIONS)}"
    )


def _evaluate(
    node: ast.expr, values: Mapping[str, NDArray[Any]], number: type[int] | type[float]
) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value):
            return number(value)
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=op, operand=operand):
            value = _evaluate(operand, values, number)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _evaluate(left, values, number), _evaluate(right, values, number)
            if isinstance(op, ast.Pow) and not isinstance(b, np.ndarray):
                # small whole powers as products: the same on every platform and quicker
                return a * a if b == 2 else np.power(np.asarray(a, np.float64), b)
            if isinstance(op, ast.Div):
                return np.divide(a, b)
            return _BINARY[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name][1](*(_evaluate(each, values, number) for each in args))
    raise AssertionError(ast.dump(node))  # _check let nothing else through


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _whole_range(node: ast.expr, limits: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Least and most that bands of these limits can give; None unless they are sure to be
    whole numbers of 64 bits, in every step on the way.
    """
    ends: list[int]
    match node:
        case ast.Constant(value=int() as value):
            ends = [value]
        case ast.Name(id=name):
            ends = [*limits[name]]
        case ast.UnaryOp(op=op, operand=operand):
            inner = _whole_range(operand, limits)
            if inner is None:
                return None
            ends = [-end for end in inner] if isinstance(op, ast.USub) else [*inner]
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() as op, right=right):
            a, b = _whole_range(left, limits), _whole_range(right, limits)
            if a is None or b is None:
                return None
            ends = [_BINARY[type(op)](x, y) for x in a for y in b]
        case ast.Call(func=ast.Name(id="abs"), args=[argument]):
            inner = _whole_range(argument, limits)
            if inner is None:
                return None
            ends = [max(inner[0], -inner[1], 0), max(-inner[0], inner[1])]
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[left, right]):
            a, b = _whole_range(left, limits), _whole_range(right, limits)
            if a is None or b is None:
                return None
            pick = min if name == "min" else max
            ends = [pick(a[0], b[0]), pick(a[1], b[1])]
        case _:
            return None
    low, high = min(ends), max(ends)
    return (low, high) if low >= -(2**63) and high < 2**63 else None
