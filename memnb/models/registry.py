"""From the kind of a model to its blocks, those of your own included.

    from memnb.models.registry import register

    @register("mymemory")
    class MyMemory(nn.Module):
        def __init__(self, model):              # a memnb.config.Model: width, heads, memory, ...
            ...
        def forward(self, x, memory, mask):     # (B, L, H), (B, M, H), (B, L) or None
            ...
            return x, memory                    # of the same shapes

Then ``mymemory-16`` is a model like all others: it is trained, measured, timed and drawn by name.
``mask`` is True at tokens, False at padding, and None where the reading asks for no mask. Without a
memory size in the name (``mymemory``) the memory is None. The block may return a third tensor,
(B, M', H): the rows that it wrote, which the probes then measure; else they measure the memory.
With ``model.chunk`` set, it is given one chunk after the other, and its memory goes from chunk to
chunk.

The causal tests change the rows between writing and reading, or hide some of them. They ask a block
that lets them::

    edit_packed = keep_rows = None              # in the class
    ...
    if self.edit_packed is not None:            # in forward, before anything reads packed
        packed = self.edit_packed(packed)       # (B, M', H) -> (B, M', H)
    if self.keep_rows is not None:              # (B, M) or (M,): True at the rows that may be read
        scores = scores.masked_fill(~self.keep_rows[..., None, :], -math.inf)

The variable MEMNB_BLOCKS (``mymemory=my_memory.py``) makes a block in a file known to every command
and to what that starts. A package offers its blocks by an entry point in the group
``memnb.models``, whose name is the name of the model. ``memnb verify-block`` says whether a
block keeps what the others promise.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memnb import config
from memnb.config import Model
from memnb.errors import MemnbError, unknown
from memnb.models.baselines import (
    LinformerBlock,
    LocalConvBlock,
    MemorylessBlock,
    PerceiverBlock,
)
from memnb.models.blocks import SharedMemoryBlock, Trace, TransformerBlock
from memnb.models.chunks import ChunkMemoryBlock, RecurrentMemoryBlock
from memnb.models.out_of_memory import out_of_memory

Factory = Callable[[Model], nn.Module]
Block = TypeVar("Block", bound=Factory)

_BUILT_IN: dict[str, Factory] = {
    "transformer": TransformerBlock,
    "luna": SharedMemoryBlock,
    "convluna": SharedMemoryBlock,
    "chunkmem": ChunkMemoryBlock,
    "rmt": RecurrentMemoryBlock,
    "perceiver": PerceiverBlock,
    "localconv": LocalConvBlock,
    "memoryless": MemorylessBlock,
}
_OWN: dict[str, Factory] = {}


def register(name: str) -> Callable[[Block], Block]:
    """Decorator: the class (or function) that makes the blocks of the model ``name``.

    Registering a name a second time replaces the block, so that a notebook cell may be run again.

    Raises:
        MemnbError: memnb has a model of this name, or it is no word of small letters and digits.
    """
    config.add_family(name)

    def keep(make: Block) -> Block:
        _OWN[name] = make
        return make

    return keep


def register_file(path: Path) -> list[str]:
    """Run a Python file; the names of the blocks that it registers.

    Raises:
        MemnbError: the file cannot be run, or registers none.
    """
    before = dict(_OWN)
    # Not under its own name alone: a file called random.py would stand in for Python's.
    spec = importlib.util.spec_from_file_location(f"memnb_own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look a class up by its module
    try:
        spec.loader.exec_module(module)
    except MemnbError:
        raise
    except (Exception, SystemExit) as error:
        raise MemnbError(
            f"{path} could not be run ({type(error).__name__}: {error}); mend it first."
        ) from error
    found = [name for name, make in _OWN.items() if before.get(name) is not make]
    if not found:
        raise MemnbError(
            f"{path} registers no block; put @register('name') from memnb.models.registry above "
            "its class."
        )
    return found


def make_block(model: Model, positions: int) -> nn.Module:
    """One block of ``model``, for sequences of up to ``positions`` vectors, CLS included.

    Raises:
        MemnbError: nobody has registered this kind, or its block could not be made, or not whole.
    """
    if model.kind == "linformer":
        return LinformerBlock(model, positions)
    if model.kind in _BUILT_IN:
        return _BUILT_IN[model.kind](model)
    make = own_block(model.kind)
    try:
        block = make(model)
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            raise
        raise MemnbError(
            f"The block '{model.kind}' could not be made from its config, but raised "
            f"{raised(error)}; it is called with one argument, the model."
        ) from error
    if not isinstance(block, nn.Module):
        raise MemnbError(
            f"The block '{model.kind}' must be a torch.nn.Module, but is a "
            f"{type(block).__name__}; let what you register make one."
        )
    for name, value in (*block.named_parameters(), *block.named_buffers()):
        if is_lazy(value):
            raise MemnbError(
                f"The block '{model.kind}' must have all its parameters before its first call, but "
                f"'{name}' has no size yet; give it one, as in nn.Linear(model.width, model.width) "
                "in place of nn.LazyLinear(model.width)."
            )
    return OwnBlock(model, block)


def own_block(name: str) -> Factory:
    """What makes the blocks that were registered as ``name``, or that MEMNB_BLOCKS or an entry
    point offers under it.

    Raises:
        MemnbError: there is none, or it could not be imported.
    """
    if name in _OWN:
        return _OWN[name]
    if (file := config.block_files().get(name)) is not None:
        found = register_file(file)
        if name not in _OWN:
            raise MemnbError(
                f"{config.BLOCKS} says that the block '{name}' stands in {file}, but that "
                f"registers {' and '.join(found)}; correct the name."
            )
        return _OWN[name]
    for point in entry_points(group=config.ENTRY_POINTS):
        if point.name == name:
            try:
                made = point.load()
            except (Exception, SystemExit) as error:
                raise MemnbError(
                    f"The block '{name}' ({point.value}) could not be imported "
                    f"({type(error).__name__}: {error}); mend or remove its package."
                ) from error
            _OWN.setdefault(name, made)
            return _OWN[name]
    how = (
        f"name its file ({config.BLOCKS}={name}=my_memory.py), run that in this process first, or "
        f"offer it by an entry point in the group {config.ENTRY_POINTS}"
    )
    # Only what is nearly the same: a block of one's own is likelier to be missing than misspelt.
    known = [*config.BUILT_IN, *config.own_families()]
    raise unknown("block", name, known, otherwise=how, cutoff=0.7)


def fingerprint(name: str) -> str | None:
    """What tells one version of a user's block from another: 12 hex digits of its source.

    Of a block in a file the whole file counts, since what it calls may stand beside it; of one in a
    notebook its own functions. None for memnb's own models, whose version is memnb's, and where
    there is no source to be had.

    Raises:
        MemnbError: as :func:`own_block`.
    """
    if name in config.BUILT_IN:
        return None
    make = own_block(name)
    parts = vars(make).values() if inspect.isclass(make) else [make]
    functions = [part for part in parts if inspect.isfunction(part)]
    if not functions:
        return None
    # Not the module that Python knows by this name: that may be another file's by now.
    file = Path(functions[0].__code__.co_filename)
    try:
        if file.is_file():
            text = file.read_text(encoding="utf-8")
        else:  # a cell
            text = "".join(inspect.getsource(function) for function in functions)
    except (OSError, TypeError, UnicodeDecodeError):
        return None
    called = getattr(make, "__qualname__", "")  # a file may hold several
    return hashlib.sha256(f"{called}\n{text}".encode()).hexdigest()[:12]


def raised(error: BaseException) -> str:
    """What a user's code raised, and where: ``ValueError: no such row (mine.py, line 18)``."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # The first line of PyTorch's longer messages may do no more than announce the second.
    text = " ".join(lines[:2] if lines[0].endswith(":") else lines[:1]).rstrip(".")
    what = type(error).__name__ + (f": {text}" if text else "")
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if _is_theirs(frame.f_code.co_filename):
            return f"{what} ({Path(frame.f_code.co_filename).name}, line {line})"
    return what


_MEMNB, _TORCH = Path(__file__).parents[1], Path(torch.__file__).parent
_STANDARD = Path(traceback.__file__).parent


def _is_theirs(file: str) -> bool:
    """Whether a line of this file is the user's, not memnb's, PyTorch's or Python's own."""
    path = Path(file)
    standard = path.is_relative_to(_STANDARD) and "site-packages" not in path.parts
    ours = path.is_relative_to(_MEMNB) or path.is_relative_to(_TORCH)
    return not (standard or ours or file.startswith("<frozen"))


class OwnBlock(nn.Module):
    """A block of a user's in the place of one of memnb's: its call and its answer, checked."""

    def __init__(self, model: Model, block: nn.Module) -> None:
        super().__init__()
        self.name, self.block = model.kind, block

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As memnb's own blocks.

        Raises:
            MemnbError: the block raised an exception, or returned something else than x and memory
                in their shapes.
        """
        # What a compiler or a capture cannot take is for the engine, which then does without it.
        captured = x.is_cuda and torch.cuda.is_current_stream_capturing()
        if torch.compiler.is_compiling() or captured:
            answer = self.block(x, memory, mask)
        else:
            answer = self._called(x, memory, mask)
        after, carried, packed = self._checked(answer, x, memory)
        if trace is not None and carried is not None:
            trace.append(Trace(carried if packed is None else packed, carried, None, None))
        return after[:, :rows], carried

    def _called(self, x: Tensor, memory: Tensor | None, mask: Tensor | None) -> Any:
        try:
            return self.block(x, memory, mask)
        except MemnbError:
            raise
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            if out_of_memory(error):
                raise
            sized = (
                f", or give the model's name a memory size, as in '{self.name}-16', without which "
                "memory is None"
            )
            raise MemnbError(
                f"The block '{self.name}' raised {raised(error)}; mend it"
                f"{sized if memory is None else ''}."
            ) from error

    def _checked(
        self, answer: Any, x: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if not isinstance(answer, tuple) or len(answer) not in (2, 3):
            got = type(answer).__name__
            got = f"{got} of {len(answer)}" if isinstance(answer, tuple | list) else got
            raise MemnbError(
                f"The block '{self.name}' must return (x, memory) or (x, memory, packed), but "
                f"returned a {got}; see memnb.models.registry."
            )
        after, carried, *rest = answer
        for part, value, expected in (("x", after, x), ("memory", carried, memory)):
            got, wanted = _shape(value), _shape(expected)
            if got != wanted:
                raise MemnbError(
                    f"The block '{self.name}' was given {part} of shape {wanted} and must return "
                    f"it in the same shape, but returned {got}."
                )
        packed = rest[0] if rest else None
        if packed is not None and (
            not isinstance(packed, Tensor)
            or packed.dim() != 3
            or (packed.shape[0], packed.shape[2]) != (x.shape[0], x.shape[2])
        ):
            raise MemnbError(
                f"The block '{self.name}' must return packed rows of shape (B, rows, H) = "
                f"({x.shape[0]}, rows, {x.shape[2]}), but returned {_shape(packed)}."
            )
        return after, carried, packed


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
