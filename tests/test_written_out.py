"""Every model and a training run, written out a second time from the formulas alone.

Nothing of memnb's mathematics is used: one example, one head, one chunk after the other, without
batches, masks or fast paths; padding that is masked is cut away. Only the weights are those of the
network.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from memnb import build_model, tasks
from memnb.config import Model, Task, run_config
from memnb.models.network import Network
from memnb.train.loop import train
from memnb.train.sampler import EpochSampler

SIZES = {"blocks": 2, "width": 16, "heads": 4, "mlp": 24, "dropout": 0.0}


# --- the formulas ----------------------------------------------------------------------------


class Weights:
    """The weights of a network, or of a part of it, by their names, and the maps that they make."""

    def __init__(self, named: dict[str, Tensor], model: Model, prefix: str = "") -> None:
        self.named, self.model, self.prefix = named, model, prefix

    def of(self, name: str) -> Weights:
        return Weights(self.named, self.model, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> Tensor:
        return self.named[self.prefix + name]

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.named

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * self[f"{name}.weight"] + self[f"{name}.bias"]

    def ffn(self, x: Tensor, name: str = "ffn") -> Tensor:
        return self.linear(f"{name}.3", functional.gelu(self.linear(f"{name}.0", x)))

    def temperature(self, kind: str, name: str) -> float | Tensor:
        if kind == "learn":
            return self[f"{name}.log_temp"].exp()
        return 1.0 if kind == "unit" else math.sqrt(self.model.width // self.model.heads)

    def filter(self, x: Tensor) -> Tensor:
        """F(x): (L, H) -> (L', H). A convolution of width 4 looks from t - 1 to t + 2; what is
        shorter than the window of a pooling is one window."""
        width, stride = self.model.filter_width, self.model.filter_stride
        if self.model.filter == "none":
            return x
        if self.model.filter == "conv" and stride == 1:
            left = (width - 1) // 2
            x = functional.pad(x, (0, 0, left, width - 1 - left))
        windows = x.unfold(0, min(width, len(x)), stride)
        if self.model.filter == "pool":
            return windows.amax(-1)
        taps = self["filter.weight"].repeat_interleave(x.shape[1] // self.model.heads, dim=0)
        return (windows * taps).sum(-1)

    def read(self, query: Tensor, key: Tensor, value: Tensor, t: float | Tensor) -> Tensor:
        """softmax(q k^T / T) v, head by head."""
        heads = zip(
            *(each.chunk(self.model.heads, -1) for each in (query, key, value)), strict=True
        )
        return torch.cat([(q @ k.T / t).softmax(-1) @ v for q, k, v in heads], dim=-1)

    def attention(self, name: str, x: Tensor, source: Tensor, t: float | Tensor) -> Tensor:
        """Attn(q = x, k = v = source; T)."""
        key, value = (self.linear(f"{name}.{part}", source) for part in ("key", "value"))
        read = self.read(self.linear(f"{name}.query", x), key, value, t)
        return self.linear(f"{name}.out", read)


def transformer(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    y = w.norm("norm1", x)
    x = x + w.attention("maps", y, y, w.temperature("sqrt", ""))
    return x + w.ffn(w.norm("norm2", x)), memory


def luna(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Luna and ConvLuna, of which the simplified variant has no value projections."""
    model, a = w.model, w.of("attention")
    if model.kind == "luna":
        pack_t = unpack_t = w.temperature("sqrt", "")
    else:
        coded = model.reading == "as_coded"
        pack_t = a.temperature(model.pack_temperature, "temperatures.pack")
        unpack = "unit" if coded else model.unpack_temperature
        unpack_t = a.temperature(unpack, "temperatures.unpack")
    simplified = model.kind == "convluna" and model.variant == "simplified"

    def mapped(side: str, part: str, z: Tensor) -> Tensor:
        if simplified:
            return z if part == "value" else a.linear(f"maps.{part}", z)
        own = f"{side}.{part}"
        return a.linear(own if f"{own}.weight" in a else f"pack.{part}", z)

    key, value = (a.filter(mapped("pack", part, x)) for part in ("key", "value"))
    packed = a.read(mapped("pack", "query", memory), key, value, pack_t)
    if model.pack_output:
        packed = mapped("pack", "out", packed)
    key, value = (mapped("unpack", part, packed) for part in ("key", "value"))
    unpacked = a.read(mapped("unpack", "query", x), key, value, unpack_t)
    x = w.norm("norm_in", x + mapped("unpack", "out", unpacked))
    return w.norm("norm_out", x + w.ffn(x)), w.norm("norm_memory", memory + packed)


def perceiver(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    t = w.temperature("sqrt", "")
    memory = memory + w.attention("cross", w.norm("norm_cross", memory), w.norm("norm_x", x), t)
    memory = memory + w.ffn(w.norm("norm_ffn1", memory), "ffn1")
    y = w.norm("norm_latent", memory)
    memory = memory + w.attention("latent", y, y, t)
    return x, memory + w.ffn(w.norm("norm_ffn2", memory), "ffn2")


def linformer(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    y, mixture = w.norm("norm1", x), w["mixture"][:, : len(x)]
    key, value = (mixture @ w.linear(f"maps.{part}", y) for part in ("key", "value"))
    read = w.read(w.linear("maps.query", y), key, value, w.temperature("sqrt", ""))
    x = x + w.linear("maps.out", read)
    return x + w.ffn(w.norm("norm2", x)), memory


def localconv(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    x = x + w.linear("maps.out", w.filter(w.linear("maps.value", w.norm("norm1", x))))
    return x + w.ffn(w.norm("norm2", x)), memory


def memoryless(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    x = w.norm("norm_in", x + w.linear("out", w.filter(x)))
    return w.norm("norm_out", x + w.ffn(x)), memory


def chunkmem(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    t, y = w.temperature("sqrt", ""), w.norm("norms.within", x)
    h = x + w.attention("within", y, y, t)
    y = w.norm("norms.exchange", h)
    key, value = (w.filter(w.linear(f"write.{part}", y)) for part in ("key", "value"))
    write_t = w.temperature(w.model.pack_temperature, "write_temperature")
    packed = w.linear("write.out", w.read(w.linear("write.query", memory), key, value, write_t))
    x = h + w.attention("read", y, memory, t)
    return x + w.ffn(w.norm("norms.ffn", x)), w.norm("norms.memory", memory + packed)


def rmt(w: Weights, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Memory rows see the chunk through the filter; the chunk's own positions do not."""
    rows, t = len(memory), w.temperature("sqrt", "")
    z = torch.cat([memory, x])
    y = w.norm("norm1", z)
    query, key, value = (w.linear(f"maps.{part}", y) for part in ("query", "key", "value"))
    through = (torch.cat([part[:rows], w.filter(part[rows:])]) for part in (key, value))
    read = [w.read(query[:rows], *through, t), w.read(query[rows:], key, value, t)]
    z = z + w.linear("maps.out", torch.cat(read))
    z = z + w.ffn(w.norm("norm2", z))
    return z[rows:], z[:rows]


BLOCKS = {
    "transformer": transformer, "luna": luna, "convluna": luna, "perceiver": perceiver,
    "linformer": linformer, "localconv": localconv, "memoryless": memoryless,
    "chunkmem": chunkmem, "rmt": rmt,
}  # fmt: skip


def embedded(w: Weights, task: Task, inputs: Tensor) -> Tensor:
    if task.layout == "pixels":
        mean, deviation = task.pixel_scale
        grey = (inputs.double() / 255 - mean) / deviation
        x = grey[:, None] * w["weight"] + w["bias"]
    else:
        x = w["table.weight"][inputs.long()] * (inputs > 0)[:, None]  # padding is a zero vector
    return x + w["positions"][: len(x)]


def first_memory(w: Weights) -> Tensor:
    model = w.model
    if "memory.rows" not in w:
        return torch.zeros(0, model.width)
    if model.memory_init == "normal":
        return w["memory.rows"]
    half = model.width // 2
    rates = 10_000.0 ** (-torch.arange(half).double() / (half - 1))
    angles = torch.arange(model.memory)[:, None] * rates
    return w["memory.rows"] * math.sqrt(model.width) + torch.cat([angles.sin(), angles.cos()], 1)


def encoded(w: Weights, task: Task, inputs: Tensor, length: int) -> Tensor:
    """One sequence (L,) -> (H,). Without chunks it is one chunk."""
    model = w.model
    x = embedded(
        w.of("embedding"), task, inputs[:length] if model.reading == "as_intended" else inputs
    )
    carried = first_memory(w)
    memories = [carried] * model.blocks
    vectors = []
    for chunk in x.split(model.chunk or len(x)):
        x = torch.cat([w["cls"][None], chunk]) if model.representation == "cls" else chunk
        memory = carried
        for number in range(model.blocks):
            # A memory of its own for each block, or one that goes through all of them.
            before = memories[number] if model.kind == "chunkmem" else memory
            x, memory = BLOCKS[model.kind](w.of(f"blocks.{number}"), x, before)
            memories[number] = memory
        carried = w.norm("carry_norm", memory) if model.kind == "rmt" else memory
        vectors.append(x)
    read = {"cls": vectors[-1][:1], "mean": torch.cat(vectors), "memory": carried}
    final = read[model.representation]
    return (final if task.layout == "pair" else w.norm("norm", final)).mean(0)


def scores(network: Network, inputs: Tensor, lengths: Tensor) -> Tensor:
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    w = Weights(named, network.model)
    found = []
    for example, length in zip(inputs, lengths, strict=True):
        documents = zip(example.view(network.task.sequences, -1), length.view(-1), strict=True)
        h = torch.cat([encoded(w.of("encoder"), network.task, x, int(n)) for x, n in documents])
        for layer in range(0, len(network.head), 2):
            h = w.linear(f"head.{layer}", functional.gelu(h) if layer else h)
        found.append(h)
    return torch.stack(found)


# --- against the networks --------------------------------------------------------------------

MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "Transformer": ("transformer", {}),
    "Luna, M = 1": ("luna-1", {}),
    "Luna, few rows": ("luna-3", {}),  # n M <= H
    "Luna, many rows": ("luna-6", {}),
    "Luna, own values": ("luna-3", {"sharing": "qk"}),
    "official Luna": ("officialluna-3", {}),
    "ConvLuna, M = 1": ("convluna-1", {}),
    "ConvLuna, few rows": ("convluna-3", {}),
    "ConvLuna, many rows": ("convluna-6", {}),
    "ConvLuna, width 3": ("convluna-3", {"filter_width": 3}),
    "ConvLuna, stride 2": ("convluna-3", {"filter_stride": 2}),
    "ConvLuna, no filter": ("convluna-3", {"filter": "none", "pack_temperature": "unit"}),
    "ConvLuna, T = √d": ("convluna-3", {"pack_temperature": "sqrt"}),
    "ConvLuna, full": ("convluna-3", {"variant": "full"}),
    "ConvLuna, full, shared": ("convluna-6", {"variant": "full", "sharing": "full"}),
    "PoolLuna": ("poolluna-3", {}),
    "PoolLuna, stride 4": ("poolluna-6", {"filter_stride": 4}),
    "ChunkMem": ("chunkmem-3", {"chunk": 7}),
    "ConvChunkMem": ("convchunkmem-3", {"chunk": 7, "pack_temperature": "learn"}),
    "PoolChunkMem": ("poolchunkmem-3", {"chunk": 7}),
    "RMT": ("rmt-3", {"chunk": 7}),
    "ConvRMT": ("convrmt-3", {"chunk": 7}),
    "Perceiver": ("perceiver-3", {}),
    "Linformer": ("linformer-3", {}),
    "LocalConv": ("localconv", {}),
    "memoryless": ("memoryless", {}),
}


def representations(name: str) -> list[str]:
    if name == "Perceiver":
        return ["memory"]
    without = ("Transformer", "Linformer", "LocalConv", "memoryless")
    return ["cls", "mean"] if name in without else ["cls", "mean", "memory"]


CASES = [
    (name, representation, reading)
    for name in MODELS
    for representation in representations(name)
    for reading in ("as_coded", "as_intended")
]


def assert_written_out(network: Network, inputs: Tensor, lengths: Tensor) -> None:
    """Scores and the gradients of all weights, which are moved off zeros and ones first."""
    generator = torch.Generator().manual_seed(1)
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        if network.task.layout != "pixels":
            network.encoder.embedding.table.weight[0] = 0.0
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    given, expected = network(inputs, lengths), scores(network, inputs, lengths)
    torch.testing.assert_close(given, expected, rtol=1e-6, atol=1e-6)
    direction = torch.randn(given.shape, generator=generator, dtype=given.dtype)
    found = [
        torch.autograd.grad(each, list(trained.values()), direction, materialize_grads=True)
        for each in (given, expected)
    ]
    for name, one, two in zip(trained, *found, strict=True):
        torch.testing.assert_close(
            one, two, rtol=1e-5, atol=1e-6, msg=lambda m, at=name: f"{at}: {m}"
        )


@pytest.mark.parametrize(("name", "representation", "reading"), CASES)
def test_every_model_is_what_its_formulas_say(name: str, representation: str, reading: str) -> None:
    torch.manual_seed(0)
    model, changes = MODELS[name]
    changes = {**SIZES, **changes, "representation": representation, "reading": reading}
    network = build_model(model, "listops-short", **changes)
    lengths = torch.tensor([17, 10])
    inputs = torch.randint(1, 16, (2, 17)) * (torch.arange(17) < lengths[:, None])
    assert_written_out(network, inputs, lengths)


@pytest.mark.parametrize("model", ["transformer", "convluna-3"])
@pytest.mark.parametrize("task", ["image", "pathfinder", "retrieval"])
def test_every_kind_of_input_has_its_embedding_and_head(task: str, model: str) -> None:
    torch.manual_seed(0)
    network = build_model(model, task, **SIZES)
    paired = task == "retrieval"
    lengths = torch.tensor([[9, 4], [12, 12]]) if paired else torch.tensor([12, 12])
    assert_written_out(network, torch.randint(0, 256, (*lengths.shape, 12)), lengths)


# --- the protocol ----------------------------------------------------------------------------


def test_a_run_follows_the_protocol_step_by_step(tmp_path: Path) -> None:
    """Schedule, AdamW, cadence, what is averaged, which weights are tested: in float64."""
    run = run_config(
        "convluna-3",
        "listops-short",
        model_changes={**SIZES, "reading": "as_intended"},
        task_changes={"min_length": 4, "max_length": 20, "train": 45, "validation": 30, "test": 20},
        training_changes={
            "steps": 25, "batch": 8, "lr": 0.03, "warmup": 7, "weight_decay": 0.1,
            "evaluate_every": 4, "patience": 100,
        },
    )  # fmt: skip
    protocol, data = run.training, tasks.load(run.task)
    splits = {
        name: [torch.from_numpy(part) for part in (split.inputs, split.lengths, split.labels)]
        for name, split in vars(data).items()
    }
    torch.manual_seed(run.seed)
    network = Network(run.model, run.task).double()
    trained = [p for p in network.parameters() if p.requires_grad]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in trained]
    sampler = EpochSampler(len(data.train), protocol.batch, run.seed)

    def score(inputs: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        given = network(inputs, lengths)
        losses = functional.cross_entropy(given, labels)
        return losses, float((given.argmax(-1) == labels).double().mean())

    expected: list[dict[str, object]] = []
    best, tested = -1.0, (0, 0.0, 0.0)
    since: list[tuple[float, float]] = []  # loss and accuracy of each step since the last row
    for step in range(1, protocol.steps + 1):
        (batch,) = sampler.take(1)
        loss, accuracy = score(*(part[batch] for part in splits["train"]))
        since.append((loss.item(), accuracy))
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        rate = protocol.lr * min(1, step / protocol.warmup) / math.sqrt(max(step, protocol.warmup))
        with torch.no_grad():
            for p, g, (first, second) in zip(trained, gradients, moments, strict=True):
                if g is None:  # nothing reads the last block's memory
                    continue
                first.mul_(0.9).add_(0.1 * g)
                second.mul_(0.999).add_(0.001 * g**2)
                p *= 1 - rate * protocol.weight_decay
                p -= rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            if step % protocol.evaluate_every and step != protocol.steps:
                continue
            loss, accuracy = score(*splits["validation"])
            mean = [sum(values) / len(since) for values in zip(*since, strict=True)]
            expected += [
                {"step": step, "split": "train", "loss": mean[0], "accuracy": mean[1], "lr": rate},
                {"step": step, "split": "validation", "loss": loss.item(), "accuracy": accuracy},
            ]
            since = []
            if accuracy > best:
                best = accuracy
                loss, accuracy = score(*splits["test"])
                tested = step, loss.item(), accuracy
    step, test_loss, accuracy = tested
    expected.append({"step": step, "split": "test", "loss": test_loss, "accuracy": accuracy})

    assert train(run, tmp_path / "run", device="cpu")["outcome"] == "finished"
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    for line, row in zip(lines, expected, strict=True):
        given = json.loads(line)
        del given["seconds"]
        assert given.pop("split") == row.pop("split")
        assert given == pytest.approx(row, rel=1e-5)
