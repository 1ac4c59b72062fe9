"""Which parts of the input an answer depends on, by gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from memnb.models.network import Network, evaluating


def attribution(
    network: Network, inputs: Tensor, length: Tensor, answer: int | None = None
) -> Tensor:
    """Gradient times input: how much each position speaks for an answer, to first order.

    The score of the answer, less the mean score of the other classes, is differentiated by the
    embedded input; each position's gradient is multiplied with its own embedding.

    Args:
        network: any model.
        inputs: (L,), or (2, L) for a pair, of which the first document is looked at.
        length: () or (2,) true length.
        answer: the class to speak for; the network's own answer if not given.

    Returns:
        (L,) float32; positive where the position speaks for the answer.
    """
    embedded: list[Tensor] = []  # in one piece, or chunk after chunk

    def keep(module: torch.nn.Module, given: object, vectors: Tensor) -> Tensor:
        embedded.append(vectors.detach().requires_grad_())
        return embedded[-1]

    handle = network.encoder.embedding.register_forward_hook(keep)
    try:
        with evaluating(network), torch.enable_grad():
            scores = network(inputs[None], length[None])[0]
            chosen = int(scores.argmax()) if answer is None else answer
            others = (scores.sum() - scores[chosen]) / max(len(scores) - 1, 1)
            lead = scores[chosen] - others
            gradients = torch.autograd.grad(lead, embedded, materialize_grads=True)
    finally:
        handle.remove()
    pieces = zip(gradients, embedded, strict=True)
    shares = [(gradient[0] * piece[0].detach()).sum(dim=-1) for gradient, piece in pieces]
    found = torch.cat(shares).float().cpu()
    assert found.shape == inputs.shape[-1:], "every position is embedded once, in its order"
    return found
