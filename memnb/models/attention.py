"""Attention over heads: the fast path and the written-out maths, side by side.

Shapes: B batch, n heads, Q queries, K keys, d channels of a head, H = n * d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.config import Temperature as TemperatureKind
from memnb.models import flash
from memnb.models.sums import times_columns

# Up to so many keys, on a CPU, two products beat the fused kernel.
FEW_KEYS = 32


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, L, H) -> (B, n, L, d)."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, n, L, d) -> (B, L, H)."""
    batch, heads, length, channels = x.shape
    return x.transpose(1, 2).reshape(batch, length, heads * channels)


def project(x: Tensor, *maps: nn.Linear) -> tuple[Tensor, ...]:
    """Apply several linear maps to the same input in one matrix product.

    (B, L, H) -> one (B, L, H) per map; equal to ``tuple(m(x) for m in maps)``.
    """
    if len(maps) == 1:
        return (maps[0](x),)
    weight = torch.cat([m.weight for m in maps])
    bias = torch.cat([m.bias for m in maps])
    return functional.linear(x, weight, bias).split([m.out_features for m in maps], dim=-1)


def absorbed_logits(x: Tensor, rows: Tensor, linear: nn.Linear) -> Tensor:
    """Products of a few rows (B, n, M, d) with the mapped sequence, without mapping the sequence.

    (x W + b) r = x (W r) + b r: (B, L, H), (B, n, M, d) -> (B, L, n * M), equal to
    ``split_heads(linear(x), n) @ rows.mT`` with heads and rows side by side.
    """
    _, heads, _, channels = rows.shape
    weight = linear.weight.view(heads, channels, -1)
    columns = torch.einsum("bnmd,ndh->bnmh", rows, weight).flatten(1, 2)
    constant = torch.einsum("bnmd,nd->bnm", rows, linear.bias.view(heads, channels)).flatten(1)
    return times_columns(x, columns) + constant[:, None]


class Temperature(nn.Module):
    """The divisor T of attention logits, T = exp(log_temp).

    ``unit``: T = 1, frozen; ``sqrt``: T = sqrt(d), frozen; ``learn``: starts at 1 and is trained,
    with weight decay like every other parameter. ``log_temp`` is a scalar parameter in all three,
    as in the authors' code.
    """

    def __init__(self, kind: TemperatureKind, head_width: int) -> None:
        super().__init__()
        self._frozen = {"unit": 1.0, "sqrt": math.sqrt(head_width), "learn": None}[kind]
        start = math.log(self._frozen) if self._frozen else 0.0
        self.log_temp = nn.Parameter(torch.tensor(start), requires_grad=kind == "learn")

    def forward(self) -> float | Tensor:
        """T: a number where it is frozen (it then costs nothing), else a scalar tensor."""
        return self.log_temp.exp() if self._frozen is None else self._frozen


def as_key_mask(keep: Tensor | None) -> Tensor | None:
    """Positions or memory rows that may be read, (K,) or (B, K), as a mask (1 or B, 1, 1, K) for
    :func:`attend`.

    None, which keeps all of them, stays None.
    """
    return None if keep is None else keep.view(-1, 1, 1, keep.shape[-1])


def attention_weights(
    query: Tensor, key: Tensor, temperature: float | Tensor, mask: Tensor | None = None
) -> Tensor:
    """softmax(q k^T / T) written out: (B, n, Q, d), (B, n, K, d) -> (B, n, Q, K).

    ``mask`` is True where a key may be read, broadcastable to (B, n, Q, K).
    """
    logits = (query / temperature) @ key.transpose(-2, -1)
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return logits.softmax(dim=-1)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    temperature: float | Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T / T) v by fused kernels: (B, n, Q, d).

    Equal to ``attention_weights(query, key, temperature, mask) @ value``; ``dropout`` acts on the
    weights. ``mask`` is True where a key may be read, broadcastable to (B, 1, 1, K).
    """
    if not query.is_cuda and key.shape[-2] <= FEW_KEYS:
        weights = attention_weights(query, key, temperature, mask)
        return functional.dropout(weights, dropout) @ value
    if isinstance(temperature, Tensor):  # the fused kernels take a plain number only
        query, scale = query / temperature.to(query.dtype), 1.0
    else:
        scale = 1.0 / temperature
    if flash.why_not(query) is None:
        return flash.attention(query, key, value, scale, mask, dropout)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
    )


def attend_shown(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    temperature: float | Tensor,
    mask: Tensor | None,
    dropout: float,
    shown: bool,
) -> tuple[Tensor, Tensor | None]:
    """As :func:`attend`; where it is to be ``shown``, written out, without dropout, and with the
    weights (B, n, Q, K) beside what was read."""
    if not shown:
        return attend(query, key, value, temperature, mask, dropout), None
    weights = attention_weights(query, key, temperature, mask)
    return weights @ value, weights
