"""The models are what the paper and the authors' code say they are."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor

import memnb
from memnb import build_model, list_models
from memnb.config import ListOps, Model, model_config
from memnb.errors import MemnbError
from memnb.models.attention import attend, attention_weights, project
from memnb.models.blocks import SharedMemoryBlock, Trace
from memnb.models.filters import ConvFilter, PoolFilter
from memnb.models.network import LookUp, Network

# CLS, conv width 4, biases; M = 1, 16, 256. Counted by running the authors' code.
PARAMETERS = {
    "text": {
        "luna": (1_406_594, 1_408_514, 1_439_234),
        "convluna": (1_340_618, 1_342_538, 1_373_258),
        "transformer": 1_405_442,
    },
    "listops": {
        "luna": (1_521_034, 1_522_954, 1_553_674),
        "convluna": (1_422_070, 1_423_990, 1_454_710),
        "transformer": 1_519_370,
    },
    "retrieval": {
        "luna": (1_999_746, 2_001_666, 2_032_386),
        "convluna": (1_900_782, 1_902_702, 1_933_422),
        "transformer": 1_998_082,
    },
    "image": {
        "luna": (2_053_898, 2_055_818, 2_086_538),
        "convluna": (1_921_946, 1_923_866, 1_954_586),
    },
    "pathfinder": {
        "luna": (1_656_842, 1_658_762, 1_689_482),
        "convluna": (1_557_878, 1_559_798, 1_590_518),
    },
}

TINY = ListOps(name="listops-short", min_length=2, max_length=24, train=8, validation=4, test=4)
SMALL = {"blocks": 2, "width": 16, "heads": 4, "mlp": 24, "dropout": 0.0}

VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "transformer": ("transformer", {}),
    "luna-1": ("luna-1", {}),
    "luna-5": ("luna-5", {}),
    "luna-5 qk": ("luna-5", {"sharing": "qk"}),
    "luna-5 official": (
        "luna-5",
        {"sharing": "none", "memory_init": "luna", "pack_output": False},
    ),
    "luna-5 no pack output, shared": ("luna-5", {"pack_output": False}),
    "convluna-1": ("convluna-1", {}),
    "convluna-5": ("convluna-5", {}),
    "convluna-5 stride": ("convluna-5", {"filter_stride": 3}),
    "convluna-5 width 3": ("convluna-5", {"filter_width": 3}),
    "convluna-5 full": ("convluna-5", {"variant": "full", "sharing": "full"}),
    "convluna-5 full unshared": ("convluna-5", {"variant": "full", "sharing": "none"}),
    "convluna-5 unfiltered": ("convluna-5", {"filter": "none", "pack_temperature": "unit"}),
    "convluna-5 shuffled": ("convluna-5", {"filter_kernel": "shuffled"}),
    "convluna-5 difference": ("convluna-5", {"filter_kernel": "difference"}),
    # n * M <= H: the maps of the sequence are absorbed into the memory's side
    "luna-3": ("luna-3", {}),
    "luna-3 unshared": ("luna-3", {"sharing": "none", "pack_output": False}),
    "convluna-3": ("convluna-3", {}),
    "convluna-3 width 5": ("convluna-3", {"filter_width": 5}),
    "convluna-3 stride": ("convluna-3", {"filter_stride": 3}),
    "convluna-3 shuffled": ("convluna-3", {"filter_kernel": "shuffled"}),
    "convluna-3 smooth": ("convluna-3", {"filter_kernel": "smooth"}),
    "convluna-3 full": ("convluna-3", {"variant": "full", "sharing": "none"}),
    "convluna-3 unfiltered": ("convluna-3", {"filter": "none", "pack_temperature": "unit"}),
    "poolluna-3": ("poolluna-3", {}),
    "poolluna-1": ("poolluna-1", {}),
    "poolluna-5": ("poolluna-5", {}),
    "poolluna-5 stride": ("poolluna-5", {"filter_stride": 4}),
}
MEMORY_VARIANTS = [name for name in VARIANTS if name != "transformer"]


def make(variant: str, task: ListOps = TINY, **changes: object) -> Network:
    name, own = VARIANTS[variant]
    torch.manual_seed(0)
    network = build_model(name, task, **{**SMALL, **own, **changes})
    with torch.no_grad():  # zero positions would hide mistakes in their order
        network.encoder.embedding.positions.normal_(std=0.5)
    return network.eval()


def tokens(batch: int = 3, length: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randint(1, 16, (batch, length), generator=generator, dtype=torch.uint8)
    lengths = torch.tensor([length, length - 7, 5][:batch])
    inputs[torch.arange(length) >= lengths[:, None]] = 0
    return inputs, lengths


def test_the_cls_vector_starts_as_asked() -> None:
    torch.manual_seed(0)
    wide = {"width": 4096, "heads": 4, "mlp": 4, "blocks": 1}
    normal = build_model("luna-2", "text", **wide).encoder.cls.detach()
    assert float(normal.std()) == pytest.approx(1, abs=0.05)
    xavier = build_model("luna-2", "text", cls_init="xavier", **wide).encoder.cls.detach()
    assert float(xavier.abs().max()) == pytest.approx((3 / 4096) ** 0.5, rel=0.01)


def test_the_full_variant_has_projections_of_its_own_for_unpack() -> None:
    network = build_model("convluna-16", "text", variant="full")
    attention = network.encoder.blocks[0].attention
    assert attention.unpack_maps.query is not attention.pack_maps.query
    assert network.parameter_count() == 1_672_778
    shared = build_model("convluna-16", "text", variant="full", sharing="full")
    assert shared.parameter_count() == 1_408_586


@pytest.mark.parametrize("task", PARAMETERS)
def test_parameter_counts_equal_the_authors(task: str) -> None:
    for family, counts in PARAMETERS[task].items():
        if isinstance(counts, int):
            assert build_model(family, task).parameter_count() == counts
            continue
        for memory, count in zip((1, 16, 256), counts, strict=True):
            assert build_model(f"{family}-{memory}", task).parameter_count() == count


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("reading", ["as_coded", "as_intended"])
@pytest.mark.parametrize("representation", ["cls", "mean", "memory"])
def test_fast_path_equals_written_out_maths(
    variant: str, reading: str, representation: str
) -> None:
    if variant == "transformer" and representation == "memory":
        with pytest.raises(MemnbError, match="needs a model with a memory"):
            make(variant, representation=representation)
        return
    network = make(variant, reading=reading, representation=representation).double()
    inputs, lengths = tokens()
    trace: list[Trace] = []
    torch.testing.assert_close(network(inputs, lengths), network(inputs, lengths, trace))
    assert len(trace) == (0 if variant == "transformer" else SMALL["blocks"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_padded_and_unpadded_agree_as_intended(variant: str) -> None:
    network = make(variant, reading="as_intended").double()
    inputs, lengths = tokens()
    padded = network(inputs, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = network(inputs[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(padded[row : row + 1], alone)


@pytest.mark.parametrize("variant", ["transformer", "luna-5", "convluna-5", "poolluna-5"])
def test_as_coded_sees_the_padding(variant: str) -> None:
    network = make(variant, reading="as_coded")
    inputs, lengths = tokens()
    short = int(lengths[2])
    padded, alone = network(inputs[2:], lengths[2:]), network(inputs[2:, :short], lengths[2:])
    assert (padded - alone).abs().max() > 1e-3


@pytest.mark.parametrize("variant", MEMORY_VARIANTS)
def test_permuting_memory_rows_permutes_packed_rows_only(variant: str) -> None:
    network = make(variant).double()
    inputs, _ = tokens()
    before: list[Trace] = []
    after: list[Trace] = []
    out = network(inputs, trace=before)
    memory = network.encoder.memory
    order = torch.randperm(memory.rows.shape[0], generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        memory.rows.copy_(memory.rows[order])
        if memory.positions is not None:
            memory.positions.copy_(memory.positions[order])
    torch.testing.assert_close(network(inputs, trace=after), out)
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(two.packed, one.packed[:, order])
        torch.testing.assert_close(two.memory, one.memory[:, order])


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_against_finite_differences_in_float64(variant: str) -> None:
    """Every trained tensor: the directional derivative along a random direction."""
    network = make(variant, reading="as_intended").double()
    inputs, lengths = tokens()

    def loss() -> Tensor:
        return network(inputs, lengths).log_softmax(-1)[:, 0].sum()

    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss(), [p for _, p in named], allow_unused=True)
    generator = torch.Generator().manual_seed(2)
    step = 1e-6
    for (name, parameter), gradient in zip(named, gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
            values.append(loss().item())
            with torch.no_grad():
                parameter -= sign * step * direction
        if name == "encoder.embedding.table.weight":
            assert gradient[0].abs().max() == 0, "the padding row is not trained"
            continue
        expected = (values[0] - values[1]) / (2 * step)
        got = 0.0 if gradient is None else (gradient * direction).sum().item()
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5), name


def test_token_table_gradient_matches_float64() -> None:
    network = make("convluna-5").double()
    inputs, _ = tokens()
    table = network.encoder.embedding.table.weight
    loss = network(inputs).pow(2).sum()
    (gradient,) = torch.autograd.grad(loss, [table])
    with torch.no_grad():
        table[4, 3] += 1e-6
        up = network(inputs).pow(2).sum()
        table[4, 3] -= 2e-6
        down = network(inputs).pow(2).sum()
    assert gradient[4, 3].item() == pytest.approx((up - down).item() / 2e-6, rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_gradients_are_close_to_float64(variant: str) -> None:
    single, inputs = make(variant), tokens()[0]
    double = copy.deepcopy(single).double()
    for network in (single, double):
        network(inputs).pow(2).sum().backward()
    pairs = [
        (name, one.grad, two.grad)
        for (name, one), two in zip(single.named_parameters(), double.parameters(), strict=True)
        if two.grad is not None
    ]
    # A key bias moves all logits of a query alike, so its gradient is rounding alone: errors
    # below a thousandth of the largest gradient are measured against that.
    floor = 1e-3 * max(two.norm() for _, _, two in pairs)
    for name, one, two in pairs:
        error = (one - two).norm() / max(two.norm(), floor)
        assert error < 1e-3, f"{name}: {error:.1e}"


def test_looking_up_has_the_gradient_of_an_embedding() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 17, (3, 50), generator=generator, dtype=torch.int32)
    ours = torch.randn(17, 8, generator=generator, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    vectors = LookUp.apply(ids, ours)
    expected = torch.nn.functional.embedding(ids, theirs, padding_idx=0)
    assert torch.equal(vectors, expected)
    direction = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
    vectors.backward(direction)
    expected.backward(direction)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert not ours.grad[0].any(), "padding stays where it is"


def test_full_unshared_unfiltered_sqrt_convluna_is_two_plain_attentions() -> None:
    network = make(
        "convluna-5 full unshared",
        filter="none",
        pack_temperature="sqrt",
        unpack_temperature="sqrt",
        reading="as_intended",
    )
    attention = network.encoder.blocks[0].attention
    x, memory = torch.randn(2, 9, 16), torch.randn(2, 5, 16)
    packed, unpacked = attention(x, memory, None)
    for maps, query, source, out in (
        (attention.pack, memory, x, packed),
        (attention.unpack, x, packed, unpacked),
    ):
        plain = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        with torch.no_grad():
            parts = [maps[part] for part in ("query", "key", "value")]
            plain.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            plain.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            plain.out_proj.weight.copy_(maps["out"].weight)
            plain.out_proj.bias.copy_(maps["out"].bias)
        torch.testing.assert_close(out, plain(query, source, source)[0])


def test_luna_equals_full_convluna_without_filter_and_with_sqrt_temperatures() -> None:
    luna = make("luna-5")
    conv = make(
        "convluna-5 full",
        filter="none",
        pack_temperature="sqrt",
        unpack_temperature="sqrt",
        reading="as_intended",
    )
    conv.load_state_dict(luna.state_dict(), strict=False)
    inputs, _ = tokens()
    torch.testing.assert_close(conv(inputs), luna(inputs))


def test_width_one_filter_of_weight_one_is_no_filter() -> None:
    filtered = make("convluna-5", filter_width=1)
    plain = make("convluna-5", filter="none")
    with torch.no_grad():
        for block in filtered.encoder.blocks:
            block.attention.filter.weight.fill_(1.0)
    plain.load_state_dict(filtered.state_dict(), strict=False)
    inputs, _ = tokens()
    torch.testing.assert_close(filtered(inputs), plain(inputs))
    pooled = make("poolluna-5", filter_width=1)
    pooled.load_state_dict(plain.state_dict(), strict=True)
    torch.testing.assert_close(pooled(inputs), plain(inputs))


@pytest.mark.parametrize(("width", "stride"), [(4, 1), (3, 1), (1, 1), (4, 2), (4, 4), (5, 3)])
def test_conv_filter_equals_grouped_convolution(width: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = ConvFilter(heads=4, width=width, stride=stride).double()
    key, value = torch.randn(2, 2, 13, 24, dtype=torch.float64)
    got_key, got_value, mask = conv(key, value, None)
    assert mask is None
    torch.testing.assert_close(got_key, conv.written_out(key))
    torch.testing.assert_close(got_value, conv.written_out(value))
    assert got_key.shape[1] == (13 if stride == 1 else (13 - width) // stride + 1)


def test_width_four_taps_run_from_one_before_to_two_after() -> None:
    conv = ConvFilter(heads=1, width=4, stride=1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    pulse = torch.zeros(1, 7, 1)
    pulse[0, 3, 0] = 1
    out = conv(pulse, pulse, None)[0]
    assert out.flatten().tolist() == [0, 1000, 100, 10, 1, 0, 0]


def test_conv_filter_starts_uniform_within_its_bound() -> None:
    torch.manual_seed(0)
    weight = ConvFilter(heads=2000, width=4, stride=1).weight
    assert weight.abs().max() <= 0.5
    assert weight.abs().max() > 0.49
    assert weight.std().item() == pytest.approx(1 / 12**0.5, rel=0.02)


@pytest.mark.parametrize(("stride", "length"), [(1, 10), (4, 3)])
def test_pool_filter_takes_the_maximum_of_each_window(stride: int, length: int) -> None:
    x = torch.randn(2, 13, 6)
    key, _, _ = PoolFilter(4, stride)(x, x, None)
    expected = torch.nn.functional.max_pool1d(x.mT, 4, stride).mT
    torch.testing.assert_close(key, expected)
    assert key.shape[1] == length


@pytest.mark.parametrize(("width", "stride"), [(1, 1), (4, 1), (4, 4), (3, 2)])
def test_pool_gradients_equal_those_of_pytorch_with_ties(width: int, stride: int) -> None:
    # Few distinct values: most windows hold their maximum more than once.
    x = torch.randint(0, 3, (2, 17, 6), generator=torch.Generator().manual_seed(0)).double()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    pooled = PoolFilter(width, stride).pool(ours)
    expected = torch.nn.functional.max_pool1d(theirs.mT, width, stride).mT
    torch.testing.assert_close(pooled, expected)
    direction = torch.randn(pooled.shape, dtype=torch.float64)
    pooled.backward(direction)
    expected.backward(direction)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_sequence_shorter_than_the_window_counts_as_one_window() -> None:
    x = torch.randn(2, 2, 6)
    key, _, _ = PoolFilter(4, 1)(x, x, None)
    torch.testing.assert_close(key, x.amax(1, keepdim=True))


@pytest.mark.parametrize("family", ["luna", "convluna", "poolluna"])
def test_single_row_gives_every_position_the_same_vector(family: str) -> None:
    network = make(f"{family}-1")
    attention = network.encoder.blocks[0].attention
    packed, unpacked = attention(torch.randn(2, 9, 16), torch.randn(2, 1, 16), None)
    assert packed.shape == (2, 1, 16)
    assert unpacked.shape == (2, 1, 16), "one vector, not one per position, is computed"


def test_single_row_dropout_has_the_law_of_attention_dropout() -> None:
    """Mean and variance over many draws of unpack equal those of dropout on softmax weights 1."""
    torch.manual_seed(0)
    attention = make("convluna-1", dropout=0.25).encoder.blocks[0].attention.train()
    packed = torch.randn(1, 1, 16)
    draws = attention._unpack_few(torch.zeros(1, 40_000, 16), packed, 0.25)[0]
    weights = torch.nn.functional.dropout(torch.ones(40_000, 4), 0.25)
    values = (weights[:, :, None] * packed.view(1, 4, 4)).flatten(1)
    expected = attention.unpack_maps.out(values)
    torch.testing.assert_close(draws.mean(0), expected.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(draws.var(0), expected.var(0), atol=0.02, rtol=0.05)


@pytest.mark.parametrize("variant", ["luna-3", "convluna-3", "luna-5", "convluna-5"])
def test_dropout_keeps_the_mean_of_what_is_packed(variant: str) -> None:
    attention = make(variant, dropout=0.2).encoder.blocks[0].attention.double()
    rows = attention.memory_rows
    x, memory = torch.randn(1, 9, 16).double(), torch.randn(1, rows, 16).double()
    expected = attention(x, memory, None)[0]
    attention.train()
    drawn = attention(x.expand(20_000, -1, -1), memory.expand(20_000, -1, -1), None)[0]
    assert drawn.std(0).min() > 0.01, "dropout acts"
    torch.testing.assert_close(drawn.mean(0, keepdim=True), expected, atol=0.02, rtol=0)


def test_dropout_acts_on_attention_and_stops_in_evaluation() -> None:
    network = make("luna-5", dropout=0.5).train()
    inputs, _ = tokens()
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    assert torch.equal(network(inputs), network(inputs))


def test_unpack_temperature_is_frozen_at_one_as_coded_and_honoured_as_intended() -> None:
    for reading, trained, start in (("as_coded", False, 0.0), ("as_intended", True, 0.0)):
        temperatures = make("convluna-5", reading=reading).encoder.blocks[0].attention.temperatures
        assert temperatures["pack"].log_temp.requires_grad
        assert temperatures["unpack"].log_temp.requires_grad == trained
        assert temperatures["unpack"].log_temp.item() == start
    assert make("convluna-5").encoder.blocks[0].attention.unpack_temperature() == 1.0
    intended = make("convluna-5", unpack_temperature="sqrt", reading="as_intended")
    assert intended.encoder.blocks[0].attention.unpack_temperature() == pytest.approx(2.0)


@pytest.mark.parametrize("kind", ["unit", "sqrt", "learn"])
def test_attend_equals_softmax_of_scaled_logits(kind: str) -> None:
    temperature = {"unit": 1.0, "sqrt": 2.0, "learn": torch.tensor(1.7, dtype=torch.float64)}[kind]
    query, key, value = torch.randn(3, 2, 4, 6, 4, dtype=torch.float64)
    mask = torch.rand(2, 1, 1, 6) > 0.3
    mask[..., 0] = True
    weights = attention_weights(query, key, temperature, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 6, dtype=torch.float64))
    torch.testing.assert_close(attend(query, key, value, temperature, mask), weights @ value)


def test_projecting_together_equals_projecting_apart() -> None:
    maps = [torch.nn.Linear(8, width).double() for width in (8, 8, 4)]
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    for together, single in zip(project(x, *maps), maps, strict=True):
        torch.testing.assert_close(together, single(x))


@pytest.mark.parametrize("memory", [5, 3])
def test_removed_rows_are_not_read(memory: int) -> None:
    network = make(f"luna-{memory}").double()
    inputs, _ = tokens()
    trace: list[Trace] = []
    for block in network.encoder.blocks:
        assert isinstance(block, SharedMemoryBlock)
        block.attention.keep_rows = torch.tensor([True, False, True, False, True][:memory])
    out = network(inputs)
    torch.testing.assert_close(network(inputs, trace=trace), out)
    assert trace[0].unpack[..., 1::2].abs().max() == 0


@pytest.mark.parametrize("name", ["transformer", "luna-4", "convluna-1", "poolluna-4"])
@pytest.mark.parametrize("task", ["image", "pathfinder", "retrieval", "text"])
def test_every_model_runs_on_every_layout(name: str, task: str) -> None:
    torch.manual_seed(0)
    network = build_model(name, task, blocks=2, width=16, heads=2, mlp=8)
    shape = (2, 2, 40) if task == "retrieval" else (2, 40)
    inputs = torch.randint(0, 200, shape, dtype=torch.uint8)
    lengths = torch.full(shape[:-1], 40)
    scores = network(inputs, lengths)
    assert scores.shape == (2, network.task.classes)
    scores.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_a_pair_is_encoded_twice_by_one_encoder() -> None:
    torch.manual_seed(0)
    network = build_model("luna-4", "retrieval", blocks=1, width=16, heads=2, mlp=8).eval()
    pair = torch.randint(1, 200, (1, 2, 30), dtype=torch.uint8)
    encoded = torch.cat([network.encoder(pair[:, 0]), network.encoder(pair[:, 1])], dim=1)
    torch.testing.assert_close(network(pair), network.head(encoded))


def test_pixels_are_scaled_as_the_protocol_says() -> None:
    network = build_model("luna-1", "image")
    pixels = torch.tensor([[0, 255]], dtype=torch.uint8)
    x = network.encoder.embedding(pixels)
    weight, bias = network.encoder.embedding.weight, network.encoder.embedding.bias
    torch.testing.assert_close(x[0, 0], -0.48 / 0.24 * weight + bias)
    torch.testing.assert_close(x[0, 1], (1 - 0.48) / 0.24 * weight + bias)


def test_what_is_loaded_when_it_is_asked_for_is_listed() -> None:
    assert set(memnb.__all__) <= set(dir(memnb))


def test_every_listed_model_can_be_built() -> None:
    for name in list_models():
        assert build_model(name, "listops-short").model.name == name


@pytest.mark.parametrize(
    ("name", "task", "changes", "message"),
    [
        ("lunna-16", "text", {}, "did you mean 'luna-16'"),
        ("luna", "text", {}, "no model named 'luna'; did you mean"),
        ("transformer-4", "text", {}, "did you mean 'transformer'"),
        ("luna-0", "text", {}, "no model named 'luna-0'"),
        ("luna-16", "txt", {}, "did you mean 'text'"),
        ("luna-16", "text", {"memori": 3}, "did you mean 'memory'"),
        ("luna-16", "text", {"heads": 3}, "multiple of the number of heads"),
        ("luna-16", "text", {"dropout": 1.5}, "less than 1"),
        ("luna-16", "text", {"filter": "conv"}, "setting of ConvLuna"),
        ("convluna-16", "text", {"sharing": "none"}, "ConvLuna's full variant"),
        (
            "luna-2",
            "text",
            {"cls_init": "xavier", "representation": "mean"},
            "with representation='cls' only",
        ),
        ("transformer", "text", {"memory": 3}, "has no memory"),
    ],
)
def test_impossible_models_are_refused_in_one_sentence(
    name: str, task: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(MemnbError, match=message) as caught:
        build_model(name, task, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("said", [MemoryError(), RuntimeError("DefaultCPUAllocator: no memory\n")])
def test_a_model_too_large_for_the_machine_is_one_sentence(
    said: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:  # a large machine would try
        raise said

    monkeypatch.setattr("memnb.models.network.Network", too_large)
    with pytest.raises(MemnbError, match=r"too little memory .*width=1073741824") as caught:
        build_model("luna-4", "listops-short", width=2**30)
    assert "\n" not in str(caught.value)


def test_config_and_model_agree_on_names() -> None:
    model = model_config("poolluna-16", "text", filter_stride=4)
    assert (model.name, model.family, model.kind) == ("poolluna-16", "poolluna", "convluna")
    assert Model.of(model.model_dump()) == model


def test_fixed_kernels_do_what_their_names_say_and_stay_fixed() -> None:
    x = torch.randn(2, 9, 8)
    smooth = ConvFilter(heads=4, width=4, stride=1, kernel="smooth")
    inner = torch.stack([x[:, t - 1 : t + 3].mean(1) for t in range(1, 7)], dim=1)
    torch.testing.assert_close(smooth.convolve(x)[:, 1:7], inner)
    difference = ConvFilter(heads=4, width=4, stride=1, kernel="difference")
    torch.testing.assert_close(difference.convolve(x)[:, 1:], x[:, 1:] - x[:, :-1])
    torch.manual_seed(0)
    learned = ConvFilter(heads=4, width=4, stride=1)
    torch.manual_seed(0)
    random = ConvFilter(heads=4, width=4, stride=1, kernel="random")
    assert torch.equal(random.weight, learned.weight)
    assert learned.weight.requires_grad
    assert not any(f.weight.requires_grad for f in (smooth, difference, random))


def test_a_difference_of_two_taps_is_the_same_difference() -> None:
    x = torch.randn(1, 6, 4)
    short = ConvFilter(heads=4, width=2, stride=1, kernel="difference")
    # Two taps are t and t + 1.
    torch.testing.assert_close(short.convolve(x)[:, :-1], x[:, 1:] - x[:, :-1])


def test_shuffled_taps_are_learned_and_stand_at_distinct_places_of_a_wider_window() -> None:
    conv = ConvFilter(heads=50, width=4, stride=1, kernel="shuffled")
    assert conv.places is not None
    assert conv.kernel().shape == (50, 16)
    assert ((conv.kernel() != 0).sum(dim=1) == 4).all()
    assert len({tuple(row) for row in conv.places.tolist()}) > 40
    x = torch.randn(2, 20, 50)
    torch.testing.assert_close(conv.convolve(x), conv.written_out(x))
    conv.convolve(x).sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.shape == (50, 4)
    assert "places" in conv.state_dict()
    assert "places" not in ConvFilter(heads=4, width=4, stride=1).state_dict()


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        ("text-short", (2, 501)),
        ("text-short", (2, 0)),
        ("text-short", (100,)),
        ("image-short", (2, 16, 16)),
        ("retrieval", (2, 50)),
        ("retrieval", (2, 3, 50)),
        ("retrieval", (2, 2, 4001)),
    ],
)
def test_an_input_of_another_shape_is_one_sentence(task: str, shape: tuple[int, ...]) -> None:
    network = build_model("luna-1", task)
    most = f"{network.task.max_length:,}"
    with pytest.raises(MemnbError, match=re.escape(f"1 to {most}, but got {shape}; cut")):
        network(torch.ones(shape, dtype=torch.uint8))


def test_an_input_too_long_is_the_same_sentence_in_compiled_code() -> None:
    network = build_model("luna-1", "text-short").eval()
    inputs = torch.ones((1, network.task.max_length), dtype=torch.uint8)
    whole = torch.compile(network, fullgraph=True, backend="eager")
    torch.testing.assert_close(whole(inputs), network(inputs))
    with pytest.raises(MemnbError, match="but got"):
        torch.compile(network, backend="eager")(torch.cat([inputs, inputs], dim=1))
