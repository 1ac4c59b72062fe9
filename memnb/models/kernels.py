"""Triton, where there is any, where its kernels can be used, and what they share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    MISSING: str | None = None
except ImportError:  # Windows, macOS and CPU builds of PyTorch come without it
    triton = tl = None
    MISSING = "Triton is not installed"

__all__ = ["MISSING", "Tiles", "dropout_threshold", "tl", "triton", "why_not"]


@dataclass(frozen=True)
class Tiles:
    """How a kernel is cut: positions at a time, warps, stages of loading."""

    rows: int
    warps: int
    stages: int


def why_not(x: Tensor) -> str | None:
    """Why no kernel can be used where ``x`` is, or None if they can."""
    if MISSING:
        return MISSING
    if not x.is_cuda or not torch.is_autocast_enabled("cuda"):
        return "the kernels are for CUDA in bf16"  # the only precision of autocast in use here
    return None


def dropout_threshold(dropout: float) -> int:
    """What 16 random bits must reach for a unit to be kept."""
    return round(dropout * 2**16)


if MISSING is None:
    # The interpreter knows no instructions of the GPU; the tests on one compare these as well.
    INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")

    @triton.jit
    def exp2(x: Any) -> Any:
        """2^x in one instruction; tl.exp2 takes four, for arguments that do not occur here."""
        if INTERPRETED:
            return tl.exp2(x)
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )
