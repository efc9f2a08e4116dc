"""A few machine instructions that Numba has no name for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

__all__ = [
    "leading_zeros",
    "load_i64",
    "nonzero_bytes",
    "store_f64",
    "store_u32",
    "trailing_zeros",
]


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Number of zero bits below the lowest set bit of a uint64; 64 for 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def leading_zeros(typingctx: Any, word: Any) -> Any:
    """Number of zero bits above the highest set bit of a uint64; 64 for 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def store_f64(typingctx: Any, address: Any, value: Any) -> Any:
    """Write a float64 at an address that need not be a multiple of 8."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.DoubleType().as_pointer())
        builder.store(args[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.float64), codegen


@intrinsic
def store_u32(typingctx: Any, address: Any, value: Any) -> Any:
    """Write a uint32 at an address that need not be a multiple of 4."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(32).as_pointer())
        builder.store(args[1], pointer, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint32), codegen


@intrinsic
def load_i64(typingctx: Any, address: Any) -> Any:
    """Read an int64 from an address that is a multiple of 4."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load(pointer, align=4)

    return types.int64(types.int64), codegen


@intrinsic
def nonzero_bytes(typingctx: Any, address: Any) -> Any:
    """Which of the 64 bytes at an address are not zero, the first as the lowest bit."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), 64)
        loaded = builder.load(builder.inttoptr(args[0], vector.as_pointer()), align=1)
        marks = builder.icmp_unsigned("!=", loaded, ir.Constant(vector, [0] * 64))
        return builder.bitcast(marks, ir.IntType(64))

    return types.uint64(types.int64), codegen
