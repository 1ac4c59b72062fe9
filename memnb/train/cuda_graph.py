"""The CUDA engine: a whole optimisation step as one replayed graph, so the GPU never waits.

Forward and backward are compiled; gathering the batch, the step, the learning rate and the running
sums are captured together with them in a CUDA graph. Nothing is read back between evaluations.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memnb.config import Training
from memnb.errors import MemnbError, first_line
from memnb.models.network import Network
from memnb.probes.answers import POSITIONS
from memnb.tasks import Dataset
from memnb.train.device import Device, check_usable
from memnb.train.engine import DeviceSplit, Engine, Interrupted, Stop, never

log = logging.getLogger(__name__)

ENGINES = ("auto", "eager", "captured", "graph")
RECOMPILATIONS = 100
WARM_UP = 3  # steps before capture, undone afterwards
SHORT = 12  # positions of a chunk where compiled code is held against plain code
ALIKE = 1e-3  # how far the two may be apart, in parts of a gradient


def make_engine(
    kind: str,
    network: Network,
    dataset: Dataset,
    training: Training,
    device: Device,
    parts: int = 1,
) -> Engine:
    """The engine called ``kind``; ``auto`` is ``graph`` on CUDA and ``eager`` elsewhere.

    ``graph`` captures compiled steps, ``captured`` plain ones.

    Where ``auto`` cannot compile, it captures plain steps; where that fails too, the plain loop
    takes over. The log says why.

    Raises:
        MemnbError: an unknown name, a captured step without CUDA, ``parts`` does not divide the
            batch, or the GPU cannot be used at all.
    """
    if kind not in ENGINES:
        raise MemnbError(
            f"The engine must be one of {', '.join(ENGINES)}, but got '{kind}'; choose one."
        )
    if kind in ("graph", "captured") and device.kind != "cuda":
        raise MemnbError(f"The engine '{kind}' needs a CUDA device; use the engine 'eager'.")
    check_usable(device)
    if kind == "eager" or device.kind == "cpu":
        return Engine(network, dataset, training, device, parts)
    if kind == "captured":
        return CapturedEngine(network, dataset, training, device, parts)
    start = copy.deepcopy(network.state_dict())
    for faster, next_best in (
        (GraphEngine, "the step is captured as it is"),
        (CapturedEngine, "the plain loop is used"),
    ):
        try:
            return faster(network, dataset, training, device, parts)
        except (torch.cuda.OutOfMemoryError, MemnbError):
            raise
        except Exception as error:  # a compiler's failures have no common type
            if kind == "graph":
                raise
            log.warning(
                "The engine '%s' does not work here (%s: %s); %s, which is slower.",
                faster.kind, type(error).__name__, first_line(error), next_best,
            )  # fmt: skip
            network.load_state_dict(start)  # a step or two may have been taken
    return Engine(network, dataset, training, device, parts)


def compiled(network: Network, backend: str = "inductor") -> Callable[..., Tensor]:
    """The network, compiled: as a whole, or in the parts that it names.

    In parts it is a twin that shares the weights, so that the network itself stays as it is.
    """
    # Each network adds its own versions of the same code; past the limit, compilation would be
    # given up without a word. With fullgraph it is an error instead.
    torch._dynamo.config.recompile_limit = max(RECOMPILATIONS, torch._dynamo.config.recompile_limit)
    options: dict[str, Any] = {"dynamic": False, "fullgraph": True, "backend": backend}
    if not network.parts_to_compile():
        return torch.compile(network, **options)
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    for module, name in twin.parts_to_compile():
        part = torch.compile(getattr(module, name), **options)
        setattr(module, name, part)

    def run(inputs: Tensor, lengths: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # What the compiler looks at when one part's result goes into the next.
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
            scores: Tensor = twin.train(network.training)(inputs, lengths)
        return scores

    return run


def changed_by_compiling(network: Network) -> str | None:
    """What compiling makes wrong in such a model with this version of PyTorch; None: nothing.

    Loss and gradients of a small network of the same kind (one block, a short sequence, no
    dropout), compiled, are held against the plain one's. That takes a second or two, since no code
    is generated: what is looked for are faults of the compiler's front end, which finds out what to
    compute. PyTorch 2.11's lost gradients without a word (pytorch/pytorch#180642).
    """
    device = next(network.parameters()).device
    length = 2 * SHORT - 1
    chunk = SHORT if network.model.chunk else 0
    model = network.model.model_copy(update={"blocks": 1, "dropout": 0.0, "chunk": chunk})
    task = network.task.model_copy(update={"max_length": length})
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.enable_grad():
        torch.manual_seed(0)
        small = Network(model, task).to(device)
        shape = (2, 2) if task.layout == "pair" else (2,)
        inputs = torch.randint(1, task.vocabulary or 256, (*shape, length), device=device)
        lengths = torch.tensor([length, SHORT + 1], device=device).expand(shape)
        plain, seen = (
            _loss_and_gradients(call, small, inputs, lengths)
            for call in (small, compiled(small, backend="aot_eager"))
        )
    scale = max(gradient.norm() for gradient in plain.values())
    for name, value in plain.items():
        off = (seen[name] - value).norm()
        if not off <= ALIKE * (value.norm() + 0.1 * scale):
            return f"{name} of the compiled model is off by {float(off / value.norm()):.0%}"
    return None


def _loss_and_gradients(
    call: Callable[..., Tensor], network: Network, inputs: Tensor, lengths: Tensor
) -> dict[str, Tensor]:
    scores = call(inputs, lengths)
    labels = torch.arange(len(scores), device=scores.device) % scores.shape[1]
    loss = functional.cross_entropy(scores, labels)
    trained = {name: part for name, part in network.named_parameters() if part.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    gradients = {
        f"the gradient of {name}": torch.zeros_like(part) if gradient is None else gradient
        for (name, part), gradient in zip(trained.items(), found, strict=True)
    }
    return {"the loss": loss.detach(), **gradients}


class CompiledWrongly(RuntimeError):
    """This version of PyTorch compiles the model into something else."""


class GraphEngine(Engine):
    """Training and evaluation steps as CUDA graphs over compiled code.

    The same order, schedule and optimizer as the plain loop; in fp32 the losses agree within 1e-5.
    Random numbers of dropout come from the device's generator, whose state is part of
    :meth:`state`. Models with few memory rows (n M <= H) use sums of a fixed order only, so two
    runs agree bit for bit; others do under :func:`memnb.train.device.deterministic_sums`.
    """

    kind = "graph"
    chunk = 25

    def _compile(self) -> Callable[..., Tensor]:
        fault = changed_by_compiling(self.network)
        if fault:
            raise CompiledWrongly(f"with PyTorch {torch.__version__}, {fault}")
        return compiled(self.network)

    def _prepare(self) -> None:
        self._lr = self.optimizer.param_groups[0]["lr"]
        self._steps_done = torch.zeros((), dtype=torch.float64, device="cuda")
        self._rows = torch.arange(self.training.batch, device="cuda")
        self._compiled = self._compile()
        self._train_graph = self._capture_training()

    def _make_optimizer(self, **settings: Any) -> torch.optim.AdamW:
        # The graph reads the learning rate from memory at each replay, so it is a tensor.
        rate = torch.tensor(0.0, device="cuda")
        return super()._make_optimizer(lr=rate, capturable=True, **settings)

    # --- training ----------------------------------------------------------------------------

    def train(self, batches: Tensor) -> None:
        """One optimisation step per row of example numbers, int64 (steps, batch)."""
        for rows in batches.pin_memory().to("cuda", non_blocking=True):
            self._rows.copy_(rows)
            self._train_graph.replay()
        self.step += len(batches)
        self._summed += batches.numel()

    def _captured_step(self) -> None:
        training = self.training
        self._steps_done += 1
        steps = self._steps_done
        rate = training.lr * (steps / training.warmup).clamp(max=1.0)
        self._lr.copy_(rate / steps.clamp(min=training.warmup).sqrt())
        self.optimizer.zero_grad(set_to_none=True)
        self._accumulate(self._rows, self._compiled)
        self.optimizer.step()

    def _capture_training(self) -> torch.cuda.CUDAGraph:
        """Compile and warm up on a side stream, undo the steps taken, and capture one step."""
        weights = {k: v.clone() for k, v in self.network.state_dict().items()}
        generator = torch.cuda.get_rng_state()
        self.network.train()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._captured_step()
        torch.cuda.current_stream().wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._captured_step()
        self.network.load_state_dict(weights)
        for moments in self.optimizer.state.values():
            for value in moments.values():
                value.zero_()
        self._steps_done.zero_()
        self._sums.zero_()
        torch.cuda.set_rng_state(generator)
        return graph

    # --- evaluation --------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, split: DeviceSplit, should_stop: Stop = never) -> tuple[float, float]:
        """Mean loss and accuracy on a split, by compiled code in large batches.

        Raises:
            Interrupted: ``should_stop`` said so between two batches.
        """
        return self._evaluate(self._compiled, 2**20, split, should_stop)

    @torch.no_grad()
    def evaluate_eagerly(
        self, split: DeviceSplit, should_stop: Stop = never
    ) -> tuple[float, float]:
        """As :meth:`evaluate`, in smaller batches, since plain code takes more memory."""
        return self._evaluate(self.network, POSITIONS["cuda"], split, should_stop)

    def _evaluate(
        self, network: Callable[..., Tensor], positions: int, split: DeviceSplit, should_stop: Stop
    ) -> tuple[float, float]:
        """Scores by ``network`` of about so many positions at a time."""
        training = self.network.training
        self.network.eval()
        length = split.inputs[0].numel()
        if self.network.model.chunk:  # one chunk of each example at a time
            length = min(length, self.network.model.chunk)
        batch = min(len(split), max(1, positions // length))
        order = torch.arange(len(split), device="cuda")
        if self.network.is_faster_on_short:
            order = split.lengths.view(len(split), -1).amax(dim=1).argsort(stable=True)
        sums = torch.zeros(2, dtype=torch.float64, device="cuda")
        for start in range(0, len(split), batch):
            if should_stop():
                raise Interrupted
            # One shape for every batch: the last one is filled up with examples already scored.
            first = min(start, len(split) - batch)
            part = order[first : first + batch]
            fresh = torch.arange(first, first + batch, device="cuda") >= start
            labels = split.labels[part]
            with self._autocast():
                scores = network(split.inputs[part], split.lengths[part])
            loss_of_part = functional.cross_entropy(scores.float(), labels, reduction="none")
            correct = (scores.argmax(-1) == labels) & fresh
            sums += torch.stack([(loss_of_part.double() * fresh).sum(), correct.sum().double()])
        self.network.train(training)
        loss, accuracy = (sums / len(split)).tolist()
        return loss, accuracy

    def _restore_optimizer(self, saved: dict[str, Any]) -> None:
        """In place, for the tensors are those that were captured."""
        for number, parameter in enumerate(self.optimizer.param_groups[0]["params"]):
            # Parameters that nothing reads (the last block's memory norm) have no moments.
            for name, value in self.optimizer.state.get(parameter, {}).items():
                value.copy_(saved["state"][number][name])
        self._steps_done.fill_(self.step)


class CapturedEngine(GraphEngine):
    """Plain steps as one CUDA graph: what is left of the speed where nothing compiles."""

    kind = "captured"

    def _compile(self) -> Callable[..., Tensor]:
        return self.network
