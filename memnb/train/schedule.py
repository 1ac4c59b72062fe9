"""The learning rate over training."""

from __future__ import annotations

import math


def learning_rate(step: int, base: float, warmup: int) -> float:
    """lr(t) = base * min(1, t / W) / sqrt(max(t, W)), for step t from 1 (the authors' code).

    It rises linearly to base / sqrt(W) at t = W and falls as 1 / sqrt(t) after.
    """
    return base * min(1.0, step / warmup) / math.sqrt(max(step, warmup))
