"""The kernels compile for GPUs that are not here, and what a program takes there is to be had.

Triton's compiler needs no GPU. `make kernels` brings one, for machines whose PyTorch has none.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from memnb.models import flash, fused, kernels, sums
from memnb.models.kernels import MISSING, triton

needs_compiler = pytest.mark.skipif(
    MISSING is not None or os.environ.get("TRITON_INTERPRET") == "1",
    reason="needs Triton, and not its interpreter",
)

# Bytes of shared memory that a program may have, by compute capability (CUDA programming guide,
# table of technical specifications): A10, GeForce RTX 30; H100.
ROOM = {86: 99 * 1024, 90: 227 * 1024}
KINDS = {
    torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int64: "*i64", torch.int32: "*i32",
    torch.uint8: "*u8",
}  # fmt: skip
HALF = torch.bfloat16


def room_taken(
    kernel: Any, values: dict[str, Any], options: dict[str, int], capability: int
) -> int:
    """Compile a kernel as a launch with these values would; shared memory of a program, bytes."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, known = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        name, value = parameter.name, values[parameter.name]
        if parameter.is_constexpr:
            signature[name], constants[name] = "constexpr", value
            continue
        if isinstance(value, Tensor):
            signature[name] = KINDS[value.dtype]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
        # What is known to be a multiple of 16 is loaded in large pieces and ahead of time.
        if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
            known[place,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=constants, attrs=known)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert made.asm["cubin"]
    return int(made.metadata.shared)


@pytest.fixture(params=sorted(ROOM), ids=lambda capability: f"sm_{capability}")
def launched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the kernels that were launched: they are compiled for a GPU, and not run."""
    capability = request.param
    names: set[str] = set()

    def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **settings: Any) -> None:
        of_kernel = {parameter.name for parameter in kernel.params}
        values = dict(zip(kernel.arg_names, args, strict=False))
        values |= {name: value for name, value in settings.items() if name in of_kernel}
        options = {name: value for name, value in settings.items() if name not in of_kernel}
        taken = room_taken(kernel, values, options, capability)
        assert taken <= ROOM[capability], f"{kernel.__name__} takes {taken} bytes"
        names.add(kernel.__name__)

    monkeypatch.setattr(triton.runtime.jit.JITFunction, "run", run)
    monkeypatch.setattr(kernels, "shared_memory", lambda _: ROOM[capability])
    return names


@needs_compiler
@pytest.mark.parametrize("width", [128, max(fused.WIDTHS)])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_second_half_of_a_block(launched: set[str], norm_first: bool, width: int) -> None:
    x = torch.zeros(100, width, dtype=torch.float32 if norm_first else HALF)
    up, down = torch.zeros(512, width, dtype=HALF), torch.zeros(width, 512, dtype=HALF)
    hidden, across = torch.zeros(512), torch.zeros(width)
    seed, settings = torch.zeros(2, dtype=torch.int64), (0.1, 1e-6, norm_first)
    y, read, scale = torch.ops.memnb.ffn_norm(
        x, up, hidden, down, across, across, across, seed, *settings
    )
    torch.ops.memnb.ffn_norm_backward(y, x, read, scale, up, hidden, down, across, seed, *settings)
    assert launched == {"_forward_kernel", "_backward_kernel"}


@needs_compiler
@pytest.mark.parametrize("channels", [32, max(flash.HEAD_WIDTHS)])
@pytest.mark.parametrize(("queries", "keys"), [(300, 300), (16, 300), (300, 16)])
def test_attention(launched: set[str], queries: int, keys: int, channels: int) -> None:
    query, dout = (torch.zeros(2, 4, queries, channels, dtype=HALF) for _ in range(2))
    key, value = (torch.zeros(2, 4, keys, channels, dtype=HALF) for _ in range(2))
    mask = torch.ones(2, keys, dtype=torch.uint8)
    settings = (mask, flash.last_readable(mask), torch.zeros(2, dtype=torch.int64), 0.2, 0.1)
    out, lse = torch.ops.memnb.attention(query, key, value, *settings)
    torch.ops.memnb.attention_backward(dout.transpose(1, 2), out, lse, query, key, value, *settings)
    assert launched == {"_attention_kernel", "_attention_query_kernel", "_attention_key_kernel"}


@needs_compiler
@pytest.mark.parametrize("width", [128, max(sums.WIDTHS)])
@pytest.mark.parametrize("columns", [16, sums.MOST_COLUMNS])
def test_sums_along_the_sequence(launched: set[str], columns: int, width: int) -> None:
    weights, x = (torch.zeros(2, 300, count, dtype=HALF) for count in (columns, width))
    torch.ops.memnb.weighted_sums(weights, x)
    assert launched == {"_sums_kernel"}


def test_a_wide_backward_pass_is_cut_smaller_where_there_is_little_shared_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = torch.device("cpu")
    rows = {}
    for card, room in {"RTX 4090": 99, "A100": 163, "H100": 227}.items():
        monkeypatch.setattr(kernels, "shared_memory", lambda _, room=room: room * 1024)
        rows[card] = [fused.backward_tiles(width, device).rows for width in (128, 256)]
    assert rows == {"RTX 4090": [64, 32], "A100": [64, 64], "H100": [64, 64]}


def test_a_gpu_that_is_not_nvidias_gets_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch calls AMD's GPUs "cuda" as well."""
    monkeypatch.setattr(kernels, "MISSING", None)
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert "NVIDIA" in str(kernels.why_not(torch.zeros(1)))
