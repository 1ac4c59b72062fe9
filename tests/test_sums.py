"""Sums along the sequence equal plain matrix products.

On a CUDA device the kernel runs compiled, in bf16; elsewhere in Triton's interpreter, in fp32,
where Triton is installed and TRITON_INTERPRET=1 is set.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from memnb.models import sums

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_kernel = pytest.mark.skipif(
    sums.MISSING is not None or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs Triton, and a CUDA device or TRITON_INTERPRET=1",
)
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"


def made(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@needs_kernel
@pytest.mark.parametrize("columns", [1, 8, 64, 128])
@pytest.mark.parametrize(("batch", "length", "width"), [(3, 1, 16), (2, 131, 128), (40, 70, 32)])
def test_the_kernel_equals_the_product(batch: int, length: int, width: int, columns: int) -> None:
    low = torch.float32 if INTERPRETED else torch.bfloat16
    weights = made(batch, length, columns, seed=0).to(low).requires_grad_()
    x = made(batch, length, width, seed=1).to(low).requires_grad_()
    direction = made(batch, columns, width, seed=2)
    got = torch.ops.memnb.weighted_sums(weights, x)
    assert got.dtype == torch.float32
    exact = [part.detach().double().requires_grad_() for part in (weights, x)]
    expected = exact[0].mT @ exact[1]
    torch.testing.assert_close(got, expected.float(), rtol=1e-4, atol=1e-4)
    got.backward(direction)
    expected.backward(direction.double())
    tolerance = 1e-5 if INTERPRETED else 1e-2
    for one, two in zip((weights, x), exact, strict=True):
        apart = (one.grad.double() - two.grad).norm() / two.grad.norm()
        assert float(apart) < tolerance


@needs_kernel
@pytest.mark.parametrize(("inner", "outer"), [(64, 8), (8, 64), (128, 128)])
def test_the_product_has_the_gradients_of_a_product(inner: int, outer: int) -> None:
    low = torch.float32 if INTERPRETED else torch.bfloat16
    a = made(2, 90, inner, seed=0).to(low).requires_grad_()
    b = made(2, inner, outer, seed=1).to(low).requires_grad_()
    direction = made(2, 90, outer, seed=2)
    sums._Product.apply(a, b).backward(direction.to(low))
    exact = [part.detach().double().requires_grad_() for part in (a, b)]
    (exact[0] @ exact[1]).backward(direction.double())
    for one, two in zip((a, b), exact, strict=True):
        apart = (one.grad.double() - two.grad).norm() / two.grad.norm()
        assert float(apart) < (1e-5 if INTERPRETED else 1e-2)


@pytest.mark.parametrize("columns", [1, 4, 8, 12])
def test_plain_products_with_any_number_of_columns(columns: int) -> None:
    x, rows = made(2, 30, 24, seed=0), made(2, columns, 24, seed=1)
    weights = made(2, 30, columns, seed=2)
    torch.testing.assert_close(sums.times_columns(x, rows), x @ rows.mT)
    torch.testing.assert_close(sums.mix(weights, rows), weights @ rows)
    torch.testing.assert_close(sums.weighted_sums(weights, x), weights.mT @ x)


def test_zeros_fill_up_to_a_multiple_of_eight() -> None:
    x = made(2, 3, 5, seed=0)
    filled = sums.to_multiple_of_8(x, 1)
    assert filled.shape == (2, 8, 5)
    assert torch.equal(filled[:, :3], x)
    assert not filled[:, 3:].any()
    assert sums.to_multiple_of_8(filled, 1) is filled
