"""Attention's kernels equal their written-out twin.

On a CUDA device the kernels run compiled, in bf16; elsewhere in Triton's interpreter, in fp32,
where Triton is installed and TRITON_INTERPRET=1 is set.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from memnb.models import flash

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
needs_kernel = pytest.mark.skipif(
    flash.MISSING is not None or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs Triton, and a CUDA device or TRITON_INTERPRET=1",
)
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
LOW = torch.float32 if INTERPRETED else torch.bfloat16
SEED = (12345678, 2**31 - 7)


def parts(batch: int, heads: int, queries: int, keys: int, channels: int) -> list[Tensor]:
    """Query, key and value (B, n, L, d) as models make them: heads side by side, then split."""
    generator = torch.Generator().manual_seed(0)
    made = [
        torch.randn(batch, length, heads, channels, generator=generator).transpose(1, 2)
        for length in (queries, keys, keys)
    ]
    return [part.to(DEVICE, LOW) for part in made]


SHAPES = [
    (2, 2, 200, 131, 32),
    (3, 1, 16, 150, 16),  # a memory writes
    (2, 4, 130, 16, 32),  # and is read
    (1, 2, 1, 257, 64),  # the last block's CLS
    (2, 1, 40, 64, 16),
]


@needs_kernel
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape: tuple[int, ...], masked: bool, dropout: float) -> None:
    seed = torch.tensor(SEED, device=DEVICE)
    given = [part.requires_grad_() for part in parts(*shape)]
    batch, heads, queries, keys, channels = shape
    mask = None
    if masked:  # the first sample keeps two keys only: whole tiles are hidden
        lengths = torch.linspace(2, keys, batch).long()
        mask = (torch.arange(keys) < lengths[:, None]).to(DEVICE, torch.uint8)
    direction = torch.randn(
        batch, queries, heads, channels, generator=torch.Generator().manual_seed(1)
    ).to(DEVICE)
    until = None if mask is None else flash.last_readable(mask)
    scale = channels**-0.5
    out, _ = torch.ops.memnb.attention(*given, mask, until, seed, scale, dropout)
    out.backward(direction.to(out))
    exact = [part.detach().double().requires_grad_() for part in given]
    expected = flash.attention_written_out(*exact, mask, seed, scale, dropout)
    expected.backward(direction.double())
    # of the tensor's size; bf16 has 8 bits
    tolerance = 1e-5 if INTERPRETED else 2e-2
    assert _apart(out, expected) < tolerance
    for name, got, wanted in zip(("query", "key", "value"), given, exact, strict=True):
        assert _apart(got.grad, wanted.grad) < tolerance, name
    if mask is not None:
        hidden = mask[:, None, :, None].expand_as(given[1]) == 0
        assert not given[1].grad[hidden].any()
        assert not given[2].grad[hidden].any()


@needs_kernel
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 20, 700, 16), (2, 1, 700, 20, 32), (1, 2, 300, 400, 16)])
def test_in_pieces_values_and_gradients_are_the_same(
    shape: tuple[int, ...], masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few samples and heads beside a long sequence: of keys, of queries, of both."""
    monkeypatch.setattr(flash, "PIECE", 128)
    cut: list[int] = []

    def pieces(programs: int, length: int, device: torch.device) -> int:
        cut.append(flash_pieces(programs, length, device))
        return cut[-1]

    flash_pieces = flash.pieces
    monkeypatch.setattr(flash, "pieces", pieces)
    monkeypatch.setattr(flash, "multiprocessors", lambda _: 132)
    # Under the mask whole pieces of the first sample hold nothing that may be read.
    test_values_and_gradients(shape, masked, dropout=0.1)
    assert max(cut) > 2


def test_pieces_fill_the_device_and_are_not_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash, "multiprocessors", lambda _: 132)
    device = torch.device("cpu")
    assert flash.pieces(256, 10**6, device) == 1, "Text's batch fills the device"
    assert flash.pieces(8, 10**6, device) == 66
    assert flash.pieces(8, 16000, device) == 15
    assert flash.pieces(128, 500, device) == 1, "a memory that writes from a chunk"


def test_what_was_read_in_pieces_is_put_together() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 50, 8, generator=generator).double() for _ in range(3))
    logits = query @ key.mT
    pieces = [slice(0, 20), slice(20, 21), slice(21, 50)]
    parts = [(logits[..., p].softmax(-1) @ value[:, :, p]).transpose(1, 2) for p in pieces]
    sums = [logits[..., p].exp().sum(-1).log2() for p in pieces]
    nothing = torch.full_like(sums[0], -1e30)  # what the kernel writes where no key may be read
    parts, sums = [*parts, torch.zeros_like(parts[0])], [*sums, nothing]
    out, total = flash.put_together(torch.stack(parts), torch.stack(sums))
    torch.testing.assert_close(out, (logits.softmax(-1) @ value).transpose(1, 2))
    torch.testing.assert_close(total, logits.exp().sum(-1).log2())


def _apart(got: Tensor | None, wanted: Tensor | None) -> float:
    assert got is not None
    assert wanted is not None
    difference = got.detach().double() - wanted.detach()
    return float(difference.norm() / wanted.detach().norm())


def test_dropout_keeps_the_share_that_it_should_and_is_independent() -> None:
    shape = torch.Size((2, 2, 500, 512))
    seeds = [torch.tensor([7, n]) for n in (8, 9)]
    one, two = (flash.kept(seed, shape, 0.1).double().flatten(0, 2) for seed in seeds)
    assert float(one.mean()) == pytest.approx(0.9, abs=0.001)
    # 64 apart are the two halves of one hash.
    for shift in ((0, 1), (1, 0), (0, 4), (3, 7), (0, 64), (0, 128), (500, 0)):
        both = one * one.roll(shift, dims=(0, 1))
        assert float(both.mean()) == pytest.approx(0.81, abs=0.002)
    assert float((one * two).mean()) == pytest.approx(0.81, abs=0.002)
    # A hash is of the sum of one for the query and one for the keys: no rectangle may show it.
    square = one * one.roll(3, 0) * one.roll(5, 1) * one.roll((3, 5), (0, 1))
    assert float(square.mean()) == pytest.approx(0.9**4, abs=0.003)
    rows, columns = one.mean(1), one.mean(0)
    assert float(rows.std()) == pytest.approx((0.09 / 512) ** 0.5, rel=0.1)
    assert float(columns.std()) == pytest.approx((0.09 / 2000) ** 0.5, rel=0.15)


def test_the_last_key_that_may_be_read() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.uint8)
    assert flash.last_readable(mask).tolist() == [2, 3, 4]


@needs_kernel
def test_only_dropout_draws_random_numbers() -> None:
    query, key, value = parts(1, 2, 20, 30, 16)

    def state() -> Tensor:
        return torch.get_rng_state() if INTERPRETED else torch.cuda.get_rng_state()

    before = state()
    flash.attention(query, key, value, 0.25)
    assert torch.equal(state(), before), "an evaluation changes nothing of the training around it"
    flash.attention(query, key, value, 0.25, dropout=0.1)
    assert not torch.equal(state(), before)


@needs_kernel
def test_equal_calls_give_equal_bits() -> None:
    seed = torch.tensor([1, 2], device=DEVICE)
    results = []
    for _ in range(2):
        given = [part.requires_grad_() for part in parts(2, 2, 300, 300, 32)]
        out, _ = torch.ops.memnb.attention(*given, None, None, seed, 0.2, 0.1)
        out.float().square().mean().backward()
        results.append([out, *(part.grad for part in given)])
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@needs_kernel
def test_masks_are_broadcast_as_elsewhere() -> None:
    query, key, value = parts(3, 2, 5, 40, 16)
    mask = torch.arange(40, device=DEVICE) < 7
    got = flash.attention(query, key, value, 0.25, mask[None, None, None, :])
    expected = flash.attention(query, key[:, :, :7], value[:, :, :7], 0.25)
    assert got.shape == query.shape
    torch.testing.assert_close(got, expected, rtol=2e-2, atol=2e-2)
