"""Which device trains, in which precision, and why."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from memnb.errors import MemnbError, first_line

Precision = Literal["fp32", "bf16"]
DEVICES = ("auto", "cpu", "cuda")
_MPS_ENABLED = 133  # CU_DEVICE_ATTRIBUTE_MPS_ENABLED, of CUDA's driver interface (cuda.h)


@dataclass(frozen=True)
class Device:
    """A device and the precision chosen for it.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        name: the model of the processor or graphics card.
        precision: of matrix products; weights, optimizer state and the loss are always fp32.
        reason: one sentence on why this device and precision.
    """

    kind: Literal["cpu", "cuda"]
    name: str
    precision: Precision
    reason: str


@contextmanager
def deterministic_sums(wanted: bool) -> Iterator[None]:
    """While open, and if ``wanted``: only kernels whose sums have a fixed order.

    On CUDA the attention kernels (the Transformer, and memories with n * M > H) then take a slower
    way back; models with few rows use no other kernels anyway. On the CPU nothing changes.

    Raises:
        RuntimeError: (from PyTorch, inside) an operation has no deterministic form.
    """
    if not wanted:
        yield
        return
    # Read when the first matrix product is made: cuBLAS then keeps one workspace per stream.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cuda.cudnn_sdp_enabled()
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.enable_cudnn_sdp(False)  # its gradients have no deterministic form
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cuda.enable_cudnn_sdp(before[1])


def choose_device(wanted: str = "auto") -> Device:
    """The device called ``wanted``; ``auto`` takes a CUDA device if there is one.

    bf16 is chosen from compute capability 8.0 on (the first with bf16 matrix units), else fp32.

    Raises:
        MemnbError: an unknown name, or ``cuda`` where PyTorch sees no CUDA device.
    """
    if wanted not in DEVICES:
        raise MemnbError(
            f"The device must be one of {', '.join(DEVICES)}, but got '{wanted}'; choose one."
        )
    missing = why_no_cuda()
    if wanted == "cuda" and missing:
        raise MemnbError(f"The device 'cuda' is not available: {missing}; use --device cpu.")
    if wanted == "cpu" or missing:
        why = "asked for" if wanted == "cpu" else missing
        return Device("cpu", processor_name(), "fp32", f"CPU, fp32 ({why}).")
    name = torch.cuda.get_device_name()
    capability = torch.cuda.get_device_capability()
    shown = ".".join(map(str, capability))
    if capability >= (8, 0):
        return Device("cuda", name, "bf16", f"{name}, bf16 (compute capability {shown} >= 8.0).")
    reason = f"{name}, fp32 (compute capability {shown} has no bf16 matrix units)."
    return Device("cuda", name, "fp32", reason)


def check_usable(device: Device) -> None:
    """Reach for the device once, so that no fallback is tried on one that cannot be used at all.

    Not part of :func:`choose_device`: what asks for a device need not be what trains on it, and a
    process that has touched a GPU holds memory there.

    Raises:
        MemnbError: the GPU refuses, as one does that another process has for itself.
    """
    if device.kind == "cpu":
        return
    try:
        torch.zeros(1, device=device.kind).item()
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise MemnbError(
            f"The GPU ({device.name}) cannot be used: {first_line(error)}; see with nvidia-smi "
            "whether another process has it for itself, and start again when it is free, or use "
            "--device cpu."
        ) from error


def why_no_cuda() -> str | None:
    """Why PyTorch cannot use CUDA here, or None if it can."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is a build without CUDA"
    return f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) finds no usable CUDA device"


def runs_mps() -> bool:
    """Whether NVIDIA's MPS runs here: processes then train on one graphics card at once, not in
    turn. PyTorch does not tell, so the driver is asked; one older than CUDA 12 does not know, which
    counts as no."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False  # no NVIDIA driver, or not Linux, where alone MPS exists
    card, answer = ctypes.c_int(), ctypes.c_int(0)
    calls = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(card), 0),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(answer), _MPS_ENABLED, card),
    )
    return all(call() == 0 for call in calls) and answer.value == 1


def processor_name() -> str:
    """The model of the processor, as well as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory(device: Device) -> int:
    """Bytes: of the device on CUDA, else the largest resident size of this process so far."""
    if device.kind == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource  # Windows, whose devices can be looked at all the same, has none

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
