"""ListOps: nested operations on lists of digits (Long Range Arena, arXiv 2011.04006).

    [MAX 4 [MIN 2 7 ] 0 ]  ->  4

A tree grows from depth 1. A node below depth 10 is a digit with probability 3/4, else an operator
with 2 to 10 arguments; at depth 10 it is a digit. MIN, MAX, SM (sum modulo 10) and MED (median;
the mean of the middle two is cut down to an integer). The length counts an operator twice, for
its closing bracket. Trees with ``min_length < length < max_length`` are kept, all distinct; the
first ``train`` of them are the training set, then come validation and test.

Trees are drawn level by level, thousands at a time. Their shapes come first: nine in ten trees
have the wrong length, and those never get digits, operators or a value.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from memnb import config, paths
from memnb.errors import DataError
from memnb.tasks import cache
from memnb.tasks.base import Bytes, Dataset, Ints, Sequences, Split, sizes_of, split_of
from memnb.tasks.draws import Draws, below

# The id of a token is its place here; 0 is padding, and the last of the 17 ids is never used.
VOCABULARY = (
    "<pad>", "[MIN", "[MAX", "[MED", "[SM", "]", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
)  # fmt: skip
TOKEN_ID = {token: index for index, token in enumerate(VOCABULARY)}
MIN, MAX, MED, SM, CLOSE, ZERO = range(1, 7)
OPERATORS = set(VOCABULARY[MIN:CLOSE])

_TREES_PER_CHUNK = 8192
# A definition that yields nothing new in so many trees is taken to be exhausted or impossible.
_FRUITLESS_CHUNKS = 64

LRA_FILES = ("basic_train.tsv", "basic_val.tsv", "basic_test.tsv")
LRA_HEADER = "Source\tTarget"


@dataclass(frozen=True)
class Examples:
    """Sequences with their label (uint8, 0..9) and split (uint8; 0 train, 1 validation, 2 test)."""

    sequences: Sequences
    label: Bytes
    split: Bytes


def load(task: config.ListOps) -> Dataset:
    """The three splits, from the data cache; made first if they are not there.

    Raises:
        DataError: see :func:`make`, or the cache cannot be written.
    """
    return cache.cached(task, read, _arrays)


def _arrays(task: config.ListOps) -> cache.Arrays:
    made = make(task)
    return {
        "bytes": made.sequences.values,
        "offsets": made.sequences.offsets,
        "label": made.label,
        "split": made.split,
    }


def read(task: config.ListOps, path: Path) -> Dataset:
    members = {"bytes": "uint8", "offsets": "int64", "label": "uint8", "split": "uint8"}
    found = cache.read(path, members)
    sequences = Sequences.checked(found["bytes"], found["offsets"], path)
    label, split = found["label"], found["split"]
    lengths = np.diff(sequences.offsets)
    if not (
        np.array_equal(split, split_of(task))
        and label.shape == lengths.shape == split.shape
        and lengths.min() > 0
        and label.max() < 10
        and TOKEN_ID["[MIN"] <= sequences.values.min()
        and sequences.values.max() < len(VOCABULARY)
        and lengths.max() <= task.max_length
    ):
        raise DataError(f"{path} does not hold what the task '{task.name}' asks for.")
    parts = []
    for number in range(3):
        rows = np.flatnonzero(split == number)
        inputs, lengths = sequences.padded(rows, task.max_length)
        parts.append(Split(inputs, lengths, label[rows].astype(np.int64)))
    return Dataset(*parts)


def make(task: config.ListOps) -> Examples:
    """The examples that ``task`` defines, generated or read from LRA's files.

    Raises:
        DataError: LRA's files are missing or damaged, or there are not as many distinct trees.
    """
    return _read_lra(task) if task.source == "lra" else _generate(task)


def lra_folder() -> Path:
    """Where LRA's three tables lie, or would lie."""
    return paths.data_cache() / "lra" / "listops-1000"


# --- generation ------------------------------------------------------------------------------


def _generate(task: config.ListOps) -> Examples:
    """Depends on ``task.seed`` alone, and a larger set begins with the smaller one."""
    wanted = sum(sizes_of(task))
    seen: set[bytes] = set()
    sequences: list[Bytes] = []
    labels: list[int] = []
    fruitless = 0
    for chunk in _chunks(task):
        before = len(seen)
        for sequence, label in chunk:
            # 128 bits of hash instead of the sequence keep the memory of this set small.
            key = hashlib.blake2b(sequence.tobytes(), digest_size=16).digest()
            if key not in seen:
                seen.add(key)
                sequences.append(sequence)
                labels.append(label)
                if len(labels) == wanted:
                    return _examples(task, sequences, labels)
        fruitless = fruitless + 1 if len(seen) == before else 0
        if fruitless == _FRUITLESS_CHUNKS:
            raise DataError(
                f"ListOps needs {wanted} different trees with {task.min_length} < length < "
                f"{task.max_length}, but after {len(seen)} of them the next "
                f"{fruitless * _TREES_PER_CHUNK} trees gave none; ask for fewer examples, or "
                "allow more lengths, arguments or depth."
            )
    raise AssertionError("unreachable: chunks never end")


def _examples(task: config.ListOps, sequences: list[Bytes], labels: list[int]) -> Examples:
    split = split_of(task)
    return Examples(Sequences.of(sequences), np.array(labels, np.uint8), split)


def _chunks(task: config.ListOps) -> Iterator[list[tuple[Bytes, int]]]:
    """Trees of the wanted lengths with their values, chunk by chunk and without end."""
    for number in itertools.count():
        bits = Draws(task.seed, number)
        levels = _only_wanted(task, _shapes(task, bits))
        tokens, value = _filled(levels, bits)
        ends = np.cumsum(levels[0].length)
        yield list(zip(np.split(tokens, ends)[:-1], value.tolist(), strict=True))


@dataclass
class _Level:
    """The nodes of one depth, of all trees; the children of one node stand side by side.

    Attributes:
        parent: index of the parent in the level above.
        arguments: number of children, 0 for a digit.
        length: tokens of the subtree.
    """

    parent: Ints
    arguments: Ints
    length: Ints


def _shapes(task: config.ListOps, bits: Draws) -> list[_Level]:
    """The shapes of a chunk of trees; a tree stops growing once it is known to be too long."""
    levels: list[_Level] = []
    parent = np.arange(_TREES_PER_CHUNK)
    tree = parent
    size = np.ones(_TREES_PER_CHUNK, np.int64)  # tokens of each tree so far
    for depth in range(1, task.max_depth + 1):
        draws = bits.raw(len(parent))
        # r > 0.25 makes a digit, so an operator is a draw in the lowest quarter.
        operator = (draws >> np.uint64(62)) == 0
        if depth == task.max_depth:
            operator[:] = False
        arguments = np.where(operator, 2 + below(task.max_arguments - 1, draws), 0)
        grown = np.bincount(tree, weights=arguments + operator, minlength=_TREES_PER_CHUNK)
        size += grown.astype(np.int64)
        arguments[size[tree] >= task.max_length] = 0
        levels.append(_Level(parent, arguments, np.ones(len(parent), np.int64)))
        parent = np.repeat(np.arange(len(arguments)), arguments)
        tree = tree[parent]
        if not len(parent):
            break
    for above, level in zip(levels[-2::-1], levels[:0:-1], strict=True):
        inner = np.bincount(level.parent, weights=level.length, minlength=len(above.parent))
        above.length += inner.astype(np.int64) + (above.arguments > 0)
    # The stunted shape of a tree that grew too long must not pass for a short one.
    levels[0].length[size >= task.max_length] = task.max_length
    return levels


def _only_wanted(task: config.ListOps, levels: list[_Level]) -> list[_Level]:
    """Drop the trees of a wrong length."""
    length = levels[0].length
    keep = (length > task.min_length) & (length < task.max_length)
    renumbered = np.arange(len(keep))
    wanted = []
    for depth, level in enumerate(levels):
        if depth:
            keep = keep[level.parent]
        parent = renumbered[level.parent[keep]]
        wanted.append(_Level(parent, level.arguments[keep], level.length[keep]))
        renumbered = np.cumsum(keep) - 1
    return wanted


def _filled(levels: list[_Level], bits: Draws) -> tuple[Bytes, Bytes]:
    """Draw operators and digits; the tokens of all trees in a row, and the value of each tree."""
    draws = [bits.raw(len(level.parent)) for level in levels]
    starts = _starts(levels)
    tokens = np.zeros(int(levels[0].length.sum()), np.uint8)
    value = np.zeros(0, np.uint8)
    for level, draw, start in zip(levels[::-1], draws[::-1], starts[::-1], strict=True):
        is_operator = level.arguments > 0
        operator = MIN + below(4, draw[is_operator]).astype(np.uint8)
        own = below(10, draw).astype(np.uint8)
        tokens[start] = ZERO + own
        tokens[start[is_operator]] = operator
        tokens[(start + level.length - 1)[is_operator]] = CLOSE
        if len(operator):
            own[is_operator] = _applied(operator, level.arguments[is_operator], value)
        value = own
    return tokens, value


def _starts(levels: list[_Level]) -> list[Ints]:
    """The place of each node's first token: behind its elder siblings, one behind its parent."""
    starts = [np.cumsum(levels[0].length) - levels[0].length]
    for above, level in itertools.pairwise(levels):
        before = np.cumsum(level.length) - level.length
        eldest = (np.cumsum(above.arguments) - above.arguments)[level.parent]
        starts.append(starts[-1][level.parent] + 1 + before - before[eldest])
    return starts


def _applied(operator: Bytes, arguments: Ints, values: Bytes) -> Bytes:
    """Each operator applied to its own stretch of ``values``."""
    first = np.cumsum(arguments) - arguments
    result = np.empty(len(operator), np.uint8)
    for kind, reduce in ((MIN, np.minimum), (MAX, np.maximum), (SM, np.add)):
        chosen = operator == kind
        # uint8 holds the sum of up to 28 digits; more arguments than that need wider numbers.
        everything = reduce.reduceat(values.astype(np.int64) if kind == SM else values, first)
        result[chosen] = everything[chosen] % 10
    chosen = operator == MED
    result[chosen] = _medians(values, first[chosen], arguments[chosen])
    return result


def _medians(values: Bytes, first: Ints, arguments: Ints) -> Bytes:
    if not len(first):
        return np.zeros(0, np.uint8)
    column = np.arange(int(arguments.max()))
    inside = column < arguments[:, None]
    table = np.where(inside, values[np.where(inside, first[:, None] + column, 0)], np.uint8(10))
    table.sort(axis=1)
    row = np.arange(len(first))
    low, high = table[row, (arguments - 1) // 2], table[row, arguments // 2]
    return (low + high) // np.uint8(2)


# --- reading ---------------------------------------------------------------------------------


def evaluate(tokens: Sequence[str]) -> int:
    """The value of an expression such as ``["[SM", "7", "8", "]"]`` (here 5).

    Raises:
        DataError: the tokens are no complete expression.
    """
    return tree(tokens).value


def _apply(operator: str, values: list[int]) -> int:
    if operator == "[SM":
        return sum(values) % 10
    if operator == "[MED":
        ordered = sorted(values)
        return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) // 2
    return min(values) if operator == "[MIN" else max(values)


@dataclass(frozen=True)
class Node:
    """A part of an expression: a digit, or an operator with its arguments.

    ``length`` counts its tokens, the closing bracket included.
    """

    token: str
    value: int
    length: int
    arguments: tuple[Node, ...] = ()

    def ends(self, depth: int) -> int:
        """How many nodes stand at the lower rim if everything below ``depth`` is folded."""
        if not self.arguments or depth == 0:
            return 1
        return sum(one.ends(depth - 1) for one in self.arguments)


_COMPLETE = "every operator needs its arguments and a closing bracket, as in [MAX 4 [MIN 2 7 ] ]."


def tree(tokens: Sequence[str]) -> Node:
    """The expression as a tree, read left to right.

    Raises:
        DataError: the tokens are no complete expression.
    """
    stack: list[tuple[str, list[Node]]] = [("", [])]
    for token in tokens:
        if token in OPERATORS:
            stack.append((token, []))
        elif token == "]" and len(stack) > 1 and stack[-1][1]:
            operator, parts = stack.pop()
            value = _apply(operator, [one.value for one in parts])
            length = 2 + sum(one.length for one in parts)
            stack[-1][1].append(Node(operator, value, length, tuple(parts)))
        elif token.isdecimal() and token in TOKEN_ID:
            stack[-1][1].append(Node(token, int(token), 1))
        else:
            raise DataError(f"A ListOps expression cannot go on with {token!r}; {_COMPLETE}")
    if len(stack) > 1 or len(stack[0][1]) != 1:
        begun = " ".join(tokens)[:60]
        raise DataError(f"These tokens are not one complete expression: {begun!r}; {_COMPLETE}")
    return stack[0][1][0]


_ID_OF_BYTES = {token.encode(): index for token, index in TOKEN_ID.items() if index}


def from_source(source: bytes) -> Bytes:
    """The token ids of an expression in LRA's file format: parentheses go, ``]`` stays.

    Raises:
        DataError: a token that is not in the vocabulary.
    """
    tokens = source.translate(_PARENTHESES_TO_SPACES).split()
    try:
        return np.frombuffer(bytes([_ID_OF_BYTES[token] for token in tokens]), np.uint8)
    except KeyError as error:
        strange = error.args[0][:20].decode(errors="replace")
        raise DataError(
            f"ListOps knows the tokens {' '.join(VOCABULARY[1:])}, but got {strange!r}; "
            "the file is damaged or of another task."
        ) from None


_PARENTHESES_TO_SPACES = bytes.maketrans(b"()", b"  ")


def _read_lra(task: config.ListOps) -> Examples:
    rows: list[tuple[Bytes, int]] = []
    for name, count in zip(LRA_FILES, sizes_of(task), strict=True):
        path = lra_folder() / name
        try:
            with path.open("rb") as file:
                rows += read_tsv(file, path, count, task.max_length)
        except OSError as error:
            raise DataError(
                f"LRA's ListOps file {path} cannot be read ({error.strerror}); put the three files "
                f"{', '.join(LRA_FILES)} there, or use source='generated'."
            ) from None
    return _examples(task, [sequence for sequence, _ in rows], [label for _, label in rows])


def read_tsv(
    file: IO[bytes], where: object, rows: int, max_length: int
) -> Iterator[tuple[Bytes, int]]:
    """The first ``rows`` examples of one of LRA's files: token ids and label.

    Raises:
        DataError: a column missing, fewer rows, a strange token or label, or an expression longer
            than ``max_length``; the message calls the file ``where``.
    """
    header = file.readline().decode(errors="replace").rstrip("\r\n").split("\t")
    for column in LRA_HEADER.split("\t"):
        if column not in header:
            raise DataError(
                f"{where} has no column '{column}': its first line reads "
                f"{' '.join(header)[:80]!r}; get LRA's own file."
            )
    source, target = (header.index(column) for column in LRA_HEADER.split("\t"))
    for number in range(rows):
        line = file.readline()
        if not line:
            raise DataError(
                f"{where} should hold at least {rows} examples, but ends after {number}; "
                "it is cut off: get it again."
            )
        yield _example(line, source, target, max_length, f"{where}, line {number + 2}")


def _example(line: bytes, source: int, target: int, most: int, where: str) -> tuple[Bytes, int]:
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) <= max(source, target):
        raise DataError(f"{where} has {len(cells)} columns, which is too few; get the file again.")
    label = cells[target]
    if len(label) != 1 or not label.isdigit():
        shown = label[:20].decode(errors="replace")
        raise DataError(
            f"{where} has the label {shown!r}, but labels are 0..9; get the file again."
        )
    try:
        sequence = from_source(cells[source])
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if not 0 < len(sequence) <= most:
        raise DataError(
            f"{where} holds {len(sequence)} tokens, but the task takes 1 to {most}; raise "
            "max_length, or get the file again."
        )
    return sequence, int(label)
