"""Run folders to tidy rows. Files are read only; PyTorch is never needed.

A run folder is ``<somewhere>/runs/<run_id>/`` as the trainer leaves it, or the copy of its results
in ``data/results/<run_id>/`` (:mod:`memnb.evidence.results`). What cannot be read is left out of
the rows and named, one sentence each, in ``frame.attrs["problems"]``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memnb.config import (
    BESIDE,
    DEMONSTRATION,
    EXTRA_TASKS,
    LONGER_TASKS,
    Model,
    Own,
    Run,
    standard_model,
)
from memnb.errors import OUT_OF_MEMORY, DataError, MemnbError
from memnb.evidence import known_data, levels

RESULT_FILES = (
    "run.json", "metrics.jsonl", "probes.jsonl", "filters.jsonl", "removal.jsonl", "causal.jsonl",
    "usage.jsonl", "lengths.jsonl", "beginning.jsonl", "attention.npz",
)  # fmt: skip

#: Columns that say which run a row of a long frame belongs to.
KEYS = ("run_id", "task", "model", "family", "memory", "seed", "preset", "changes")

# The columns of each file: those that every line holds, and further ones. A newer trainer may write
# more, and they are kept. All counts are required: a column of whole numbers has no place for one
# that is missing.
_FILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "metrics.jsonl": (("step", "split", "loss", "accuracy"), ("lr", "seconds")),
    "probes.jsonl": (
        ("step", "block"),
        ("packed_cosine", "packed_rank", "memory_cosine", "memory_rank", "pack_entropy",
         "unpack_entropy", "dominant_rows", "packed_gradient", "memory_gradient",
         "gradient_spread"),
    ),
    "filters.jsonl": (("step", "block", "head"), ("pack_temperature", "unpack_temperature")),
    "removal.jsonl": (("rule", "kept", "accuracy"), ("orders",)),
    "causal.jsonl": (("test", "rule", "kept", "examples", "accuracy"), ("changed", "orders")),
    "usage.jsonl": (("block", "row", "usage"), ("gradient",)),
    "lengths.jsonl": (("low", "high", "examples", "accuracy"), ()),
    "beginning.jsonl": (("kept", "examples", "accuracy", "changed"), ()),
}  # fmt: skip
# What holds a word, a count or a share (0..1); all else is a number or nothing.
_WORDS = ("split", "rule", "test")
_COUNTS = ("step", "block", "head", "row", "kept", "examples", "low", "high")
_SHARES = ("accuracy", "changed")

#: Outcomes of a run that is not trained any further.
ENDED = ("finished", "failed")

Study = Literal["shared", "chunks", "recall", "longer", "every"]

Accuracy = Annotated[float, Field(ge=0, le=1)]


class Machine(BaseModel):
    """Where and by which code a run was trained from one of its steps on."""

    model_config = ConfigDict(strict=True, extra="ignore")

    from_step: Annotated[int, Field(ge=0)]
    device_name: str | None = None
    precision: str | None = None
    engine: str | None = None
    version: str | None = None
    commit: str | None = None
    torch: str | None = None


class Examined(BaseModel):
    """What a finished run was asked later (``memnb runs examine``)."""

    model_config = ConfigDict(strict=True, extra="ignore")

    files: list[str]
    weights: str
    commit: str | None = None


class Record(BaseModel):
    """``run.json``, as far as the rows need it; accuracies in 0..1, times in seconds, memory in
    bytes. Further keys are allowed, so that a newer trainer may say more."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    format: Literal[1]
    run_id: str
    config: dict[str, Any]
    outcome: Literal["finished", "failed", "running", "interrupted"]
    reason: str | None = None
    stopped: str | None = None
    step: int | None = None
    best_step: int | None = None
    validation_accuracy: Accuracy | None = None
    validation_loss: float | None = None
    test_accuracy: Accuracy | None = None
    test_loss: float | None = None
    parameters: int | None = None
    version: str | None = None
    commit: str | None = None
    data: str | None = None
    torch: str | None = None
    python: str | None = None
    device: str | None = None
    device_name: str | None = None
    precision: str | None = None
    engine: str | None = None
    threads: int | None = None
    side_by_side: int | None = None
    started: str | None = None
    finished: str | None = None
    seconds: float | None = None
    device_seconds: float | None = None
    seconds_training: float | None = None
    seconds_evaluation: float | None = None
    peak_memory: float | None = None
    seconds_saving: float | None = None
    resumed: int = 0
    machines: list[Machine] = []
    examined_again: list[Examined] = []

    def machines_in_turn(self) -> list[Machine]:
        """One at least; of a record from before they were listed, the one that it names."""
        last = {key: getattr(self, key) for key in Machine.model_fields if key != "from_step"}
        return self.machines or [Machine(from_step=0, **last)]


_SCALARS = tuple(
    key
    for key in Record.model_fields
    if key not in ("format", "run_id", "config", "machines", "examined_again")
)
_TEXTS = ("outcome", "reason", "stopped", "version", "commit", "data", "torch", "python", "device",
          "device_name", "precision", "engine", "started", "finished")  # fmt: skip
_NUMBERS = tuple(k for k in _SCALARS if k not in _TEXTS)
_WHOLE = ("memory", "seed", "blocks", "width", "heads", "mlp", "filter_width", "filter_stride",
          "chunk", "chunk_gradients")  # fmt: skip
# ``memory`` is a key already.
_SETTINGS = tuple(k for k in Model.model_fields if k != "memory")
COLUMNS = (*KEYS, *_SCALARS, *_SETTINGS, "devices", "commits", "folder")


# --- one row per run -------------------------------------------------------------------------


def load_runs(*folders: str | os.PathLike[str]) -> pd.DataFrame:
    """One row per run found directly inside ``folders``; a folder that does not exist is empty.

    Columns: those of :data:`KEYS`; the scalars of ``run.json`` (:class:`Record`); every setting of
    :class:`memnb.config.Model`; ``devices`` and ``commits``, tuples of the names of all devices
    that trained the run and of all commits that it was trained at (``device_name`` and ``commit``
    are the last ones, where it was tested); ``folder`` (Path). ``preset`` follows from the config.
    ``changes`` names the model settings that differ from those the model's name stands for on
    its task, such as ``filter=none``; it is empty for a row of the main table. Of data of one's own
    it names those, too, that are others than the run begun last had (:func:`_tell_data_apart`).

    Where one run stands in several folders, :func:`one_of_each` chooses. A row whose ``run_id`` is
    not the hash of its config is left out, like any damaged one, and named in
    ``attrs["problems"]``; so is one of the study that was trained on other data
    (:mod:`memnb.evidence.known_data`).

    Raises:
        DataError: a row of the study names its data, and what the study's are cannot be read.
    """
    read: list[tuple[Path, Record, Run]] = []
    problems: list[str] = []
    for folder in run_folders(folders):
        try:
            read.append((folder, *read_run(folder)))
        except MemnbError as error:
            problems.append(f"{str(error).removesuffix('.')}; left out.")
    others = known_data.other_data([(run, record.data) for _, record, run in read])
    found: list[dict[str, Any]] = []
    for (folder, record, run), other in zip(read, others, strict=True):
        if other:
            problems.append(f"{folder} {other}; left out.")
        else:
            found.append(_row(record, run, folder))
    frame = pd.DataFrame(found, columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys(_NUMBERS, "float64") | dict.fromkeys(_WHOLE, "int64"))
    frame = one_of_each(frame)
    _tell_data_apart(
        frame, {run.run_id: run.task for _, _, run in read if isinstance(run.task, Own)}
    )
    frame.attrs["problems"] = problems
    return frame


def _tell_data_apart(frame: pd.DataFrame, own: Mapping[str, Own]) -> None:
    """Let no two data sets of one name, nor one cut in two ways, be taken for one another.

    Those of the run begun last go by the name alone. Rows on others have among their ``changes``
    what is other, ``data=<digest>`` or ``max_length=...``, so that nobody averages over both.
    """
    there = frame[frame["run_id"].isin(own.keys())]
    for _, rows in there.groupby("task"):
        begun = rows.sort_values("started", kind="stable", na_position="first")
        latest = own[begun["run_id"].iloc[-1]]
        levels.learn(latest)
        for index, row in rows.iterrows():
            task = own[row["run_id"]]
            keys = ("data", "max_length", "vocabulary")
            other = [key for key in keys if getattr(task, key) != getattr(latest, key)]
            if other:
                parts = [row["changes"], f"{other[0]}={getattr(task, other[0])}"]
                frame.loc[index, "changes"] = ", ".join(filter(None, parts))


def one_of_each(runs: pd.DataFrame) -> pd.DataFrame:
    """Of rows of the same run the first one that says how it ends, in place of all.

    A run that has not ended does not say it, and neither does one that ended for want of memory:
    that says something of a machine, and must not hide what another one found out. It is taken
    before one that has not ended, and where there is nothing else.
    """
    ended = runs["outcome"].isin(ENDED)
    for_want_of_memory = runs["reason"].astype(str).str.startswith(OUT_OF_MEMORY)
    rank = np.select([ended & ~for_want_of_memory, ended], [0, 1], 2)
    order = np.argsort(rank, kind="stable")
    kept = runs["run_id"].iloc[order].drop_duplicates().index
    return runs.loc[kept].sort_index().reset_index(drop=True)


def run_folders(folders: Iterable[str | os.PathLike[str]]) -> Iterable[Path]:
    """The run folders directly inside ``folders``, by name; one that does not exist is empty."""
    for folder in map(Path, folders):
        if folder.is_dir():
            # A name that starts with a dot is a copy that commit() has not finished.
            inside = (entry.name for entry in os.scandir(folder) if entry.is_dir())
            yield from (folder / name for name in sorted(inside) if not name.startswith("."))


def read_run(folder: Path) -> tuple[Record, Run]:
    """The content of ``run.json``, checked against the schema and its own hash.

    Raises:
        DataError: it is missing, damaged, or not the record of the run that it names. What follows
            from that (left out, refused) is for the caller to add.
    """
    path = folder / "run.json"
    try:
        record = Record.model_validate(_from_json(path.read_bytes()))
    except FileNotFoundError:
        raise DataError(f"{folder} holds no run.json.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path} is damaged ({where}: {first['msg']}).") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} could not be read ({error}).") from None
    try:
        run = Run.of(record.config)
    except MemnbError as error:
        raise DataError(f"{path} holds a config that is not valid here ({error}).") from None
    if run.run_id != record.run_id:
        raise DataError(f"{path} says run {record.run_id}, but its config is that of {run.run_id}.")
    if record.outcome == "finished" and record.test_accuracy is None:
        raise DataError(f"{path} says finished but holds no test accuracy.")
    return record, run


def _row(record: Record, run: Run, folder: Path) -> dict[str, Any]:
    model = run.model
    return {
        **model.model_dump(),
        **{key: getattr(record, key) for key in _SCALARS},
        "run_id": record.run_id,
        "task": run.task.name,
        "model": model.name,
        "family": model.family,
        "seed": run.seed,
        "preset": run.preset,
        "changes": describe_changes(run),
        "devices": tuple(dict.fromkeys(one.device_name for one in record.machines_in_turn())),
        "commits": tuple(dict.fromkeys(one.commit for one in record.machines_in_turn())),
        "folder": folder,
    }


def describe_changes(run: Run) -> str:
    """The model settings that differ from those of the model's name, as ``a=1, b=2``; or ``""``.

    A ConvLuna without its filter is still called ``convluna-16``; this is what tells it apart.
    """
    standard = standard_model(run.model, run.task).model_dump()
    values = run.model.model_dump()
    return ", ".join(f"{key}={values[key]}" for key in values if values[key] != standard[key])


def of_study(runs: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows that the pages of one study show.

    ``shared``: the paper's models, and blocks of your own, on its tasks. ``chunks``: on the same
    tasks all models, with those of memory between chunks and the controls. ``recall``: all models
    on the recall task. ``longer``: all models on recall of more facts than training showed.
    ``every``: all of them. The block that a page writes as a demonstration is in none of them.
    """
    extra, longer = runs["task"].isin(EXTRA_TASKS), runs["task"].isin(LONGER_TASKS)
    chosen = runs["family"] != DEMONSTRATION
    if study != "every":
        chosen &= {"recall": extra & ~longer, "longer": longer}.get(study, ~extra)
    if study == "shared":
        chosen &= ~runs["family"].isin(BESIDE)
    return runs[chosen].reset_index(drop=True)


# --- many rows per run -----------------------------------------------------------------------


def load_metrics(runs: pd.DataFrame) -> pd.DataFrame:
    """Learning curves: one row per run, step and split.

    Columns: :data:`KEYS`, then step, split (train, validation, test), loss, accuracy (0..1),
    lr (train only), seconds.
    """
    return _long(runs, "metrics.jsonl")


def load_probes(runs: pd.DataFrame) -> pd.DataFrame:
    """Degradation measures: one row per run, step and block (from 1).

    Columns: :data:`KEYS`, then the measures of ``memnb.probes``; cosines and ranks are NaN for
    a memory of one row.
    """
    return _long(runs, "probes.jsonl")


def first_and_last(probes: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of rows of :func:`load_probes`, those of each run's first look and those of its last."""
    steps = probes.groupby("run_id")["step"]
    first, last = (probes[probes["step"] == steps.transform(end)] for end in ("min", "max"))
    return first, last


def looks(probes: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure of rows of :func:`load_probes` at both ends of training, by run id.

    Columns: ``first`` and ``last``, the mean over blocks at the first look and at the last;
    ``deepest_first`` and ``deepest_last``, that of the last block. A run that was looked at once
    has no first look.
    """
    first, last = first_and_last(probes)
    first = first[~first.index.isin(last.index)]

    def deepest(look: pd.DataFrame) -> pd.DataFrame:
        return look[look["block"] == look.groupby("run_id")["block"].transform("max")]

    ends = {
        "first": first, "last": last,
        "deepest_first": deepest(first), "deepest_last": deepest(last),
    }  # fmt: skip
    return pd.DataFrame({name: end.groupby("run_id")[measure].mean() for name, end in ends.items()})


def load_removal(runs: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (0..1) of the best weights with only ``kept`` of the M rows read.

    Columns: :data:`KEYS` (``memory`` is M), then rule, kept, accuracy, and orders: how many random
    orders of removal the examples took in turn; NaN in older runs, which had one for all examples.
    """
    return _long(runs, "removal.jsonl")


def load_causal(runs: pd.DataFrame) -> pd.DataFrame:
    """Causal tests of the best weights, all of a run on the same test examples.

    Columns: :data:`KEYS` (``memory`` is M), then test, rule, kept, examples, accuracy (0..1),
    changed (the share of answers that differ from the intact model's) and orders, as in
    :func:`load_removal`; see :func:`memnb.probes.causal.causal_tests`.
    """
    return _long(runs, "causal.jsonl")


def load_usage(runs: pd.DataFrame) -> pd.DataFrame:
    """How much each memory row of the best weights is read, and how much the loss depends on it.

    Columns: :data:`KEYS`, then block and row (from 1), usage (1 = an even share of the unpack
    weight) and gradient (mean norm of one sample's loss gradient).
    """
    return _long(runs, "usage.jsonl")


def load_lengths(runs: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (0..1) of the best weights by length of the input, shortest fifth first.

    Columns: :data:`KEYS`, then low, high (lengths in tokens), examples, accuracy.
    """
    return _long(runs, "lengths.jsonl")


def load_beginning(runs: pd.DataFrame) -> pd.DataFrame:
    """Answers of the best weights where only the first ``kept`` tokens of an input are its own.

    Columns: :data:`KEYS`, then kept (tokens; the greatest of a run: whole inputs), examples,
    accuracy (0..1) and changed (the share of answers that differ from those to whole inputs); see
    :func:`memnb.probes.answers.answers_by_beginning`.
    """
    return _long(runs, "beginning.jsonl")


def load_filters(runs: pd.DataFrame) -> pd.DataFrame:
    """Kernels over training: one row per run, step, block and head (from 1).

    Columns: :data:`KEYS`, then step (0: before training), block, head, pack_temperature,
    unpack_temperature, and tap_1, tap_2, ... in the order of the sequence; a tap that a shorter
    kernel lacks is NaN.
    """
    return _long(runs, "filters.jsonl")


def tested(folder: Path) -> list[float]:
    """The test accuracies (0..1) in one run's ``metrics.jsonl``: of a finished run, one."""
    lines, _ = _read_lines(folder / "metrics.jsonl")
    return [row["accuracy"] for row in lines if row["split"] == "test"]


def load_attention(run: pd.Series[Any]) -> dict[str, NDArray[Any]] | None:
    """The attention maps of one example, or None where the run saved none.

    With B blocks, n heads, M' = min(M, 16) rows and L tokens: ``pack`` (B, n, M', L), ``unpack``
    (B, n, L, M'), ``tokens`` (L,), ``length``, ``label``, ``prediction``.

    Raises:
        DataError: the file is damaged.
    """
    return read_arrays(_attention(run)) if has_attention(run) else None


def has_attention(run: pd.Series[Any]) -> bool:
    """Whether a run saved attention maps; committed rows keep those of few seeds."""
    return _attention(run).is_file()


def _attention(run: pd.Series[Any]) -> Path:
    return Path(run["folder"]) / "attention.npz"


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file; never code.

    Raises:
        DataError: the file is damaged.
    """
    try:
        # Opened here, because NumPy leaves a damaged archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except Exception as error:  # a damaged archive fails in zipfile, zlib, struct or NumPy
        raise DataError(
            f"{path} is damaged ({error}); restore it or train the run again."
        ) from error


def _long(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    required, further = _FILES[name]
    records: list[dict[str, Any]] = []
    owner: list[int] = []
    problems: list[str] = []
    for position, folder in enumerate(runs["folder"]):
        lines, complaints = _read_lines(Path(folder) / name)
        records += lines
        owner += [position] * len(lines)
        problems += [each.removesuffix(".") + "; left out." for each in complaints]
    keys = runs[list(KEYS)].iloc[owner].reset_index(drop=True)
    values = pd.DataFrame(records)
    new = (column for column in values.columns if column not in KEYS)
    names = list(dict.fromkeys([*required, *further, *new]))
    whole = set(_COUNTS).intersection(required)
    types = {c: "int64" if c in whole else "float64" for c in names if c not in _WORDS}
    frame = pd.concat([keys, values.reindex(columns=names).astype(types)], axis=1)
    frame.attrs = {"problems": problems}
    return frame


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a JSON-lines file, and a sentence for every line that is none.

    A run that was killed may leave a torn last line; what stands above it is sound. A file that
    does not exist holds no line.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{path} could not be read ({error})."]
    try:
        # One call for the whole file is several times as fast as one per line.
        values = _from_json(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(lines):
        values = [_value_or_none(line) for line in lines]
    sound, problems = [], []
    shapes: set[Any] = set()
    for number, value in enumerate(values, start=1):
        if _fits(value, _FILES[path.name][0], shapes):
            sound.append(value)
        elif number == len(values):
            problems.append(f"{path} ends in a torn line (line {number}).")
        else:
            problems.append(f"{path} has a damaged line {number}.")
    return sound, problems


def _value_or_none(line: str) -> Any:
    try:
        return _from_json(line)
    except (ValueError, RecursionError):
        return None


def _from_json(text: str | bytes) -> Any:
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int:
    """A whole number that a column of a frame can hold."""
    number = int(digits)
    if abs(number) >= 2**63:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return number


_KINDS = dict.fromkeys(_WORDS, (str,)) | dict.fromkeys(_COUNTS, (int,))


def _fits(value: Any, required: Sequence[str], shapes: set[Any]) -> bool:
    """Whether ``value`` is an object with the required keys and values of the right kinds.

    Args:
        shapes: the keys and types that were found to be right; a page of the report asks a million
            times, and the lines of one file are alike.
    """
    if not isinstance(value, dict):
        return False
    shape = (*value, *map(type, value.values()))
    if shape not in shapes:
        if not all(key in value for key in required):
            return False
        # Types of JSON, whose values have no subclasses.
        for key, item in value.items():
            if type(item) not in _KINDS.get(key, (float, int, type(None))):
                return False
        shapes.add(shape)
    for key in _SHARES:
        share = value.get(key) or 0  # None, as NaN: not known
        if share < 0 or share > 1:
            return False
    return True


def damage(folder: Path) -> Iterator[str]:
    """One sentence for everything in a run's rows and arrays that cannot be read."""
    for name in RESULT_FILES:
        path = folder / name
        if name.endswith(".jsonl"):
            yield from _read_lines(path)[1]
        elif name.endswith(".npz") and path.exists():
            try:
                read_arrays(path)
            except DataError as error:
                yield str(error)
