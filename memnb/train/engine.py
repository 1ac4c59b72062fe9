"""One optimisation step after the other, and evaluation: the part that is worth making fast.

:class:`Engine` is the plain loop: eager PyTorch, one step at a time, any device. The data set
lives on the device in its smallest type and batches are gathered there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memnb.config import Training
from memnb.errors import MemnbError
from memnb.models.network import Network
from memnb.probes.answers import POSITIONS
from memnb.tasks import Dataset, Split
from memnb.train.device import Device
from memnb.train.schedule import learning_rate

Stop = Callable[[], bool]


def never() -> bool:
    """What is asked whether to stop where nobody asks for it."""
    return False


class Interrupted(Exception):
    """Evaluation was asked to stop before its end; nothing has changed."""


class DeviceSplit:
    """One split on the device: inputs (N, L) or (N, 2, L) in their type, lengths, labels."""

    def __init__(self, split: Split, device: str) -> None:
        self.inputs = torch.from_numpy(split.inputs).to(device)
        self.lengths = torch.from_numpy(split.lengths).to(device)
        self.labels = torch.from_numpy(split.labels).to(device)

    def __len__(self) -> int:
        return len(self.labels)


class Engine:
    """Trains and scores one network on one data set.

    Attributes:
        network: the network, on the device.
        step: optimisation steps done.
        parts: a batch is worked through in so many equal parts, whose gradients are added: the
            same step (but for rounding and dropout's draws) in less memory.
        kind: what a result row calls this engine.
    """

    kind = "eager"
    chunk = 1  # steps that one call of train() is best given

    def __init__(
        self, network: Network, dataset: Dataset, training: Training, device: Device, parts: int = 1
    ) -> None:
        if parts < 1 or training.batch % parts:
            raise MemnbError(
                f"A batch of {training.batch} cannot be split into {parts} equal parts; choose "
                "--accumulate from the divisors of the batch."
            )
        self.device, self.training, self.parts = device, training, parts
        self.network = network.to(device.kind)
        self.train_split = DeviceSplit(dataset.train, device.kind)
        self.validation = DeviceSplit(dataset.validation, device.kind)
        self.test = DeviceSplit(dataset.test, device.kind)
        self.optimizer = self._make_optimizer()
        self.step = 0
        # Sums since the last report, on the device: reading them back would stall it.
        self._sums = torch.zeros(2, dtype=torch.float64, device=device.kind)
        self._summed = 0
        self._prepare()

    def _prepare(self) -> None:
        """What a faster engine does before its first step."""

    def _make_optimizer(self, **settings: Any) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=self.training.weight_decay,
            fused=True,
            **{"lr": learning_rate(1, self.training.lr, self.training.warmup), **settings},
        )

    def train(self, batches: Tensor) -> None:
        """One optimisation step per row of example numbers, int64 (steps, batch)."""
        self.network.train()
        for rows in batches.to(self.device.kind):
            self._train_step(rows)
            self.step += 1
        self._summed += batches.numel()

    def _train_step(self, rows: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step + 1, self.training.lr, self.training.warmup)
        self.optimizer.zero_grad(set_to_none=True)
        self._accumulate(rows, self.network)
        self.optimizer.step()

    def _accumulate(self, rows: Tensor, network: Callable[..., Tensor]) -> None:
        """Gradients and running sums of a batch; ``network`` may be a compiled form of it."""
        split = self.train_split
        for part in rows.chunk(self.parts):
            labels = split.labels[part]
            with self._autocast():
                scores = network(split.inputs[part], split.lengths[part])
            loss = functional.cross_entropy(scores.float(), labels)
            (loss / self.parts).backward()
            correct = (scores.detach().argmax(-1) == labels).sum()
            self._sums += torch.stack([loss.detach().double() * len(part), correct.double()])

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return learning_rate(max(self.step, 1), self.training.lr, self.training.warmup)

    def wait(self) -> None:
        """Return when all steps asked for are done."""
        if self.device.kind == "cuda":
            torch.cuda.synchronize()

    def report(self) -> tuple[float, float]:
        """Mean training loss and accuracy since the last report, and start anew."""
        loss, correct = (self._sums / max(self._summed, 1)).tolist()
        self._sums.zero_()
        self._summed = 0
        return loss, correct

    @torch.no_grad()
    def evaluate(self, split: DeviceSplit, should_stop: Stop = never) -> tuple[float, float]:
        """Mean loss and accuracy on a split.

        Raises:
            Interrupted: ``should_stop`` said so between two batches.
        """
        self.network.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device.kind)
        positions = split.inputs[0].numel()
        batch = max(1, POSITIONS[self.device.kind] // positions)
        for start in range(0, len(split), batch):
            if should_stop():
                raise Interrupted
            part = slice(start, start + batch)
            labels = split.labels[part]
            with self._autocast():
                scores = self.network(split.inputs[part], split.lengths[part])
            loss_of_part = functional.cross_entropy(scores.float(), labels, reduction="sum")
            correct = (scores.argmax(-1) == labels).sum()
            sums += torch.stack([loss_of_part.double(), correct.double()])
        loss, accuracy = (sums / len(split)).tolist()
        return loss, accuracy

    def evaluate_eagerly(
        self, split: DeviceSplit, should_stop: Stop = never
    ) -> tuple[float, float]:
        """As :meth:`evaluate`, without anything compiled: for a network that is being changed."""
        return Engine.evaluate(self, split, should_stop)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, on the CPU."""
        cuda = self.device.kind == "cuda"
        return {
            "step": self.step,
            "network": _copy_to_cpu(self.network.state_dict()),
            "optimizer": _copy_to_cpu(self.optimizer.state_dict()),
            "sums": self._sums.cpu().clone(),
            "summed": self._summed,
            "rng_cpu": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state() if cuda else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where :meth:`state` was taken."""
        self.step, self._summed = state["step"], state["summed"]
        self.network.load_state_dict(state["network"])
        self._restore_optimizer(state["optimizer"])
        self._sums.copy_(state["sums"])
        torch.set_rng_state(state["rng_cpu"])
        if state["rng_cuda"] is not None and self.device.kind == "cuda":
            torch.cuda.set_rng_state(state["rng_cuda"])

    def _restore_optimizer(self, saved: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(saved)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.device.precision == "bf16":
            return torch.autocast(self.device.kind, torch.bfloat16)
        return nullcontext()


def _copy_to_cpu(value: Any) -> Any:
    """A deep copy with every tensor on the CPU, sharing nothing with the original."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy_to_cpu(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy_to_cpu(part) for part in value)
    return value
