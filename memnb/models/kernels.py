"""Triton, where there is any, where its kernels can be used, and what they share."""

from __future__ import annotations

import functools
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

    def options(self) -> dict[str, Any]:
        """What a launch says of it. A product and a sum are rounded once: Triton's default of
        that changes with 3.10, and 3.9 warns of it."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


def why_not(x: Tensor) -> str | None:
    """Why no kernel can be used where ``x`` is, or None if they can."""
    if MISSING:
        return MISSING
    if torch.version.hip:
        return "the kernels use instructions of NVIDIA's GPUs"
    if not x.is_cuda or not torch.is_autocast_enabled("cuda"):
        return "the kernels are for CUDA in bf16"  # the only precision of autocast in use here
    return None


@functools.cache
def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that one program may have: some 99 KiB on an A10, an L4 and GeForce
    cards, 163 on an A100, 227 on an H100."""
    if device.type != "cuda":
        return 2**30  # the interpreter
    with torch.cuda.device(device):
        properties = triton.runtime.driver.active.utils.get_device_properties(
            torch.cuda.current_device()
        )
    return int(properties["max_shared_mem"])


def dropout_threshold(dropout: float) -> int:
    """What 16 random bits must reach for a unit to be kept."""
    return round(dropout * 2**16)


if MISSING is None:
    # The interpreter knows no instructions of the GPU; the tests on one compare these as well.
    INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")

    @triton.jit
    def exp2(x):
        """2^x in one instruction; tl.exp2 takes four, for arguments that do not occur here."""
        if INTERPRETED:
            return tl.exp2(x)
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )
