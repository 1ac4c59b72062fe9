"""What is compiled computes what the plain code computes, gradients included. Needs no GPU.

The tests that compare whole trainings stand in test_cuda.py; these look at the front end of
PyTorch's compiler, which decides what is computed, and at what it is known to get wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from memnb.config import Run, run_config
from memnb.models.filters import ConvFilter, PoolFilter
from memnb.models.network import Network
from memnb.train import cuda_graph
from memnb.train.cuda_graph import changed_by_compiling

pytestmark = pytest.mark.filterwarnings("default")  # compilers warn of their own parts


def network(model: str, task: str = "text") -> Network:
    run: Run = run_config(model, task)
    return Network(run.model, run.task)


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("transformer", "text"),
        ("luna-16", "text"),
        ("convluna-1", "text"),
        ("convluna-16", "image"),
        ("convluna-256", "text"),
        ("poolluna-16", "retrieval"),
        ("convchunkmem-16", "text"),
        ("convrmt-16", "text"),
        ("localconv", "text"),
        ("memoryless", "text"),
    ],
)
def test_compiled_models_have_the_gradients_of_the_plain_ones(model: str, task: str) -> None:
    large = network(model, task)
    state = torch.get_rng_state()
    assert changed_by_compiling(large) is None
    assert torch.equal(torch.get_rng_state(), state), "a run draws the same with and without"


@pytest.mark.parametrize("model", ["convluna-16", "convchunkmem-16", "memoryless"])
def test_a_compiler_that_loses_a_gradient_is_found_out(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_filter(network: Network, backend: str) -> Callable[..., Tensor]:
        frozen = {
            name: part.detach() for name, part in network.named_parameters() if "filter" in name
        }
        assert frozen
        return lambda *given: torch.func.functional_call(network, frozen, given)

    monkeypatch.setattr(cuda_graph, "compiled", without_filter)
    fault = changed_by_compiling(network(model))
    assert fault is not None
    assert "filter.weight of the compiled model is off by 100%" in fault


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("kind", ["conv", "pool"])
def test_compiled_filters_change_nothing_in_place(
    kind: str, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch 2.11 returns zero gradients for an autograd function whose result was changed in
    place (pytorch/pytorch#180642), and nobody says so."""
    torch.manual_seed(0)
    found = ConvFilter(4, 4, stride) if kind == "conv" else PoolFilter(4, stride)
    act = found.convolve if isinstance(found, ConvFilter) else found.pool
    x = torch.randn(2, 20, 16, requires_grad=True)
    plain = act(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = act(x)
    assert compiled._version == 0
    assert torch.equal(compiled, plain)
