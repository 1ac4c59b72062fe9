"""memnb: a rerunnable study of shared memory in Transformers (arXiv 2404.00798).

``import memnb`` is cheap: PyTorch is loaded only when a model is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memnb.config import Own, find_own_data_with, list_models, list_tasks

__version__ = "0.1.0"

__all__ = ["__version__", "build_model", "list_models", "list_tasks"]

if TYPE_CHECKING:
    from memnb.models.network import build_model


def __getattr__(name: str) -> Any:
    # Lazy, so that drawing stored results never pays for importing torch.
    if name == "build_model":
        from memnb.models.network import build_model

        return build_model
    raise AttributeError(f"module 'memnb' has no attribute {name!r}")


def __dir__() -> list[str]:
    # What is lazy is completed in a notebook, too.
    return sorted({*globals(), *__all__})


def _names_of_own_data() -> list[str]:
    from memnb.tasks import own

    return own.names()


def _find_own_data(name: str) -> Own:
    from memnb.tasks import own

    return own.definition(name)


# What data of one's own are stands in the data cache, which the configs know nothing of.
find_own_data_with(_names_of_own_data, _find_own_data)
