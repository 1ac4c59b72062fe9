"""Memory between chunks, the controls beside it, and the recall task."""

from __future__ import annotations

import json
import warnings
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from kept_rows import keeping_rows
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from memnb import build_model, config, tasks
from memnb.errors import MemnbError
from memnb.models.blocks import Trace
from memnb.models.network import ChunkEncoder, Network
from memnb.operations import forward_operations
from memnb.probes.attention_maps import attention_maps
from memnb.probes.degradation import measure
from memnb.train.cuda_graph import compiled
from memnb.train.loop import train

CHUNKED = ("chunkmem-3", "convchunkmem-3", "poolchunkmem-3", "rmt-3", "convrmt-3", "poolrmt-3")
SMALL = {"blocks": 2, "width": 16, "heads": 4, "mlp": 24, "dropout": 0.0}


def make(name: str, task: str = "listops-short", **changes: object) -> Network:
    torch.manual_seed(0)
    sizes = {"chunk": 7} if name in CHUNKED else {}
    network = build_model(name, task, **{**SMALL, **sizes, **changes}).double().eval()
    with torch.no_grad():  # zero positions would hide mistakes in their order
        network.encoder.embedding.positions.normal_(std=0.5)
    return network


def tokens() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(1, 16, (3, 24), generator=generator, dtype=torch.uint8)
    lengths = torch.tensor([24, 15, 5])
    inputs[torch.arange(24) >= lengths[:, None]] = 0
    return inputs, lengths


@pytest.mark.parametrize("reading", ["as_coded", "as_intended"])
@pytest.mark.parametrize("representation", ["cls", "mean", "memory"])
@pytest.mark.parametrize("name", CHUNKED)
def test_training_scoring_and_tracing_agree(name: str, representation: str, reading: str) -> None:
    """All chunks at once, one after another, and the written-out maths; 7 does not divide 24."""
    network = make(name, representation=representation, reading=reading)
    inputs, lengths = tokens()
    at_once = network(inputs, lengths)
    with torch.no_grad():
        torch.testing.assert_close(network(inputs, lengths), at_once)
    trace: list[Trace] = []
    torch.testing.assert_close(network(inputs, lengths, trace), at_once)
    assert [part.packed.shape for part in trace] == [(3, 3, 16)] * 2
    for part in trace:
        assert part.pack is not None
        assert part.unpack is not None
        assert part.unpack.shape == (3, 4, 25 if representation == "cls" else 24, 3)
        torch.testing.assert_close(part.unpack.sum(-1), torch.ones(part.unpack.shape[:3]).double())
        torch.testing.assert_close(part.pack.sum(-1), torch.ones(3, 4, 3).double())


@pytest.mark.parametrize("representation", ["cls", "mean", "memory"])
@pytest.mark.parametrize(
    "name", [*CHUNKED, "perceiver-3", "linformer-3", "localconv", "memoryless"]
)
def test_padding_changes_nothing_as_intended(name: str, representation: str) -> None:
    """A chunk of padding alone leaves memory and result as they are."""
    if representation == "memory" and name in ("linformer-3", "localconv", "memoryless"):
        with pytest.raises(MemnbError, match="needs a model with a memory"):
            make(name, representation=representation)
        return
    if representation != "memory" and name == "perceiver-3":
        with pytest.raises(MemnbError, match="Only the memory of a Perceiver has read"):
            make(name, representation=representation)
        return
    network = make(name, representation=representation, reading="as_intended")
    inputs, lengths = tokens()
    padded = network(inputs, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = network(inputs[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(padded[row : row + 1], alone)


@pytest.mark.parametrize("name", ["chunkmem-3", "rmt-3"])
def test_a_chunk_knows_earlier_ones_through_the_memory_alone(name: str) -> None:
    network = make(name)
    inputs, lengths = tokens()
    whole = network(inputs[:1], lengths[:1])
    other = inputs[:1].clone()
    other[0, 0] = 1 + (other[0, 0] % 15)  # in the first of four chunks; CLS is read at the last
    assert (network(other, lengths[:1]) - whole).abs().max() > 1e-6
    with keeping_rows(network, torch.tensor([True, False, False])):
        one_row = network(inputs[:1], lengths[:1])
    assert (one_row - whole).abs().max() > 1e-6, "removed rows are not read"


@pytest.mark.parametrize("name", ["chunkmem-3", "convrmt-3"])
@pytest.mark.parametrize("through", [1, 2, 3])
def test_gradients_flow_through_so_many_chunks(name: str, through: int) -> None:
    network = make(name, chunk_gradients=through)
    inputs, lengths = tokens()
    found = []
    for row, length in enumerate(lengths.tolist()):
        positions = network.encoder.embedding.positions
        positions.grad = None
        network(inputs[row : row + 1], lengths[row : row + 1]).sum().backward()
        reached = positions.grad.abs().sum(1).nonzero().flatten()
        last = (length - 1) // 7
        found.append((int(reached.min()) // 7, int(reached.max())))
        assert found[-1] == (max(0, last - through + 1), length - 1)
    everything = make(name)
    torch.testing.assert_close(network(inputs, lengths), everything(inputs, lengths))


@pytest.mark.parametrize("name", ["chunkmem-3", "convrmt-3"])
@pytest.mark.parametrize("through", [4, 5])
def test_through_all_chunks_is_through_everything(name: str, through: int) -> None:
    """The memory that the first chunk begins with is learned, and was carried from nowhere."""
    inputs, lengths = tokens()  # 4, 3 and 1 chunks
    everything, counted = make(name), make(name, chunk_gradients=through)
    for network in (everything, counted):
        network(inputs, lengths).square().sum().backward()
    for (at, one), other in zip(counted.named_parameters(), everything.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=at)
    alone = make(name, chunk_gradients=1)
    alone(inputs[2:], lengths[2:]).sum().backward()
    assert alone.encoder.memory.rows.grad.abs().max() > 0, "one chunk, through one chunk"


@pytest.mark.parametrize("name", CHUNKED[:2] + CHUNKED[3:5])
def test_probes_see_every_block(name: str) -> None:
    network = make(name)
    inputs, lengths = tokens()
    found = measure(network, inputs, lengths, torch.tensor([1, 2, 3]))
    assert [row["block"] for row in found] == [1, 2]
    for row in found:
        assert -1 <= row["packed_cosine"] <= 1
        assert 1 <= row["packed_rank"] <= 3
        assert row["packed_gradient"] > 0
        assert 0 <= row["pack_entropy"] <= 1
    maps = attention_maps(network, inputs[1], lengths[1], torch.tensor(3))
    assert maps["pack"].shape == (2, 4, 3, 16)
    assert maps["unpack"].shape == (2, 4, 16, 3)
    assert all(not hasattr(b, "stand_in") or b.stand_in is None for b in network.encoder.blocks)


def test_the_gradient_of_packed_is_that_of_a_change_in_every_write() -> None:
    network = make("chunkmem-3")
    inputs, lengths = tokens()
    trace: list[Trace] = []
    scores = network(inputs, lengths, trace).sum()
    (gradient,) = torch.autograd.grad(scores, [trace[0].packed])
    direction = torch.randn(gradient.shape, dtype=torch.float64)
    ends = []
    for sign in (1, -1):
        network.encoder.blocks[0].stand_in = sign * 1e-6 * direction
        with torch.no_grad():
            ends.append(network(inputs, lengths).sum())
    network.encoder.blocks[0].stand_in = None
    expected = (ends[0] - ends[1]) / 2e-6
    assert (gradient * direction).sum().item() == pytest.approx(expected.item(), rel=1e-5)


class PeakMemory(TorchDispatchMode):
    """Bytes of all tensors made while it is open that live at the same time, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self.known or not size:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize("name", ["chunkmem-4", "rmt-4"])
def test_memory_in_scoring_does_not_grow_with_the_length(name: str) -> None:
    """At four times the length the tokens' bytes and masks grow; what is computed does not."""
    peaks = {}
    for length in (512, 2048):
        torch.manual_seed(0)
        network = build_model(
            name, "text", blocks=1, width=32, heads=2, mlp=32, chunk=64, dropout=0.0
        ).eval()
        inputs = torch.ones(2, length, dtype=torch.uint8)
        lengths = torch.tensor([length, length])
        with torch.no_grad(), PeakMemory() as scoring:
            network(inputs, lengths)
        with PeakMemory() as training:
            network(inputs, lengths)
        peaks[length] = scoring.peak, training.peak
    assert peaks[512][0] > 2 * 64 * 32 * 4, "at least one chunk's vectors were alive"
    assert peaks[2048][0] < 1.15 * peaks[512][0]
    assert peaks[2048][1] > 2 * peaks[512][1], "what is measured would grow, as it does in training"


@pytest.mark.parametrize("name", ["convchunkmem-3", "convrmt-3"])
def test_it_compiles_once_for_all_chunks_and_blocks(name: str) -> None:
    """A block, the last one, which need not compute all, and a chunk that is scored."""
    counter = CompileCounterWithBackend("aot_eager")
    network = make(name, blocks=3, chunk=8).float().train()
    inputs, lengths = tokens()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own parts
        twin = compiled(network, backend=counter)
        scores = twin(inputs, lengths)
        torch.testing.assert_close(scores, network(inputs, lengths))
        assert 1 <= counter.frame_count <= 2
        scores.sum().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        network.zero_grad()
        network(inputs, lengths).sum().backward()
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            torch.testing.assert_close(gradient, parameter.grad)
        network.eval()
        with torch.no_grad():
            torch.testing.assert_close(twin(inputs, lengths), network(inputs, lengths))
        assert counter.frame_count <= 3, counter.frame_count
    assert "through_blocks" not in vars(network.encoder), "the network itself stays as it is"
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["convchunkmem-3", "convrmt-3"])
def test_scoring_stops_behind_the_last_token(name: str) -> None:
    network = make(name).eval()
    inputs, lengths = tokens()
    seen = []
    network.encoder.embedding.register_forward_hook(lambda *_: seen.append(1))
    with torch.no_grad():
        whole = network(inputs, lengths)
        all_chunks = len(seen)
        lengths = lengths.clamp(max=network.model.chunk + 1)
        short = network(inputs, lengths)
        assert len(seen) - all_chunks == 2 < all_chunks
    assert not torch.equal(short, whole)
    torch.testing.assert_close(short, network(inputs, lengths))  # with gradients: no chunk left out


# H = 128, mlp = 512, ListOps: 6 blocks, CLS. Counted by hand from the formulas in the docstrings.
H, MLP, L = 128, 512, 2000
LINEAR, NORM, FFN = H * H + H, 2 * H, 2 * H * MLP + MLP + H
OUTSIDE = 17 * H + L * H + H + NORM + (H * MLP + MLP) + (MLP * 10 + 10)  # embedding, CLS, head
PARAMETERS = {
    "chunkmem-16": OUTSIDE + 16 * H + 6 * (12 * LINEAR + 4 * NORM + FFN + 1),
    "convchunkmem-16": OUTSIDE + 16 * H + 6 * (12 * LINEAR + 4 * NORM + FFN + 1 + 4 * 4),
    "rmt-16": OUTSIDE + 16 * H + NORM + 6 * (4 * LINEAR + 2 * NORM + FFN),
    "convrmt-16": OUTSIDE + 16 * H + NORM + 6 * (4 * LINEAR + 2 * NORM + FFN + 4 * 4),
    # Three projections of the unpack, four of the pack without its output; positions are fixed.
    "officialluna-16": OUTSIDE + 16 * H + 6 * (7 * LINEAR + 3 * NORM + FFN),
    "perceiver-16": OUTSIDE - H + 16 * H + 6 * (8 * LINEAR + 5 * NORM + 2 * FFN),
    "linformer-16": OUTSIDE + 6 * (4 * LINEAR + 2 * NORM + FFN + 16 * (L + 1)),
    "localconv": OUTSIDE - H + 6 * (2 * LINEAR + 2 * NORM + FFN + 4 * 4),
    "memoryless": OUTSIDE - H + 6 * (LINEAR + 2 * NORM + FFN + 4 * 4),
}


@pytest.mark.parametrize("name", [*config.CHUNK_MODELS, *config.CONTROLS])
def test_parameter_counts(name: str) -> None:
    assert build_model(name, "listops").parameter_count() == PARAMETERS[name]


def test_memoryless_is_convluna_without_what_belongs_to_its_memory() -> None:
    """Query and key maps, the memory's norm and two temperatures per block, the memory, CLS."""
    whole = build_model("convluna-16", "listops").parameter_count()
    removed = 6 * (2 * LINEAR + NORM + 2) + 16 * H + H
    assert build_model("memoryless", "listops").parameter_count() == whole - removed


@pytest.mark.parametrize("name", ["localconv", "memoryless"])
def test_without_a_memory_a_position_sees_no_further_than_the_filter(name: str) -> None:
    network = make(name, blocks=1)
    x = torch.randn(1, 12, 16, dtype=torch.float64)
    changed = x.clone()
    changed[0, 6] = torch.randn(16)
    (block,) = network.encoder.blocks
    difference = (block(changed, None, None)[0] - block(x, None, None)[0]).abs().sum(-1)[0]
    assert difference.nonzero().flatten().tolist() == [4, 5, 6, 7], "taps t - 1 to t + 2"


@pytest.mark.parametrize("task", [*config.LRA_TASKS, *(t for t in config.TASKS if "short" in t)])
@pytest.mark.parametrize("name", ["convchunkmem-2", "convrmt-2", "perceiver-2", "linformer-2"])
def test_they_run_on_every_task(name: str, task: str) -> None:
    torch.manual_seed(0)
    network = build_model(name, task, blocks=1, width=8, heads=2, mlp=8)
    pair = network.task.layout == "pair"
    assert isinstance(network.encoder, ChunkEncoder) == (network.model.chunk > 0)
    shape = (2, 2, 60) if pair else (2, 60)
    inputs = torch.randint(1, 16, shape, dtype=torch.uint8)
    scores = network(inputs, torch.full(shape[:-1], 60))
    assert scores.shape == (2, network.task.classes)
    scores.sum().backward()
    assert forward_operations(network.model, 60) > 0


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("chunkmem-4", {"chunk": 0}, "got chunk=0; set chunk"),
        ("luna-4", {"chunk": 9}, "takes the whole sequence at once"),
        ("luna-4", {"chunk_gradients": 2}, "needs a model that works in chunks"),
        ("localconv", {"filter": "pool"}, "convolution that keeps the length"),
        ("memoryless", {"memory": 4}, "has no memory, but got memory=4"),
        ("rmt-4", {"pack_temperature": "learn"}, "is a setting of ConvLuna and ChunkMem, but the"),
        ("chunkmem", {}, "no model named 'chunkmem'; did you mean 'chunkmem-16'"),
        ("memoryless-4", {}, "no model named 'memoryless-4'"),
    ],
)
def test_impossible_settings_are_refused(name: str, changes: dict[str, object], said: str) -> None:
    with pytest.raises(MemnbError, match=said):
        config.model_config(name, "listops-short", **changes)


# --- recall ----------------------------------------------------------------------------------


@pytest.fixture
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path))


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("facts", config.RECALL_FACTS)
def test_the_label_is_the_value_that_was_said_of_the_key(facts: int) -> None:
    task = config.task_config(f"recall-{facts}", train=300, validation=20, test=50)
    data = tasks.load(task)
    counts = Counter()
    for split in (data.train, data.validation, data.test):
        for inputs, label in zip(split.inputs, split.labels, strict=True):
            words = tasks.tokens(task, inputs, facts + 1)
            said = dict(word.split("=") for word in words[:-1] if word != "-")
            assert len(said) == len([word for word in words[:-1] if word != "-"]), "keys differ"
            assert said[words[-1].removesuffix("?")] == f"v{label}"
            if split is data.train:
                counts[len(said)] += 1
            else:
                assert len(said) == facts
    assert set(counts) == set(range(1, facts + 1))
    again = tasks.load(task)
    assert np.array_equal(again.train.inputs, data.train.inputs)


@pytest.mark.usefixtures("_cache")
def test_only_the_test_set_holds_more_facts_than_training() -> None:
    task = config.task_config("recall-longer", train=200, validation=20, test=80)
    data = tasks.load(task)
    numbers: dict[str, Counter[int]] = {}
    for name in ("train", "validation", "test"):
        split, found = getattr(data, name), []
        for inputs, length, label in zip(split.inputs, split.lengths, split.labels, strict=True):
            assert not inputs[length:].any()
            *facts, question = tasks.tokens(task, inputs, length)
            said = dict(word.split("=") for word in facts)
            assert len(said) == len(facts), "keys differ"
            assert said[question.removesuffix("?")] == f"v{label}"
            found.append(len(facts))
        numbers[name] = Counter(found)
        assert split.inputs.shape[1] == max(split.lengths)
    assert set(numbers["train"]) == {2, 4}
    assert set(numbers["validation"]) == {4}
    assert numbers["test"] == dict.fromkeys(range(2, 17, 2), 10)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_facts": 18}, "at most facts"),
        ({"train_facts": 5}, "multiples of step"),
        ({"step": 3}, "multiples of step"),
        ({"train_facts": None}, "set train_facts too"),
    ],
)
def test_numbers_of_facts_that_do_not_fit_are_refused(
    changes: dict[str, object], said: str
) -> None:
    with pytest.raises(MemnbError, match=said):
        config.task_config("recall-longer", **changes)


@pytest.mark.parametrize("name", ["chunkmem-4", "rmt-4", "luna-4", "transformer"])
def test_without_positions_the_order_of_the_facts_does_not_matter(name: str) -> None:
    """Two facts within a chunk change places: only positions could tell."""
    inputs = torch.tensor([[5, 9, 12, 20, 70], [9, 5, 12, 20, 70]])
    lengths = torch.tensor([5, 5])
    changes = {"reading": "as_intended", "width": 16, "mlp": 8}
    for positions, same in (("none", True), ("learned", False)):
        network = build_model(name, "recall-longer", positions=positions, **changes).eval()
        with torch.no_grad():
            if positions == "learned":
                network.encoder.embedding.positions.normal_()
            scores = network(inputs, lengths)
        assert torch.allclose(scores[0], scores[1], atol=1e-5) is same


@pytest.mark.parametrize("task", ["listops-short", "image-short"])
def test_a_model_without_positions_has_no_parameters_for_them(task: str) -> None:
    with_them, without = (
        build_model("luna-4", task, positions=positions) for positions in ("learned", "none")
    )
    saved = with_them.parameter_count() - without.parameter_count()
    assert saved == with_them.task.max_length * with_them.model.width
    assert not [name for name in without.state_dict() if "positions" in name]


@pytest.mark.usefixtures("_cache")
def test_a_position_that_training_never_reaches_keeps_its_zero(tmp_path: Path) -> None:
    run = config.run_config(
        "chunkmem-4", "recall-longer", model_changes={"width": 16, "mlp": 8},
        task_changes={"train": 64, "validation": 8, "test": 16},
        training_changes={"steps": 4, "batch": 8, "evaluate_every": 2, "warmup": 2},
    )  # fmt: skip
    assert train(run, tmp_path, device="cpu")["outcome"] == "finished"
    positions = torch.load(tmp_path / "best.pt")["encoder.embedding.positions"]
    assert positions[:5].abs().sum(1).all()
    assert not positions[5:].any()
    rows = [json.loads(line) for line in (tmp_path / "lengths.jsonl").read_text().splitlines()]
    assert [row["high"] for row in rows] == list(range(3, 18, 2))


def test_recall_asks_in_a_chunk_of_its_own() -> None:
    for facts in config.RECALL_FACTS:
        run = config.run_config("chunkmem-4", f"recall-{facts}")
        assert facts % run.model.chunk == 0
    longer = config.run_config("chunkmem-4", "recall-longer")
    assert longer.task.step % longer.model.chunk == 0


def test_a_length_that_does_not_fit_the_facts_is_refused() -> None:
    with pytest.raises(MemnbError, match="set max_length to 6"):
        config.task_config("recall-4", facts=5)
