"""The fused half block equals its written-out twin.

On a CUDA device the kernels run compiled, in bf16; elsewhere in Triton's interpreter, in fp32,
where Triton is installed and TRITON_INTERPRET=1 is set.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.models import fused

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.skipif(
    fused.MISSING is not None or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs Triton, and a CUDA device or TRITON_INTERPRET=1",
)
NAMES = ("x", "up", "up_bias", "down", "down_bias", "gain", "shift")


def device() -> str:
    return "cpu" if INTERPRETED else "cuda"


def parts(positions: int, width: int, hidden: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(positions, width), (hidden, width), (hidden,), (width, hidden), (width,)]
    found = [torch.randn(shape, generator=generator) for shape in shapes]
    found[1] /= width**0.5
    found[3] /= hidden**0.5
    gain = 1 + 0.3 * torch.randn(width, generator=generator)
    return [*found, gain, 0.3 * torch.randn(width, generator=generator)]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("positions", "width", "hidden"), [(200, 32, 128), (131, 128, 384)])
def test_values_and_gradients(
    positions: int, width: int, hidden: int, dropout: float, norm_first: bool
) -> None:
    seed = torch.tensor([12345678, 2**31 - 7], device=device())
    direction = torch.randn(positions, width, generator=torch.Generator().manual_seed(1))
    low = torch.float32 if INTERPRETED else torch.bfloat16
    given = [part.to(device()).requires_grad_() for part in parts(positions, width, hidden)]
    halved = (1, 3) if norm_first else (0, 1, 3)  # a residual stream may stay as precise as it is
    cast = [p.to(low) if i in halved else p for i, p in enumerate(given)]
    y, _, _ = torch.ops.memnb.ffn_norm(*cast, seed, dropout, 1e-6, norm_first)
    assert y.dtype == cast[0].dtype
    y.backward(direction.to(y))
    exact = [part.detach().double().requires_grad_() for part in given]
    expected = fused.ffn_norm_written_out(*exact, seed, dropout, 1e-6, norm_first)
    expected.backward(direction.to(expected))
    # of the tensor's size; bf16 has 8 bits, and gradients are rounded to it three times
    tolerance = 1e-5 if INTERPRETED else 2e-2
    assert _apart(y, expected) < tolerance
    for name, got, wanted in zip(NAMES, given, exact, strict=True):
        assert _apart(got.grad, wanted.grad) < tolerance, name


def _apart(got: Tensor | None, wanted: Tensor | None) -> float:
    assert got is not None
    assert wanted is not None
    difference = got.detach().double() - wanted.detach()
    return float(difference.norm() / wanted.detach().norm())


def test_dropout_keeps_the_share_that_it_should_and_is_independent() -> None:
    seed, other = (torch.tensor([7, n], device=device()) for n in (8, 9))
    for kept in (fused.kept_hidden, fused.kept_out):
        one, two = (kept(s, 2000, 512, 0.1).double() for s in (seed, other))
        assert float(one.mean()) == pytest.approx(0.9, abs=0.001)
        # 64 apart are the two halves of one hash.
        for shift in ((0, 1), (1, 0), (0, 4), (3, 7), (0, 64), (0, 128)):
            both = one * one.roll(shift, dims=(0, 1))
            assert float(both.mean()) == pytest.approx(0.81, abs=0.002)
        assert float((one * two).mean()) == pytest.approx(0.81, abs=0.002)


def test_only_dropout_draws_random_numbers() -> None:
    up, down, norm = (part.to(device()) for part in half_block(64, 128))
    x = torch.randn(20, 64, device=device())

    def state() -> Tensor:
        return torch.get_rng_state() if INTERPRETED else torch.cuda.get_rng_state()

    before = state()
    fused.ffn_norm(x, up, down, norm, 0.0)
    assert torch.equal(state(), before), "an evaluation changes nothing of the training around it"
    fused.ffn_norm(x, up, down, norm, 0.1)
    assert not torch.equal(state(), before)


def half_block(width: int, hidden: int) -> tuple[nn.Linear, nn.Linear, nn.LayerNorm]:
    return nn.Linear(width, hidden), nn.Linear(hidden, width), nn.LayerNorm(width)


@pytest.mark.parametrize("norm_first", [False, True])
def test_equal_calls_give_equal_bits(norm_first: bool) -> None:
    seed = torch.tensor([1, 2], device=device())
    low = torch.float32 if INTERPRETED else torch.bfloat16
    results = []
    for _ in range(2):
        given = [p.to(device()).requires_grad_() for p in parts(300, 64, 128)]
        cast = [p.to(low) if i in (0, 1, 3) else p for i, p in enumerate(given)]
        y, _, _ = torch.ops.memnb.ffn_norm(*cast, seed, 0.1, 1e-6, norm_first)
        functional.mse_loss(y.float(), torch.zeros_like(y, dtype=torch.float32)).backward()
        results.append([y, *(p.grad for p in given)])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
