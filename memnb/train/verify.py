"""Does a block keep what the others promise? ``memnb verify-block`` asks it.

Each check feeds a small block made-up inputs and compares what comes back with what must. A check
that fails says which expectation failed and on which input. The others are run all the same, except
where the first one fails, whose fault each of them would repeat.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memnb import config
from memnb.config import Model, Run, model_config, run_config
from memnb.errors import MemnbError
from memnb.models import registry
from memnb.models.network import Network
from memnb.tasks.base import made_up
from memnb.train.device import choose_device
from memnb.train.engine import Engine
from memnb.train.sampler import EpochSampler

BATCH, LENGTH, ROWS, WIDTH = 3, 24, 5, 16
LENGTHS = (24, 17, 5)
SHAPE = {"width": WIDTH, "heads": 4, "mlp": 24, "dropout": 0.0}
EXAMPLES, STEPS = 32, 12  # of the run that is interrupted and resumed


class _Failed(Exception):
    """An expectation that does not hold: the message says which, on which input."""


@dataclass(frozen=True)
class Check:
    """One expectation and how it went.

    Attributes:
        detail: why it failed or was not asked, and empty otherwise.
        asked: false where there was nothing to ask (it is passed), or no use in asking (it is not).
    """

    name: str
    expectation: str
    passed: bool
    detail: str = ""
    asked: bool = True


def find_blocks(name_or_file: str) -> list[str]:
    """Names to verify: the one that is given, or all that a Python file registers.

    Raises:
        MemnbError: no such block; the file is missing, fails, or registers none.
    """
    if not name_or_file.endswith(".py"):
        kind = _with_size(name_or_file).kind  # says so if there is none
        if kind not in config.BUILT_IN:
            registry.own_block(kind)  # so does this
        return [name_or_file]
    path = Path(name_or_file)
    if not path.is_file():
        raise MemnbError(f"There is no file {path}; give a Python file or the name of a block.")
    return registry.register_file(path)


def verify(name: str) -> Iterator[Check]:
    """Run the checks on the block called ``name``; each result comes as soon as it is there.

    The name may carry a memory size (``mymemory-3``). Without one the block is given 5 rows, or,
    if it can be called only so, no memory.

    Raises:
        MemnbError: there is no such block.
    """
    model, without = _with_size(name), "no memory goes through its blocks"
    trouble = _fault(_called, model) if name in config.own_families() else ""
    if trouble and not _fault(_called, _model(name)):
        model = _model(name)
        without = f"the block can be called only without a memory; with {ROWS} rows: {trouble}"
    return _checks(model, without)


def _checks(model: Model, without: str) -> Iterator[Check]:
    """The results; ``without`` says why the block has no memory, in case it has none."""
    broken = False
    for name, (expectation, check) in CHECKS.items():
        if broken:
            why = f"not asked, since '{FIRST}' failed"
            yield Check(name, expectation, False, why, asked=False)
        elif check is _memory_used and not model.has_memory_stream:
            yield Check(name, expectation, True, f"not asked, since {without}", asked=False)
        elif check is _meddled and not _allowed(model):
            why = "not asked, since the block has no edit_packed and no keep_rows"
            yield Check(name, expectation, True, why, asked=False)
        else:
            fault = _fault(check, model)
            broken = fault != "" and name == FIRST
            yield Check(name, expectation, not fault, fault)


def _fault(check: Callable[[Model], None], model: Model) -> str:
    """What is wrong by this check; empty where nothing is."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            check(model)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        return _told(error)
    return ""


# --- what the checks are made of -------------------------------------------------------------


def _model(name: str) -> Model:
    return model_config(name, "listops-short", **SHAPE, reading="as_intended")


def _with_size(name: str) -> Model:
    """The model called ``name``, with as many rows as it says, else with those of the checks."""
    return _model(f"{name}-{ROWS}" if config.takes_size(name) else name)


def _called(model: Model) -> None:
    _block(model)(*_inputs(model), None)


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, (_Failed, MemnbError)) else registry.raised(error)


def _block(model: Model) -> nn.Module:
    torch.manual_seed(0)
    return registry.make_block(model, LENGTH + 1).double().eval()


def _inputs(model: Model, batch: int = BATCH, length: int = LENGTH) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, length, WIDTH, generator=generator, dtype=torch.float64)
    if not model.has_memory_stream:
        return x, None
    return x, torch.randn(batch, model.memory, WIDTH, generator=generator, dtype=torch.float64)


def _ready(model: Model) -> tuple[nn.Module, Tensor, Tensor | None]:
    """A block and what it is fed with: x and a memory."""
    return _block(model), *_inputs(model)


def _mask() -> Tensor:
    return torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]


def _said(x: Tensor, mask: bool = False) -> str:
    masked = f"tokens {', '.join(map(str, LENGTHS))}" if mask else "no mask"
    return f"(input: x {tuple(x.shape)}, {masked}, seed 1)"


def _same(got: Tensor | None, wanted: Tensor | None, what: str, x: Tensor, mask: bool) -> None:
    if got is None or wanted is None:
        return
    difference = (got - wanted).abs().max().item()
    if not difference < 1e-8:
        raise _Failed(f"{what}, but they differ by up to {difference:.2g} {_said(x, mask)}")


# --- the checks ------------------------------------------------------------------------------


def _shapes(model: Model) -> None:
    block = _block(model)
    names = set(block.state_dict())
    for batch, length in ((BATCH, LENGTH), (1, 7)):
        x, memory = _inputs(model, batch, length)
        for mask in (None, torch.ones(batch, length, dtype=torch.bool)):
            given = [each if each is None else each.clone() for each in (x, memory, mask)]
            after, carried = block(*given)
            _left_alone((x, memory, mask), given)
            for made in sorted(names ^ set(block.state_dict())):
                raise _Failed(
                    f"'{made.removeprefix('block.')}' is made or removed by the block's first "
                    "call, so it is neither trained nor resumed; make all parameters and buffers "
                    "in __init__"
                )
            for name, value in (("x", after), ("memory", carried)):
                # A wrong shape is refused by the block's wrapper, in its own sentence.
                if value is not None and not torch.isfinite(value).all():
                    raise _Failed(f"{name} holds infinities or NaN {_said(x)}")


def _left_alone(before: Sequence[Tensor | None], after: Sequence[Tensor | None]) -> None:
    for name, kept, now in zip(("x", "memory", "mask"), before, after, strict=True):
        if kept is not None and now is not None and not torch.equal(kept, now):
            raise _Failed(
                f"the block changes its input {name} in place; return a new tensor, as in "
                f"x = x + y for x += y (input: {name} {tuple(kept.shape)}, seed 1)"
            )


def _samples_apart(model: Model) -> None:
    block, x, memory = _ready(model)
    together = block(x, memory, None)
    for row in range(BATCH):
        one = slice(row, row + 1)
        alone = block(x[one], None if memory is None else memory[one], None)
        for name, a, b in zip(("x", "memory"), alone, together, strict=True):
            what = f"{name} of sample {row} alone must equal it in a batch of {BATCH}"
            _same(a, None if b is None else b[one], what, x, False)


def _masking(model: Model) -> None:
    block, x, memory = _ready(model)
    mask = _mask()
    padded = block(x, memory, mask)
    other = block(torch.where(mask[:, :, None], x, x + 100.0), memory, mask)
    names = ("x at the tokens", "memory")
    for name, a, b in zip(names, other, padded, strict=True):
        if name == names[0]:
            a, b = a * mask[:, :, None], b * mask[:, :, None]
        _same(a, b, f"{name} must not depend on what stands at padding", x, True)
    for row, length in enumerate(LENGTHS):
        one = slice(row, row + 1)
        alone = block(x[one, :length], None if memory is None else memory[one], mask[one, :length])
        what = f"sample {row} cut to its {length} tokens must give the same as padded:"
        _same(alone[0], padded[0][one, :length], f"{what} x", x, True)
        if alone[1] is not None:
            _same(alone[1], padded[1][one], f"{what} memory", x, True)


def _loss(block: Callable[..., Any], x: Tensor, memory: Tensor | None) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    total = x.new_zeros(())
    for part in block(x, memory, _mask()):
        if part is not None:
            total = total + (part * torch.randn(part.shape, generator=generator).double()).sum()
    return total


def _trained(block: nn.Module, x: Tensor, memory: Tensor | None) -> dict[str, Tensor]:
    """What has gradients, by name; those of the inputs are asked for."""
    named: dict[str, Tensor] = {
        name.removeprefix("block."): parameter
        for name, parameter in block.named_parameters()
        if parameter.requires_grad
    }
    named["the input x"] = x.requires_grad_()
    if memory is not None:
        named["the input memory"] = memory.requires_grad_()
    return named


def _gradients_of(
    block: Callable[..., Any], x: Tensor, memory: Tensor | None, named: dict[str, Tensor]
) -> list[Tensor | None]:
    loss = _loss(block, x, memory)
    if not loss.requires_grad:
        return [None] * len(named)
    return list(torch.autograd.grad(loss, list(named.values()), allow_unused=True))


def _gradients(model: Model) -> None:
    block, x, memory = _ready(model)
    named = _trained(block, x, memory)
    gradients = _gradients_of(block, x, memory, named)
    if all(gradient is None for gradient in gradients):
        raise _Failed(f"x and memory come back without any gradient {_said(x, True)}")
    generator = torch.Generator().manual_seed(3)
    for (name, value), gradient in zip(named.items(), gradients, strict=True):
        if gradient is None:
            raise _Failed(
                f"{name} receives no gradient from x or memory; is it unused, or does a detach() "
                f"or no_grad() stand in the way? {_said(x, True)}"
            )
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        step, ends = 1e-6, []
        for sign in (1, -1):
            with torch.no_grad():
                value.add_(direction, alpha=sign * step)
                ends.append(_loss(block, x, memory).item())
                value.sub_(direction, alpha=sign * step)
        expected = (ends[0] - ends[1]) / (2 * step)
        got = (gradient * direction).sum().item()
        if abs(got - expected) > 1e-4 * abs(expected) + 1e-5:
            raise _Failed(
                f"the gradient of {name} along a random direction is {got:.6g}, but finite "
                f"differences say {expected:.6g} {_said(x, True)}"
            )


def _memory_used(model: Model) -> None:
    block, x, memory = _ready(model)
    assert memory is not None  # without one this is not asked
    before = block(x, memory, None)
    if torch.equal(block(x, memory + 1.0 + memory, None)[1], before[1]):
        raise _Failed(f"another memory leaves the memory that comes back as it was {_said(x)}")
    if torch.equal(block(x.flip(2), memory, None)[1], before[1]):
        raise _Failed(f"another x leaves the memory that comes back as it was {_said(x)}")


def _allowed(model: Model) -> list[str]:
    """What a block of a user's lets the causal tests set."""
    block = getattr(_block(model), "block", None)
    return [name for name in ("edit_packed", "keep_rows") if hasattr(block, name)]


def _meddled(model: Model) -> None:
    """Else a causal test would change nothing, and a memory that matters look idle."""
    block, x, memory = _ready(model)

    def given(**settings: Any) -> Tensor:
        for name, value in settings.items():
            setattr(block.block, name, value)
        try:
            return block(x, memory, None)[0]
        finally:
            for name in settings:
                setattr(block.block, name, None)

    allowed, before = _allowed(model), block(x, memory, None)[0]
    if "edit_packed" in allowed and torch.equal(given(edit_packed=torch.zeros_like), before):
        raise _Failed(
            "the block has edit_packed, but x comes back the same where that makes zeros of "
            f"packed; hand packed through it before anything reads packed {_said(x)}"
        )
    if "keep_rows" in allowed and model.memory > 1:
        keep = torch.arange(model.memory) < 1
        one = given(keep_rows=keep)
        if torch.equal(one, before):
            raise _Failed(
                "the block has keep_rows, but x comes back the same where that hides all rows but "
                f"one {_said(x)}"
            )
        what = "x must be the same with keep_rows (B, M) as with (M,)"
        _same(given(keep_rows=keep.expand(BATCH, -1)), one, what, x, False)


def _determinism(model: Model) -> None:
    block, x, memory = _ready(model)
    for training in (False, True):
        block.train(training)
        answers = []
        for _ in range(2):
            if training:
                torch.manual_seed(5)
            answers.append(block(x, memory, None))
        for name, a, b in zip(("x", "memory"), *answers, strict=True):
            if a is not None and not torch.equal(a, b):
                where = (
                    "training, two calls with the same seed"
                    if training
                    else "evaluation, two calls"
                )
                raise _Failed(f"in {where} differ in {name} {_said(x)}")


def _one_graph(model: Model) -> None:
    block, x, memory = _ready(model)
    named = _trained(block, x, memory)
    compiled = torch.compile(block, backend="eager", fullgraph=True, dynamic=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler's own parts
            answers = compiled(x, memory, None)
            gradients = _gradients_of(compiled, x, memory, named)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        explained = (line for line in lines if line.startswith("Explanation"))
        why = next(explained, registry.raised(error))
        raise _Failed(
            f"torch.compile cannot take the block as one graph, so the CUDA engine falls back to "
            f"the slow loop: {why} {_said(x)}"
        ) from None
    finally:
        torch._dynamo.reset()
    for name, a, b in zip(("x", "memory"), answers, block(x, memory, None), strict=True):
        _same(a, b, f"{name} of the compiled block must equal the plain one's", x, False)
    plain = _gradients_of(block, x, memory, named)
    for name, a, b in zip(named, gradients, plain, strict=True):
        what = (
            f"the gradient of {name} through the block as PyTorch {torch.__version__} compiles it "
            "must equal the plain one's"
        )
        if b is not None:
            _same(torch.zeros_like(b) if a is None else a, b, what, x, True)


def _resume(model: Model) -> None:
    changes = {**SHAPE, "blocks": 2, "dropout": 0.1, "reading": "as_intended"}
    run = run_config(
        model.name,
        "listops-short",
        model_changes=changes,
        task_changes={"min_length": 5, "max_length": LENGTH},
        training_changes={"batch": 4, "warmup": 4},
    )
    where = f"(run: {run.run_id}, {STEPS} steps of 4 made-up examples)"
    whole, first, second = (EpochSampler(EXAMPLES, 4, 0) for _ in range(3))
    expected = _engine(run, seed=0)
    expected.train(whole.take(STEPS))
    half = _engine(run, seed=0)
    half.train(first.take(STEPS // 2))
    state = half.state()
    second.restore(first.state())
    torch.rand(3)  # whatever else the process draws must not matter
    resumed = _engine(run, seed=1)
    resumed.restore(state)
    resumed.train(second.take(STEPS - STEPS // 2))
    ends = resumed.network.state_dict()
    for name, value in expected.network.state_dict().items():
        if not torch.isfinite(value).all():
            raise _Failed(f"'{name}' is no longer finite after training {where}")
        if not torch.equal(value, ends[name]):
            raise _Failed(
                f"'{name}' differs between a run that was resumed at step {STEPS // 2} and one "
                "that was not; does the block keep a state outside its parameters and buffers? "
                f"{where}"
            )


def _engine(run: Run, seed: int) -> Engine:
    torch.manual_seed(seed)
    network = Network(run.model, run.task)
    torch.manual_seed(seed + 10)
    return Engine(
        network, made_up(run.task, EXAMPLES, EXAMPLES), run.training, choose_device("cpu")
    )


CHECKS: dict[str, tuple[str, Callable[[Model], None]]] = {
    "shapes": ("x and memory come back in their shapes, finite", _shapes),
    "samples apart": (
        "a sample's result does not depend on the others of its batch",
        _samples_apart,
    ),
    "masking": ("padding changes nothing", _masking),
    "gradients": ("every parameter and input has its true gradient", _gradients),
    "memory used": ("the memory that comes back depends on memory and x", _memory_used),
    "causal tests": ("what they change or hide is what is read", _meddled),
    "determinism": ("the same input and seed give the same result", _determinism),
    "one graph": ("the CUDA engine can compile it", _one_graph),
    "resume": ("an interrupted run ends as an uninterrupted one", _resume),
}
FIRST = next(iter(CHECKS))
