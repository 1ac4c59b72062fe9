"""The measures measure what their names say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from kept_rows import keeping_rows

from memnb import build_model
from memnb.models.blocks import Trace
from memnb.models.network import Network
from memnb.probes import row_removal
from memnb.probes.attention_maps import attention_maps
from memnb.probes.degradation import (
    dominant_rows,
    effective_rank,
    measure,
    normalised_entropy,
    pairwise_cosine,
)
from memnb.probes.row_removal import (
    accuracy_by_rows_left,
    keeping_random_rows,
)


def network(name: str = "luna-4", **changes: Any) -> Network:
    torch.manual_seed(0)
    return build_model(name, "listops-short", width=16, mlp=16, **changes)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(1, 16, (5, 30), generator=generator, dtype=torch.uint8)
    return inputs, torch.tensor([30, 30, 20, 10, 5]), torch.tensor([0, 1, 2, 3, 4])


def test_cosine_is_one_for_equal_directions_and_zero_for_orthogonal() -> None:
    row = torch.randn(8)
    assert pairwise_cosine(torch.stack([row, 3 * row, 0.1 * row])) == pytest.approx(1.0)
    assert pairwise_cosine(torch.eye(5)) == pytest.approx(0.0)
    assert pairwise_cosine(torch.stack([row, -row])) == pytest.approx(-1.0)
    assert math.isnan(pairwise_cosine(row[None]))


def test_cosine_is_the_mean_over_pairs() -> None:
    rows = torch.randn(3, 6, 8)
    pairs = [
        torch.nn.functional.cosine_similarity(rows[:, i], rows[:, j])
        for i in range(6)
        for j in range(i)
    ]
    torch.testing.assert_close(pairwise_cosine(rows), torch.stack(pairs).mean(0))


def test_effective_rank_counts_directions() -> None:
    row = torch.randn(8)
    assert effective_rank(torch.stack([row, 2 * row, -row])) == pytest.approx(1.0, abs=1e-3)
    assert effective_rank(torch.eye(5)) == pytest.approx(5.0)
    assert effective_rank(torch.eye(5)[:, :3]) == pytest.approx(3.0)


def test_effective_rank_of_many_multiples_of_one_vector_is_one() -> None:
    scale = 2.0 ** torch.randint(-3, 4, (256, 1))  # exact, so that single precision holds multiples
    assert effective_rank(scale * torch.randn(128)) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_effective_rank_agrees_with_singular_values(shape: tuple[int, int]) -> None:
    rows = torch.randn(shape, dtype=torch.float64)
    share = torch.linalg.svdvals(rows)
    share = share / share.sum()
    expected = math.exp(-(share * share.log()).sum())
    assert effective_rank(rows) == pytest.approx(expected)


def test_entropy_is_one_when_uniform_and_zero_when_one_key_has_all() -> None:
    assert normalised_entropy(torch.full((7,), 1 / 7)) == pytest.approx(1.0)
    assert normalised_entropy(torch.tensor([0.0, 1.0, 0.0])) == pytest.approx(0.0)
    assert math.isnan(normalised_entropy(torch.ones(1)))


def test_dominant_rows_are_those_that_receive_over_half() -> None:
    one = torch.tensor([0.9, 0.05, 0.03, 0.02]).expand(1, 1, 3, 4)
    assert dominant_rows(one) == pytest.approx(0.25)
    assert dominant_rows(torch.full((1, 1, 3, 4), 0.25)) == pytest.approx(0.75)
    assert dominant_rows(torch.full((1, 2, 3, 100), 0.01)) == pytest.approx(0.5, abs=0.02)


def test_a_collapsed_memory_is_seen_in_the_packed_stream_only() -> None:
    """Rows that pack the same show cosine 1 and rank 1; m' hides it behind its start."""
    model = network("luna-4")
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.attention.pack["query"].weight.zero_()
    first = measure(model, *batch())[0]
    assert first["packed_cosine"] == pytest.approx(1.0, abs=1e-4)
    assert first["packed_rank"] == pytest.approx(1.0, abs=0.05)
    assert first["memory_cosine"] < 0.9
    assert first["memory_rank"] > 2


def test_every_block_is_measured_and_a_single_row_has_no_pairs() -> None:
    found = measure(network("convluna-1"), *batch())
    assert [row["block"] for row in found] == [1, 2]
    assert found[0]["packed_cosine"] is None
    assert found[0]["unpack_entropy"] is None
    assert 0 <= found[0]["pack_entropy"] <= 1
    assert measure(network("transformer"), *batch()) == []


def test_gradient_norms_are_those_of_the_loss() -> None:
    model = network("luna-4").double()
    inputs, lengths, labels = batch()
    found = measure(model, inputs, lengths, labels)
    # The same gradients with respect to something that is added to what the first block packs.
    added = torch.zeros(len(inputs), 4, 16, dtype=torch.float64, requires_grad=True)
    model.encoder.blocks[0].attention.edit_packed = lambda packed: packed + added
    scores = model.eval()(inputs, lengths)
    loss = torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
    norms = torch.autograd.grad(loss, added)[0].norm(dim=-1)
    assert found[0]["packed_gradient"] == pytest.approx(norms.mean().item())
    spread = (norms.std(dim=-1, correction=1) / norms.mean(dim=-1)).mean()
    assert found[0]["gradient_spread"] == pytest.approx(spread.item())
    model.train()
    assert found[0]["memory_gradient"] > 0
    assert found[1]["memory_gradient"] is None, "nothing reads the last block's memory"
    assert model.training, "the mode is given back"
    assert all(p.grad is None for p in model.parameters())


def test_measures_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("convluna-4").double()
    one = measure(model, *batch())
    monkeypatch.setattr("memnb.probes.degradation.CHUNK", 5)
    for a, b in zip(one, measure(model, *batch()), strict=True):
        assert a == pytest.approx(b)


# Chunks of 7 cut 30 positions unevenly; windows of 4 leave a single key of very short sequences.
MEMORIES: list[tuple[str, dict[str, Any]]] = [
    ("luna-4", {}),
    ("convluna-4", {}),
    ("poolluna-4", {"filter_stride": 2}),
    ("linformer-4", {}),
    ("chunkmem-4", {"chunk": 7}),
    ("convchunkmem-4", {"chunk": 7, "filter_stride": 3}),
    ("poolchunkmem-4", {"chunk": 3}),
    ("rmt-4", {"chunk": 7}),
    ("convrmt-4", {"chunk": 7}),
]
LENGTHS = [30, 30, 22, 10, 5, 1]


def memories(name: str, reading: str, changes: dict[str, Any]) -> Network:
    model = network(name, reading=reading, **changes).double()
    with torch.no_grad():  # attention that differs from position to position
        for parameter in model.encoder.blocks.parameters():
            parameter.mul_(3)
    return model


def padded(to: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 16, (6, 30), generator=generator, dtype=torch.uint8)
    lengths = torch.tensor(LENGTHS)
    tokens[torch.arange(30) >= lengths[:, None]] = 0
    return torch.nn.functional.pad(tokens, (0, to - 30)), lengths, torch.arange(6)


@pytest.mark.parametrize("representation", ["cls", "mean"])
@pytest.mark.parametrize(("name", "changes"), MEMORIES)
def test_even_attention_over_the_real_positions_has_entropy_one(
    name: str, changes: dict[str, Any], representation: str
) -> None:
    changes = {**changes, "representation": representation}
    model = memories(name, "as_intended", changes)
    with torch.no_grad():
        for called, parameter in model.encoder.blocks.named_parameters():
            if "query" in called:
                parameter.zero_()
    for to in (30, 53):
        for row in measure(model, *padded(to)):
            assert row["unpack_entropy"] == pytest.approx(1.0)
            if name != "linformer-4":  # its mixtures are not attention
                assert row["pack_entropy"] == pytest.approx(1.0)


@pytest.mark.parametrize("representation", ["cls", "mean"])
@pytest.mark.parametrize(("name", "changes"), MEMORIES)
def test_padding_changes_no_measure_of_a_model_that_masks_it(
    name: str, changes: dict[str, Any], representation: str
) -> None:
    model = memories(name, "as_intended", {**changes, "representation": representation})
    inputs, lengths, labels = padded(53)
    alone = [
        measure(model, inputs[one, None, :length], lengths[one, None], labels[one, None])
        for one, length in enumerate(LENGTHS)
    ]
    found = measure(model, inputs, lengths, labels)
    for row, shorter in zip(found, measure(model, *padded(30)), strict=True):
        assert row == pytest.approx(shorter, nan_ok=True)
    for number, row in enumerate(found):
        for key, value in row.items():
            if "gradient" in key:  # None alone, 0 among others where no second chunk reads a write
                continue
            each = [rows[number][key] for rows in alone if rows[number][key] is not None]
            if each:
                assert value == pytest.approx(sum(each) / len(each)), key
            else:
                assert value is None, key


@pytest.mark.parametrize(("name", "changes"), MEMORIES)
def test_without_a_mask_padding_is_looked_at_like_everything(
    name: str, changes: dict[str, Any]
) -> None:
    model = memories(name, "as_coded", changes).eval()
    inputs, lengths, labels = padded(40)
    trace: list[Trace] = []
    with torch.no_grad():
        model(inputs, lengths, trace)
    for row, block in zip(measure(model, inputs, lengths, labels), trace, strict=True):
        assert block.unpack is not None
        looked = normalised_entropy(block.unpack).mean()
        assert row["unpack_entropy"] == pytest.approx(float(looked))
        assert row["dominant_rows"] == pytest.approx(float(dominant_rows(block.unpack).mean()))
        if block.pack is not None:
            looked = normalised_entropy(block.pack).mean()  # NaN where each chunk has one key
            assert (row["pack_entropy"] or math.nan) == pytest.approx(float(looked), nan_ok=True)


def test_removal_scores_the_network_with_fewer_rows_and_gives_them_back() -> None:
    model = network("luna-4").eval()
    inputs, lengths, _ = batch()
    before = model(inputs, lengths)
    outputs: list[torch.Tensor] = []

    def accuracy() -> float:
        outputs.append(model(inputs, lengths))
        return 0.5

    found = accuracy_by_rows_left(model, accuracy, seed=0)
    assert [row["kept"] for row in found] == [4, 2, 1]
    assert {row["orders"] for row in found} == {row_removal.ORDERS}
    other = [outputs.pop(1), outputs.pop(1)]
    accuracy_by_rows_left(model, accuracy, seed=1)
    assert not any(torch.equal(a, b) for a, b in zip(other, outputs[2:], strict=True))
    torch.testing.assert_close(outputs[0], before)
    assert (outputs[-1] - before).abs().max() > 1e-4
    assert torch.equal(model(inputs, lengths), before)
    assert accuracy_by_rows_left(network("convluna-1"), accuracy, seed=0) == []


MEMORIES = (
    "luna-4", "luna-8", "convluna-4", "poolluna-4", "chunkmem-4", "convchunkmem-4", "rmt-4",
    "convrmt-4", "perceiver-4", "linformer-4",
)  # fmt: skip


@pytest.mark.parametrize("reading", ["as_coded", "as_intended"])
@pytest.mark.parametrize("name", MEMORIES)
def test_every_sequence_of_a_batch_can_lose_rows_of_its_own(name: str, reading: str) -> None:
    sizes = {"chunk": 7} if "chunkmem" in name or "rmt" in name else {}
    model = network(name, reading=reading, **sizes).eval()
    inputs, lengths, _ = batch()
    memory = model.model.memory
    keep = torch.rand(len(inputs), memory).argsort(dim=1) < 2
    with keeping_rows(model, keep):
        together = model(inputs, lengths)
        with torch.no_grad():
            torch.testing.assert_close(model(inputs, lengths), together)
    assert (together - model(inputs, lengths)).abs().max() > 3e-4, "rows are missed"
    for one, rows in enumerate(keep):
        with keeping_rows(model, rows):
            alone = model(inputs[[one]], lengths[[one]])
        torch.testing.assert_close(together[[one]], alone, rtol=1e-4, atol=1e-5)


def read(model: Network) -> torch.Tensor:
    """What the first block is told to read."""
    kept: torch.Tensor = next(m.keep_rows for m in model.modules() if hasattr(m, "keep_rows"))
    return kept


def test_random_rows_are_each_examples_own_and_the_same_in_every_block() -> None:
    model = network("luna-16").eval()
    inputs, lengths, _ = batch()
    seen: dict[int, torch.Tensor] = {}
    for kept in (8, 1):
        with keeping_random_rows(model, kept, seed=3):
            parts = []
            for start in (0, 2):  # the same whatever the batches are
                model(inputs[start : start + 3], lengths[start : start + 3])
                masks = [m.keep_rows for m in model.modules() if hasattr(m, "keep_rows")]
                assert all(torch.equal(mask, masks[0]) for mask in masks)
                parts.append(masks[0])
        seen[kept] = torch.cat(parts)
        assert seen[kept].shape == (6, 16)
        assert seen[kept].sum(dim=1).tolist() == [kept] * 6
        assert len(seen[kept].unique(dim=0)) > 1
    assert not (seen[1] & ~seen[8]).any(), "fewer rows are some of the same"
    with keeping_random_rows(model, 8, seed=3):
        model(inputs, lengths)
        assert torch.equal(read(model), seen[8][:5])
    with keeping_random_rows(model, 8, seed=4):
        model(inputs, lengths)
        assert not torch.equal(read(model), seen[8][:5])
    assert all(m.keep_rows is None for m in model.modules() if hasattr(m, "keep_rows"))


def test_every_row_stays_as_often_as_the_others() -> None:
    model = network("luna-4").eval()
    inputs, lengths, _ = batch()
    many = inputs[[0] * row_removal.ORDERS], lengths[[0] * row_removal.ORDERS]
    with keeping_random_rows(model, 1, seed=0):
        model(*many)
        shares = read(model).double().mean(dim=0)
        model(*many)
        assert torch.equal(read(model).double().mean(dim=0), shares), "the turns begin again"
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.06)


def test_random_rows_are_back_after_an_error() -> None:
    model = network("luna-4").eval()
    inputs, lengths, _ = batch()
    before = model(inputs, lengths)
    with pytest.raises(IndexError), keeping_random_rows(model, 1, seed=0):
        model(torch.full_like(inputs, 99), lengths)  # no such token
    assert torch.equal(model(inputs, lengths), before)


@pytest.mark.parametrize("name", ["luna-4", "convluna-1", "poolluna-4"])
def test_attention_maps_are_cut_to_the_sequence(name: str) -> None:
    inputs, lengths, labels = batch()
    found = attention_maps(network(name), inputs[3], lengths[3], labels[3])
    rows = 1 if name.endswith("-1") else 4
    assert found["unpack"].shape == (2, 4, 11, rows)
    assert found["pack"].shape == (2, 4, rows, 11)
    assert found["tokens"].tolist() == inputs[3, :10].tolist()
    assert found["pack"].dtype == np.float16
    assert (int(found["length"]), int(found["label"])) == (10, 3)
    assert attention_maps(network("transformer"), inputs[3], lengths[3], labels[3]) == {}
