"""memnb: a rerunnable study of shared memory in Transformers (arXiv 2404.00798).

``import memnb`` is cheap: PyTorch is loaded only when a model is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["__version__", "build_model", "list_models", "list_tasks"]

if TYPE_CHECKING:
    from memnb.config import list_models, list_tasks
    from memnb.models.network import build_model


def __getattr__(name: str) -> Any:
    # Lazy, so that drawing stored results never pays for importing torch.
    if name == "build_model":
        from memnb.models.network import build_model

        return build_model
    if name in ("list_models", "list_tasks"):
        from memnb import config

        return getattr(config, name)
    raise AttributeError(f"module 'memnb' has no attribute {name!r}")


def __dir__() -> list[str]:
    # What is lazy is completed in a notebook, too.
    return sorted({*globals(), *__all__})
