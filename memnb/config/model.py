"""A model: which blocks, of which size, with which options."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from memnb.config.base import Config, Fraction, Natural, Positive

Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
Representation = Literal["cls", "mean", "memory"]
Reading = Literal["as_coded", "as_intended"]
Sharing = Literal["full", "qk", "none"]
Filter = Literal["conv", "pool", "none"]
FilterKernel = Literal["learned", "smooth", "difference", "random", "shuffled"]
Temperature = Literal["unit", "sqrt", "learn"]
Positions = Literal["learned", "none"]

#: What a kind of block has. Kinds that are not here are blocks of your own.
WITHOUT_MEMORY = ("transformer", "localconv", "memoryless")
CHUNKED = ("chunkmem", "rmt")
_FILTERED = ("convluna", *CHUNKED, "localconv", "memoryless")
_ALWAYS_FILTERED = ("localconv", "memoryless")
BUILT_IN = ("transformer", "luna", "convluna", *CHUNKED, "perceiver", "linformer", "localconv",
            "memoryless")  # fmt: skip
#: The official Luna (arXiv 2106.01540), where it differs from the authors' Luna.
OFFICIAL_LUNA: dict[str, Any] = {"sharing": "none", "memory_init": "luna", "pack_output": False}


class Model(Config):
    """One model: those of the paper's section 2, those it is compared with, or one of your own.

    ``kind`` says which blocks: :data:`BUILT_IN`, or a name given to a block of your own
    (:mod:`memnb.models.registry`). Shape: ``blocks`` blocks of width H = ``width``, n = ``heads``
    heads, feed-forward width ``mlp``, and ``memory`` = M rows of memory (0 for none).

    ``reading`` keeps two readings of the authors' code apart: ``as_coded`` (padding is not masked
    and ConvLuna's unpack temperature stays 1) and ``as_intended`` (padding is masked, the unpack
    temperature is honoured).

    ``chunk`` is the number of positions that are worked through at a time, the memory carrying on
    from one chunk to the next (0: the whole sequence at once); ``chunk_gradients`` the number of
    chunks, counted from the last one, through which gradients flow (0: all).

    ``positions``: a learned vector per absolute position, zero before training, is added to each
    token; a position that no training sequence reaches keeps its zero. ``none`` adds nothing.

    ``cls_init``: the CLS vector starts as N(0, 1), as tokens and memory do, or within
    ±√(3 / H) (``xavier``), as in the other versions of the authors' code that could be read.
    """

    kind: Kind
    blocks: Positive
    width: Positive
    heads: Positive
    mlp: Positive
    dropout: Fraction = 0.1
    memory: Natural = 0
    representation: Representation = "cls"
    reading: Reading = "as_coded"
    positions: Positions = "learned"
    cls_init: Literal["normal", "xavier"] = "normal"
    # Luna, and ConvLuna's full variant; memory_init of every memory that is learned
    sharing: Sharing = "full"
    memory_init: Literal["normal", "luna"] = "normal"
    pack_output: bool = True
    # ConvLuna; the filter and pack's temperature also of kinds like it (_check_use says which)
    variant: Literal["simplified", "full"] = "simplified"
    filter: Filter = "none"
    filter_width: Positive = 4
    filter_stride: Positive = 1
    filter_kernel: FilterKernel = "learned"
    pack_temperature: Temperature = "sqrt"
    unpack_temperature: Temperature = "sqrt"
    # Memory between chunks
    chunk: Natural = 0
    chunk_gradients: Natural = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"The width must be a multiple of the number of heads, but got width={self.width} "
                f"and heads={self.heads}; change one of them."
            )
        self._check_memory()
        self._check_chunks()
        if self.kind in BUILT_IN:
            self._check_use()
        self._check_kernel()
        if self.cls_init != "normal" and self.representation != "cls":
            raise ValueError(
                f"cls_init='{self.cls_init}' means something with representation='cls' only, but "
                f"got '{self.representation}'; leave it out."
            )
        return self

    def _check_memory(self) -> None:
        if self.kind in WITHOUT_MEMORY and self.memory:
            name = "The Transformer" if self.kind == "transformer" else f"The model {self.kind}"
            raise ValueError(
                f"{name} has no memory, but got memory={self.memory}; set it to 0 "
                "or choose another model."
            )
        if self.kind in BUILT_IN and self.kind not in WITHOUT_MEMORY and self.memory < 1:
            raise ValueError(
                f"{self.kind} needs at least one memory row, but got memory={self.memory}; "
                "set memory to 1 or more."
            )
        if self.representation == "memory" and (not self.memory or self.kind == "linformer"):
            raise ValueError(
                "representation='memory' needs a model with a memory; this one "
                f"({self.name}) takes 'cls' or 'mean'."
            )
        if self.kind == "perceiver" and self.representation != "memory":
            raise ValueError(
                "Only the memory of a Perceiver has read the sequence, which stays as it was "
                f"embedded, but got representation='{self.representation}'; leave it at 'memory'."
            )

    def _check_chunks(self) -> None:
        if self.kind in CHUNKED and not self.chunk:
            raise ValueError(
                f"{self.kind} carries its memory from chunk to chunk, but got chunk=0; set chunk "
                "to the number of positions in a chunk."
            )
        if self.chunk and self.kind in BUILT_IN and self.kind not in CHUNKED:
            raise ValueError(
                f"{self.kind} takes the whole sequence at once, but got chunk={self.chunk}; "
                f"choose {' or '.join(CHUNKED)}, or leave chunk at 0."
            )
        if self.chunk_gradients and not self.chunk:
            raise ValueError(
                f"chunk_gradients={self.chunk_gradients} needs a model that works in chunks; set "
                "chunk as well, or leave chunk_gradients at 0."
            )

    def _check_kernel(self) -> None:
        if self.filter_kernel != "learned" and self.filter != "conv":
            raise ValueError(
                f"filter_kernel='{self.filter_kernel}' says what a convolution does, but got "
                f"filter='{self.filter}'; set filter='conv' or leave filter_kernel alone."
            )
        if self.filter_kernel == "difference" and self.filter_width < 2:
            raise ValueError(
                "A difference needs two taps, but got filter_width=1; raise filter_width."
            )

    def _check_use(self) -> None:
        """Refuse settings that are not the model's: most would change nothing but a run's id."""
        convluna = self.kind == "convluna"
        projects = self.kind == "luna" or (convluna and self.variant == "full")
        filtered = "models with a filter (filter='conv' or 'pool', here 'none')"
        luna = "Luna and of ConvLuna's full variant (variant='full')"
        used = {
            "variant": (convluna, "ConvLuna"),
            "sharing": (projects, luna),
            "pack_output": (projects, luna),
            "memory_init": (self.has_memory_stream, "models whose memory is learned"),
            "unpack_temperature": (convluna, "ConvLuna"),
            "pack_temperature": (convluna or self.kind == "chunkmem", "ConvLuna and ChunkMem"),
            "filter": (self.kind in _FILTERED, "ConvLuna and models like it"),
            "filter_width": (self.filter != "none", filtered),
            "filter_stride": (self.filter != "none", filtered),
        }
        for key, (read, whose) in used.items():
            value = getattr(self, key)
            if not read and value != Model.model_fields[key].default:
                raise ValueError(
                    f"{key}={value!r} is a setting of {whose}, but the model is {self.name}; "
                    f"leave {key} alone."
                )
        if convluna and self.reading == "as_coded" and self.unpack_temperature != "learn":
            raise ValueError(
                "As coded, the option of the unpack temperature never arrives, and T stays 1, but "
                f"got unpack_temperature='{self.unpack_temperature}'; set reading='as_intended' as "
                "well, or leave it at 'learn'."
            )
        if self.kind in _ALWAYS_FILTERED and (self.filter != "conv" or self.filter_stride != 1):
            raise ValueError(
                f"{self.kind} is a convolution that keeps the length (filter='conv', "
                f"filter_stride=1), but got filter='{self.filter}' and "
                f"filter_stride={self.filter_stride}; leave both alone."
            )

    @property
    def family(self) -> str:
        """The name without the memory size: one colour in every figure."""
        if self.kind == "convluna" and self.filter == "pool":
            return "poolluna"
        if self.kind in CHUNKED and self.filter != "none":
            return f"{self.filter}{self.kind}"
        if self.kind == "luna" and all(getattr(self, k) == v for k, v in OFFICIAL_LUNA.items()):
            return "officialluna"
        return self.kind

    @property
    def name(self) -> str:
        """The short name, such as ``convluna-16``."""
        return f"{self.family}-{self.memory}" if self.memory else self.family

    @property
    def has_memory_stream(self) -> bool:
        """Whether memory rows go through the blocks (Linformer's are made anew in each)."""
        return self.memory > 0 and self.kind != "linformer"

    @property
    def unpack_temperature_used(self) -> Temperature:
        """The unpack temperature after the reading is applied (as coded, ConvLuna's is frozen)."""
        if self.kind == "convluna" and self.reading == "as_coded":
            return "unit"
        return self.unpack_temperature
