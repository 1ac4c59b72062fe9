"""Triton, where there is any, and where its kernels can be used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl

    MISSING: str | None = None
except ImportError:  # Windows, macOS and CPU builds of PyTorch come without it
    triton = tl = None
    MISSING = "Triton is not installed"

__all__ = ["MISSING", "Tiles", "tl", "triton", "why_not"]


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
