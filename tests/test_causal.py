"""Meddling with a trained model's memory does what it says, and is undone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from memnb import build_model, config
from memnb.models.blocks import Trace
from memnb.models.network import Network
from memnb.probes import answers, causal
from memnb.probes.attention_maps import attention_maps
from memnb.probes.attribution import attribution
from memnb.probes.degradation import measure
from memnb.probes.filters import filter_state
from memnb.probes.row_removal import ORDERS, keeping_random_rows, rows_left
from memnb.probes.views import filling
from memnb.train import examination


def network(name: str = "luna-4", task: str = "listops-short", **changes: Any) -> Network:
    torch.manual_seed(0)
    return build_model(name, task, **{"width": 16, "mlp": 16, **changes}).eval()


def batch(count: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(1, 16, (count, 30), generator=generator, dtype=torch.uint8)
    lengths = torch.tensor([30, 28, 20, 10, 5, 30, 30, 30])[:count]
    return inputs, lengths, torch.arange(count) % 10


def attentions(model: Network) -> list[Any]:
    return [block.attention for block in model.encoder.blocks]


def packed(model: Network) -> Tensor:
    """What unpack of the first block reads: (B, M, H)."""
    trace: list[Trace] = []
    model(*batch()[:2], trace)
    return trace[0].packed.detach()


def test_every_test_is_made_on_the_same_examples() -> None:
    rows = causal.causal_tests(network(), *batch(), seed=0)
    names = [(row["test"], row["rule"], row["kept"]) for row in rows]
    rules = ("random", *causal.BY_USE)
    removals = [("remove", rule, kept) for rule in rules for kept in (2, 1)]
    others = [("shuffle", "", 4), ("mean", "", 4), ("freeze", "", 4), ("swap", "", 4)]
    assert names == [("intact", "", 4), *removals, *others]
    assert {(row["examples"], row["memory"]) for row in rows} == {(6, 4)}
    assert rows[0]["changed"] == 0.0


def test_one_row_can_only_be_exchanged_and_a_transformer_has_nothing_to_test() -> None:
    rows = causal.causal_tests(network("convluna-1"), *batch(), seed=0)
    assert [row["test"] for row in rows] == ["intact", "freeze", "swap"]
    assert causal.causal_tests(network("transformer"), *batch(), seed=0) == []
    assert causal.row_usage(network("transformer"), *batch()) == []


def test_no_example_is_exchanged_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five examples in batches of four: the last one joins the others."""
    inputs, lengths, labels = batch()
    sizes: list[int] = []
    monkeypatch.setitem(answers.POSITIONS, "cpu", 4 * inputs.shape[1])
    model = network()
    model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    for count in (1, 2, 4, 5, 6):
        sizes.clear()
        assert len(answers.answers(model, inputs[:count], lengths[:count])) == count
        assert sizes == {1: [1], 2: [2], 4: [4], 5: [5], 6: [4, 2]}[count]
    one = causal.causal_tests(model, inputs[:1], lengths[:1], labels[:1], seed=0)
    assert {"shuffle", "swap"}.isdisjoint(row["test"] for row in one)


@pytest.mark.parametrize("name", ["luna-4", "convluna-4", "poolluna-4", "convluna-1", "luna-8"])
def test_the_model_is_given_back_as_it_was(name: str) -> None:
    model = network(name).train()
    inputs, lengths, labels = batch()
    before = model(inputs, lengths)
    causal.examine(model, inputs, lengths, labels, seed=3)
    assert model.training
    assert torch.equal(model(inputs, lengths), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_mode_is_given_back_where_an_input_is_refused() -> None:
    model = network().train()
    _, lengths, labels = batch()
    inputs = torch.full((6, 30), 99, dtype=torch.uint8)  # no such token
    one = inputs[0], lengths[0], labels[0]
    for ask in (
        lambda: answers.answers(model, inputs, lengths),
        lambda: causal.row_usage(model, inputs, lengths, labels),
        lambda: measure(model, inputs, lengths, labels),
        lambda: attention_maps(model, *one),
        lambda: attribution(model, *one[:2]),
        lambda: filling(model, *one[:2]),
    ):
        with pytest.raises(IndexError):
            ask()
        assert model.training


def test_edits_reach_the_fast_path_and_the_written_out_one_alike() -> None:
    for name in ("luna-4", "convluna-4", "luna-8"):
        model = network(name)
        inputs, lengths, _ = batch()
        plain = model(inputs, lengths)
        with causal.editing(attentions(model), causal.mean_row):
            fast, written_out = model(inputs, lengths), model(inputs, lengths, [])
        torch.testing.assert_close(fast, written_out, atol=1e-5, rtol=1e-5)
        assert (fast - plain).abs().max() > 1e-5


def test_the_mean_row_stands_in_every_place() -> None:
    model = network()
    before = packed(model)
    with causal.editing(attentions(model)[:1], causal.mean_row):
        after = packed(model)
    torch.testing.assert_close(after, before.mean(1, keepdim=True).expand(-1, 4, -1))


def test_swap_gives_the_memory_of_the_example_before() -> None:
    model = network()
    before = packed(model)
    with causal.editing(attentions(model)[:1], causal.swapped(model)):
        torch.testing.assert_close(packed(model), before.roll(1, dims=0))


@pytest.mark.parametrize(("name", "sources"), [("luna-4", 4), ("luna-8", 5)])
def test_shuffle_takes_every_row_from_another_example_and_leaves_it_in_its_place(
    name: str, sources: int
) -> None:
    model = network(name)
    before = packed(model)
    with causal.editing(attentions(model)[:1], causal.shuffled(model, seed=0)):
        after = packed(model)
    origins = [
        [
            int((before[:, row] - after[example, row]).abs().sum(-1).argmin())
            for row in range(before.shape[1])
        ]
        for example in range(len(before))
    ]
    for example, rows in enumerate(origins):
        assert example not in rows
        assert len(set(rows)) == sources, "six examples have five others each"


def test_shuffle_takes_no_two_rows_from_one_example_in_a_batch_as_large_as_on_a_gpu() -> None:
    examples = torch.arange(54.0)[:, None, None].expand(54, 16, 2)
    found = causal.shuffled(network("luna-16"), seed=0)(examples)[..., 0]
    assert {len(row.unique()) for row in found} == {16}
    assert (found != examples[..., 0]).all()
    assert torch.equal(causal.shuffled(network("luna-16"), seed=0)(examples)[..., 0], found)


def test_both_documents_of_a_pair_are_exchanged_with_those_of_one_other_pair() -> None:
    model = network("luna-4", "retrieval")
    rows = torch.arange(8.0)[:, None, None].expand(8, 4, 16)  # two documents of four pairs
    assert causal.swapped(model)(rows)[:, 0, 0].tolist() == [6, 7, 0, 1, 2, 3, 4, 5]
    shuffled = causal.shuffled(model, 0)(rows)
    assert (shuffled[::2] % 2 == 0).all()
    assert (shuffled[1::2] - shuffled[::2] == 1).all()


def test_a_frozen_memory_reaches_every_block() -> None:
    model = network(blocks=3)
    seen: list[Tensor] = []
    for block in model.encoder.blocks:
        block.register_forward_hook(lambda _, given, __: seen.append(given[1]))
    with causal.frozen_memory(model):
        model(*batch()[:2])
    assert len(seen) == 3
    for memory in seen:
        torch.testing.assert_close(memory, model.encoder.memory(6))
    seen.clear()
    model(*batch()[:2])
    assert not torch.equal(seen[1], seen[0])


def test_usage_finds_the_row_that_everybody_reads() -> None:
    model = network()
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.attention.keep_rows = torch.tensor([False, False, True, False])
    usage = causal.row_usage(model, *batch())
    assert [(row["block"], row["row"]) for row in usage[:5]] == [
        (1, 1), (1, 2), (1, 3), (1, 4), (2, 1),
    ]  # fmt: skip
    assert [row["usage"] for row in usage[:4]] == [0.0, 0.0, 4.0, 0.0]
    assert usage[2]["gradient"] > 0
    assert usage[0]["gradient"] == 0
    most = causal.removal_orders("most used", usage, 2, 4)
    least = causal.removal_orders("least used", usage, 2, 4)
    assert [int(order[0]) for order in most] == [2, 2]
    assert [int(order[-1]) for order in least] == [2, 2]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("most used", [[True, True, False, False], [False, False, True, True]]),
        ("least used", [[False, False, True, True], [True, True, False, False]]),
    ],
)
def test_the_rows_that_a_rule_names_are_those_that_go(rule: str, left: list[list[bool]]) -> None:
    """Each block by its own usage; with two of four rows kept."""
    model = network()
    usage = [{"usage": used} for used in (0.1, 0.9, 2.0, 1.0, 1.6, 1.4, 0.7, 0.3)]
    orders = causal.removal_orders(rule, usage, blocks=2, memory=4)
    with causal.keeping(attentions(model), orders, kept=2):
        assert [one.keep_rows.tolist() for one in attentions(model)] == left
    assert [one.keep_rows for one in attentions(model)] == [None, None]


@pytest.mark.parametrize("name", ["luna-4", "convluna-4"])
def test_padding_changes_no_usage_of_a_model_that_masks_it(name: str) -> None:
    model = network(name, reading="as_intended").double()
    inputs, lengths, labels = batch()
    found = causal.row_usage(model, inputs, lengths, labels)
    alone = [
        causal.row_usage(model, inputs[[one], :length], lengths[[one]], labels[[one]])
        for one, length in enumerate(lengths.tolist())
    ]
    for number, row in enumerate(found):
        for key in ("usage", "gradient"):
            mean = sum(rows[number][key] for rows in alone) / len(alone)
            assert row[key] == pytest.approx(mean, rel=1e-4), key


def test_usage_of_a_pair_is_that_of_both_documents() -> None:
    """An even share is 1, so that the mean over the rows is."""
    model = network(task="retrieval")
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(1, 256, (3, 2, 20), generator=generator, dtype=torch.uint8)
    found = causal.row_usage(model, inputs, torch.full((3, 2), 20), torch.tensor([0, 1, 1]))
    for block in (1, 2):
        used = [row["usage"] for row in found if row["block"] == block]
        assert sum(used) / len(used) == pytest.approx(1, rel=1e-4)


def test_without_a_mask_padding_uses_rows_like_everything() -> None:
    model = network().double()
    inputs, lengths, labels = batch()
    trace: list[Trace] = []
    model(inputs, lengths, trace)
    expected = torch.cat([block.unpack.mean(dim=(0, 1, 2)) * 4 for block in trace]).tolist()
    found = [row["usage"] for row in causal.row_usage(model, inputs, lengths, labels)]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_random_removal_is_that_of_the_whole_test_set(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = network(), []

    def watched(network: Network, inputs: Tensor, lengths: Tensor) -> Tensor:
        given = answers.answers(network, inputs, lengths)
        seen.append(attentions(network)[-1].keep_rows)
        return given

    monkeypatch.setattr(causal, "answers", watched)
    found = causal.causal_tests(model, *batch(), seed=seed)
    asked = dict(zip([(row["rule"], row["kept"]) for row in found], seen[1:], strict=True))
    for kept in (2, 1):
        with keeping_random_rows(model, kept, seed):
            model(*batch()[:2])
            expected = attentions(model)[0].keep_rows
        assert expected.sum(dim=1).tolist() == [kept] * 6
        assert torch.equal(asked["random", kept], expected)
        assert asked["most used", kept].sum() == kept, "the same for all examples"
    with_orders = {row["rule"] for row in found if row.get("orders") == ORDERS}
    assert with_orders == {"random"}


def test_both_documents_of_a_pair_lose_the_same_rows() -> None:
    model = network(task="retrieval")
    inputs = torch.ones((5, 2, 20), dtype=torch.uint8)
    with keeping_random_rows(model, 1, seed=0):
        model(inputs, torch.full((5, 2), 20))
        # One pair after the other, as the network lays them out.
        first, second = attentions(model)[0].keep_rows.view(5, 2, 4).unbind(dim=1)
    assert torch.equal(first, second)
    assert len({tuple(row) for row in first.tolist()}) > 1


def test_so_many_rows_are_left_in_turn() -> None:
    left = {memory: rows_left(memory) for memory in (1, 2, 4, 16, 256)}
    assert left == {
        1: [1], 2: [2, 1], 4: [4, 2, 1], 16: [16, 8, 4, 1], 256: [256, 128, 64, 16, 1],
    }  # fmt: skip


def test_answers_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    inputs, lengths, _ = batch(8)
    expected = model(inputs, lengths).argmax(-1)
    monkeypatch.setattr(answers, "POSITIONS", {"cpu": 90})
    assert torch.equal(answers.answers(model, inputs, lengths), expected)


def test_accuracy_by_length_groups_the_examples_by_length() -> None:
    lengths = torch.tensor([5, 1, 4, 2, 3, 6])
    correct = torch.tensor([False, True, True, True, False, False])
    rows = answers.accuracy_by_length(lengths, correct, groups=3, few=5)
    assert [(row["low"], row["high"]) for row in rows] == [(1, 2), (3, 4), (5, 6)]
    assert [row["accuracy"] for row in rows] == [1.0, 0.5, 0.0]
    assert answers.accuracy_by_length(torch.full((4,), 7), torch.ones(4)) == []
    pairs = answers.accuracy_by_length(torch.tensor([[1, 2], [3, 4]]), torch.ones(2), groups=2)
    assert [row["low"] for row in pairs] == [3, 7]


def test_few_lengths_are_told_apart() -> None:
    lengths = torch.tensor([5, 3, 3, 9, 5, 3])
    correct = torch.tensor([True, True, False, False, True, True])
    few = answers.accuracy_by_length(lengths, correct, groups=2, few=3)
    assert (
        few
        == answers.accuracy_by_length(lengths, correct)
        == [
            {"low": 3, "high": 3, "examples": 3, "accuracy": pytest.approx(2 / 3)},
            {"low": 5, "high": 5, "examples": 2, "accuracy": 1.0},
            {"low": 9, "high": 9, "examples": 1, "accuracy": 0.0},
        ]
    )


def test_what_is_known_already_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    whole = causal.examine(model, *batch(), seed=0)
    assert sorted(whole) == ["beginning.jsonl", "causal.jsonl", "lengths.jsonl", "usage.jsonl"]
    known = ["beginning.jsonl", "lengths.jsonl", "usage.jsonl", "run.json"]
    for name in ("answers_by_beginning", "accuracy_by_length"):
        monkeypatch.setattr(causal, name, None)
    assert causal.examine(model, *batch(), seed=0, without=known) == {
        "causal.jsonl": whole["causal.jsonl"]
    }


def test_of_a_test_set_so_many_are_asked_and_more_of_them_by_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, lengths, labels = batch(8)
    split = SimpleNamespace(inputs=inputs, lengths=lengths, labels=labels)
    for module in (causal, examination):
        monkeypatch.setattr(module, "EXAMPLES", 3)
        monkeypatch.setattr(module, "LENGTH_EXAMPLES", 7)
    found = examination.examination(network(), split, seed=0)
    assert sum(row["examples"] for row in found["lengths.jsonl"]) == 7
    for name in ("causal.jsonl", "beginning.jsonl"):
        assert {row["examples"] for row in found[name]} == {3}


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_are_removed_by_the_seed_of_the_run(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all seeds of a model would lose the same rows."""
    inputs, lengths, labels = batch()
    split, model = SimpleNamespace(inputs=inputs, lengths=lengths, labels=labels), network()
    seen: list[Tensor] = []

    def score(*_: Any) -> tuple[float, float]:
        model(inputs, lengths)
        seen.append(attentions(model)[0].keep_rows)
        return 0.0, 0.5

    engine = SimpleNamespace(network=model, evaluate_eagerly=score)
    monkeypatch.setattr(examination, "examination", lambda *_: {})
    examination.look_closely(engine, split, seed)
    with keeping_random_rows(model, 1, seed):
        model(inputs, lengths)
        assert torch.equal(seen[-1], attentions(model)[0].keep_rows)


# --- the beginning of an input ---------------------------------------------------------------


def test_the_whole_input_is_asked_once() -> None:
    inputs, _, labels = batch()
    for longest, kept in ((16, [1, 4, 16]), (17, [1, 4, 16, 17]), (15, [1, 4, 15])):
        lengths = torch.full((6,), longest)
        rows = answers.answers_by_beginning(network(), inputs, lengths, labels)
        assert [row["kept"] for row in rows] == kept
        assert rows[-1]["changed"] == 0


def test_inputs_go_on_as_the_one_before_them() -> None:
    inputs = torch.tensor([[1, 1, 1, 0, 0], [2, 2, 2, 2, 2], [3, 0, 0, 0, 0]], dtype=torch.uint8)
    mixed, lengths = answers.ending_otherwise(inputs, torch.tensor([3, 5, 1]), 2)
    assert mixed.tolist() == [[1, 1, 0, 0, 0], [2, 2, 1, 0, 0], [3, 0, 0, 0, 0]]
    assert lengths.tolist() == [2, 3, 1]
    assert mixed.dtype == inputs.dtype
    whole, lengths = answers.ending_otherwise(inputs, torch.tensor([3, 5, 1]), 5)
    assert torch.equal(whole, inputs)
    assert lengths.tolist() == [3, 5, 1]


class OneToken(torch.nn.Module):
    """Answers by one token and nothing else."""

    def __init__(self, at: int, task: str = "listops-short") -> None:
        super().__init__()
        self.at, self.task = at, config.task_config(task)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(inputs[:, self.at].long(), 256).float()


@pytest.mark.parametrize(("at", "needed"), [(0, 1), (3, 4), (7, 16), (29, 30)])
def test_a_model_that_reads_one_token_keeps_its_answers_as_soon_as_that_one_stays(
    at: int, needed: int
) -> None:
    inputs = torch.randint(1, 256, (8, 30), generator=torch.Generator().manual_seed(0))
    inputs, lengths = inputs.to(torch.uint8), torch.full((8,), 30)
    labels = inputs[:, at].long()
    rows = answers.answers_by_beginning(OneToken(at), inputs, lengths, labels)  # type: ignore[arg-type]
    assert [row["kept"] for row in rows] == [1, 4, 16, 30]
    for row in rows:
        assert row["examples"] == 8
        assert (row["changed"] == 0.0) == (row["kept"] >= needed)
        assert (row["accuracy"] == 1.0) == (row["kept"] >= needed)


@pytest.mark.parametrize("task", ["image", "pathfinder-short", "retrieval", "recall-4"])
def test_nothing_is_asked_where_the_first_positions_say_nothing(task: str) -> None:
    assert answers.answers_by_beginning(OneToken(0, task), *batch()) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["transformer", "convchunkmem-4", "localconv", "luna-4"])
def test_every_model_is_asked_how_much_of_an_input_it_needs(name: str) -> None:
    found = causal.examine(network(name), *batch(), seed=0)["beginning.jsonl"]
    assert [row["kept"] for row in found] == [1, 4, 16, 30]
    assert found[-1]["changed"] == 0.0


# --- filters and attribution -----------------------------------------------------------------


def test_the_state_of_the_filters_has_a_row_per_block_and_head() -> None:
    model = network("convluna-4")
    rows = filter_state(model)
    assert [(row["block"], row["head"]) for row in rows[:5]] == [
        (1, 1), (1, 2), (1, 3), (1, 4), (2, 1),
    ]  # fmt: skip
    kernel = attentions(model)[1].filter.weight.detach()
    assert rows[6]["tap_2"] == pytest.approx(float(kernel[2, 1]), rel=1e-4)
    assert rows[0]["pack_temperature"] == 1.0
    for name in ("luna-4", "poolluna-4", "transformer"):
        assert filter_state(network(name)) == []


def test_attribution_is_the_change_of_the_score_when_a_linear_model_loses_a_token() -> None:
    model = network("transformer").double()
    inputs, lengths, _ = batch()
    with torch.no_grad():  # scores that are linear in the embedded tokens
        model.encoder.blocks = torch.nn.ModuleList()
        model.encoder.cls = None
        model.encoder.representation = "mean"
        model.encoder.norm = torch.nn.Identity()
        model.head = torch.nn.Linear(16, 10).double()
    found = attribution(model, inputs[0], lengths[0])
    whole = model(inputs[:1], lengths[:1])[0].detach()
    answer = int(whole.argmax())
    bias = model.head.bias.detach()

    def lead(scores: Tensor) -> Tensor:
        return scores[answer] - (scores.sum() - scores[answer]) / 9

    # The tokens' shares add up to what the answer leads by, the bias aside.
    assert float(found.sum()) == pytest.approx(float(lead(whole) - lead(bias)), rel=1e-5)
    assert found.shape == (30,)
    assert not model.training


CHUNKED = ("chunkmem-4", "convchunkmem-4", "rmt-4", "convrmt-4")


@pytest.mark.parametrize("name", ["convluna-4", *CHUNKED])
def test_attribution_is_how_the_lead_grows_with_a_position(name: str) -> None:
    """Where RMT embeds chunk after chunk, too; 7 does not divide 30, and the last ones are padding.

    Positions are scaled one by one, the rate of the lead is that of a finite difference.
    """
    changes = {"chunk": 7} if name in CHUNKED else {}
    model = network(name, **changes).double()
    inputs, lengths, _ = batch()
    one = 2  # of 20 tokens
    found = attribution(model, inputs[one], lengths[one], answer=3)
    assert found.shape == (30,)
    if name in CHUNKED:
        assert found[20:].abs().max() == 0.0, "masked"
    for position in (0, 6, 7, 19):
        leads = []
        for sign in (1, -1):
            scale = torch.ones(30, dtype=torch.float64)
            scale[position] += sign * 1e-5
            with scaled(model, scale), torch.no_grad():
                scores = model(inputs[[one]], lengths[[one]])[0]
            leads.append(scores[3] - (scores.sum() - scores[3]) / 9)
        expected = float(leads[0] - leads[1]) / 2e-5
        assert float(found[position]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@contextmanager
def scaled(model: Network, scale: Tensor) -> Iterator[None]:
    """While open, each position's embedding is multiplied with its number in ``scale`` (L,)."""

    def change(_: object, given: tuple[Any, ...], vectors: Tensor) -> Tensor:
        start = given[1] if len(given) > 1 else 0
        return vectors * scale[start : start + vectors.shape[1], None]

    handle = model.encoder.embedding.register_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()


def test_attribution_of_a_pair_is_that_of_its_first_document() -> None:
    model = network("rmt-4", "retrieval", chunk=7)
    inputs, lengths, _ = batch()
    found = attribution(model, inputs[:2], lengths[:2])
    assert found.shape == (30,)
    assert found.abs().max() > 0


@pytest.mark.parametrize("name", ["convluna-4", *CHUNKED])
def test_attribution_speaks_for_the_answer_that_was_asked_for(name: str) -> None:
    model = network(name, **({"chunk": 7} if name in CHUNKED else {}))
    inputs, lengths, _ = batch()
    shares = torch.stack([attribution(model, inputs[0], lengths[0], k) for k in range(10)])
    # Each class against the mean of the others: together they cancel out.
    assert shares.sum(0).abs().max() < 1e-3 * shares.abs().max()
