"""ListOps: the definition, golden sequences, LRA's file format, and the loader."""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path

import numpy as np
import pytest

from memnb import config, tasks
from memnb.errors import DataError, MemnbError
from memnb.tasks import listops

TINY = config.ListOps(
    name="listops-short", min_length=10, max_length=40, train=60, validation=20, test=20
)

GOLDEN = [
    "[MED 1 7 8 8 0 9 [MAX 6 7 5 ] 9 ]",
    "[MED [MED 5 8 5 0 9 [SM 8 2 8 ] ] 9 ]",
    "[MIN 8 8 2 [MIN 5 9 [SM 2 5 4 5 8 8 8 9 ] ] ]",
]
GOLDEN_LABELS = [7, 7, 2]
GOLDEN_LISTOPS = "a70759b7741566c8"
GOLDEN_SHORT = "96ee4fda5b918bbe"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def words(sequence: np.ndarray) -> list[str]:
    return [listops.VOCABULARY[token] for token in sequence.tolist()]


def parse(tokens: list[str]) -> tuple[object, list[str]]:
    """A second way to read an expression: into nested tuples, from the definition alone."""
    head, rest = tokens[0], tokens[1:]
    if not head.startswith("["):
        return int(head), rest
    arguments = []
    while rest[0] != "]":
        argument, rest = parse(rest)
        arguments.append(argument)
    return (head, *arguments), rest[1:]


def value_of(tree: object) -> int:
    if isinstance(tree, int):
        return tree
    operator, *arguments = tree
    values = [value_of(argument) for argument in arguments]
    return {
        "[MIN": min,
        "[MAX": max,
        "[MED": lambda v: int(statistics.median(v)),
        "[SM": lambda v: sum(v) % 10,
    }[operator](values)


def depth_of(tree: object) -> int:
    return 1 if isinstance(tree, int) else 1 + max(depth_of(one) for one in tree[1:])


def widths_of(tree: object) -> list[int]:
    if isinstance(tree, int):
        return []
    return [len(tree) - 1, *(width for one in tree[1:] for width in widths_of(one))]


# --- the definition --------------------------------------------------------------------------


def test_labels_equal_those_of_an_independent_reader_and_shapes_keep_the_limits():
    task = config.task_config("listops-short", train=400, validation=50, test=50)
    made = listops.make(task)
    widths = []
    for index, label in enumerate(made.label.tolist()):
        tokens = words(made.sequences[index])
        tree, rest = parse(tokens)
        assert rest == []
        assert value_of(tree) == label == listops.evaluate(tokens)
        assert task.min_length < len(tokens) < task.max_length
        assert depth_of(tree) <= task.max_depth
        widths += widths_of(tree)
    assert set(widths) == set(range(2, 11))


def test_full_size_trees_are_right_too():
    made = listops.make(config.task_config("listops", train=40, validation=5, test=5))
    for index, label in enumerate(made.label.tolist()):
        tree, rest = parse(words(made.sequences[index]))
        assert rest == []
        assert value_of(tree) == label


def test_golden_sequences():
    """Another machine or version must make the same data: seed 0, spelled out and hashed."""
    tiny = listops.make(TINY)
    assert [" ".join(words(tiny.sequences[index])) for index in range(3)] == GOLDEN
    assert tiny.label[:3].tolist() == GOLDEN_LABELS
    assert fingerprint(listops.make(config.task_config("listops", train=1000))) == GOLDEN_LISTOPS
    # Spelled out, so that another choice of the laptop variant leaves the reference alone.
    short = TINY.but(min_length=100, max_length=200, train=32_000, validation=1_000, test=2_000)
    assert fingerprint(listops.make(short)) == GOLDEN_SHORT


def fingerprint(made: listops.Examples) -> str:
    parts = (made.sequences.values, made.sequences.offsets, made.label, made.split)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


def test_the_seed_is_what_decides():
    first, again = listops.make(TINY), listops.make(TINY)
    other = listops.make(TINY.but(seed=1))
    assert np.array_equal(first.sequences.values, again.sequences.values)
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)


def test_all_examples_are_distinct_across_splits_even_where_repeats_are_common():
    task = TINY.but(min_length=1, max_length=6, max_depth=2, train=300, validation=300, test=300)
    made = listops.make(task)
    assert len({made.sequences[index].tobytes() for index in range(900)}) == 900


def test_statistics_of_the_definition():
    """Label shares and lengths as simulated from LRA's own program (3,000 trees)."""
    made = listops.make(config.task_config("listops", train=16_000))
    lengths = np.diff(made.sequences.offsets)
    shares = np.bincount(made.label, minlength=10) / len(made.label)
    assert shares[0] == pytest.approx(0.169, abs=0.012)
    assert shares[9] == pytest.approx(0.168, abs=0.012)
    assert np.all((shares[1:9] > 0.065) & (shares[1:9] < 0.105))
    assert lengths.mean() == pytest.approx(1044, abs=20)
    expected = {5: 537, 25: 708, 50: 966, 75: 1340, 95: 1777}
    for percent, length in expected.items():
        assert np.percentile(lengths, percent) == pytest.approx(length, rel=0.05)
    digits = np.bincount(made.sequences.values, minlength=17)[listops.ZERO : listops.ZERO + 10]
    operators = np.bincount(made.sequences.values, minlength=17)[listops.MIN : listops.SM + 1]
    assert np.ptp(digits) / digits.mean() < 0.01
    assert np.ptp(operators) / operators.mean() < 0.01


def test_acceptance_equals_that_of_the_original():
    """8.4 % of the trees have 500 < length < 2000; a wrong early stop would change it."""
    task = config.task_config("listops")
    chunks = listops._chunks(task)
    kept = sum(len(next(chunks)) for _ in range(6))
    assert kept / (6 * listops._TREES_PER_CHUNK) == pytest.approx(0.084, abs=0.005)


def test_an_impossible_definition_is_refused():
    with pytest.raises(DataError, match="fewer examples"):
        listops.make(TINY.but(max_depth=1))
    with pytest.raises(DataError, match="after 400 of them"):
        # 4 operators on 2 digits: 400 trees and no more
        listops.make(TINY.but(min_length=1, max_length=5, train=399, validation=1, test=1))


def test_many_arguments_do_not_overflow():
    made = listops.make(TINY.but(max_arguments=80, max_depth=3, min_length=90, max_length=400))
    for index, label in enumerate(made.label.tolist()):
        assert value_of(parse(words(made.sequences[index]))[0]) == label


def test_generation_is_fast():
    """100,000 full-size examples in 60 s on two cores; a tenth of them, with room to spare."""
    started = time.perf_counter()
    listops.make(config.task_config("listops", train=6000))
    assert time.perf_counter() - started < 6


# --- single expressions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7", 7),
        ("[MAX 4 [MIN 2 7 ] 0 ]", 4),
        ("[SM 9 9 5 ]", 3),
        ("[MED 1 2 ]", 1),
        ("[MED 9 1 4 ]", 4),
        ("[MED 1 8 9 2 ]", 5),
    ],
)
def test_evaluate(expression: str, value: int):
    assert listops.evaluate(expression.split()) == value


@pytest.mark.parametrize("broken", ["", "1 2", "[MAX 1", "[MAX ]", "]", "[AVG 1 2 ]", "10", "²"])
def test_evaluate_refuses_what_is_no_expression(broken: str):
    with pytest.raises(DataError):
        listops.evaluate(broken.split())


# --- LRA's files -----------------------------------------------------------------------------


def to_source(tokens: list[str]) -> str:
    """The expression in LRA's file format, where an operator takes its arguments one by one.

    ``[MAX 4 7 ]`` becomes ``( ( ( [MAX 4 ) 7 ) ] )``.
    """
    stack: list[list[str]] = [[]]
    for token in tokens:
        if token in listops.OPERATORS:
            stack.append([token])
        elif token == "]":
            operator, *arguments = stack.pop()
            opened = "( " * (len(arguments) + 1) + operator
            stack[-1].append(opened + "".join(f" {one} )" for one in arguments) + " ] )")
        else:
            stack[-1].append(token)
    return stack[0][0]


def write_tsv(path: Path, sequences: tasks.base.Sequences, labels: list[int]) -> None:
    """Write examples (token ids) to ``path`` in LRA's file format."""
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(listops.LRA_HEADER + "\n")
        for index, label in enumerate(labels):
            tokens = [listops.VOCABULARY[token] for token in sequences[index].tolist()]
            file.write(f"{to_source(tokens)}\t{label}\n")


# Written by hand from the description of the format, not by our writer.
LRA_LINES = [
    ("( ( ( [MAX 4 ) 7 ) ] )", "[MAX 4 7 ]", 7),
    ("( ( ( ( [SM 9 ) 9 ) 5 ) ] )", "[SM 9 9 5 ]", 3),
    ("( ( ( [MIN 3 ) ( ( ( [MED 1 ) 8 ) ] ) ) ] )", "[MIN 3 [MED 1 8 ] ]", 3),
    ("5", "5", 5),
]


@pytest.mark.parametrize(("source", "expression", "value"), LRA_LINES)
def test_the_file_format_by_hand(source: str, expression: str, value: int):
    assert words(listops.from_source(source.encode())) == expression.split()
    assert to_source(expression.split()) == source
    assert listops.evaluate(expression.split()) == value


def lra_folder(cache: Path) -> Path:
    folder = cache / "lra" / "listops-1000"
    folder.mkdir(parents=True)
    body = "Source\tTarget\n" + "".join(f"{source}\t{value}\n" for source, _, value in LRA_LINES)
    for name in listops.LRA_FILES:
        (folder / name).write_text(body)
    return folder


def lra_task(**changes: object) -> config.Task:
    sizes = {"train": 4, "validation": 3, "test": 4}
    return config.task_config("listops", source="lra", **{**sizes, **changes})


def test_lra_files_are_read(cache: Path):
    lra_folder(cache)
    data = tasks.load(lra_task())
    assert [len(split) for split in (data.train, data.validation, data.test)] == [4, 3, 4]
    for index, (_, expression, value) in enumerate(LRA_LINES):
        length = int(data.train.lengths[index])
        row = data.train.inputs[index]
        assert tasks.tokens(lra_task(), row, length) == expression.split()
        assert not row[length:].any()
        assert data.train.labels[index] == value


def test_generated_examples_survive_lra_files(cache: Path):
    made = listops.make(TINY)
    folder = lra_folder(cache)
    for number, name in enumerate(listops.LRA_FILES):
        rows = np.flatnonzero(made.split == number)
        chosen = tasks.base.Sequences.of([made.sequences[row] for row in rows])
        write_tsv(folder / name, chosen, made.label[rows].tolist())
    read = listops.make(TINY.but(source="lra"))
    assert fingerprint(read) == fingerprint(made)


def test_columns_are_found_by_name_and_line_ends_do_not_matter(cache: Path):
    folder = lra_folder(cache)
    body = "Target\tid\tSource\r\n7\tx\t( ( ( [MAX 4 ) 7 ) ] )\r\n"
    for name in listops.LRA_FILES:
        (folder / name).write_bytes(body.encode())
    data = tasks.load(lra_task(train=1, validation=1, test=1))
    assert data.train.labels.tolist() == [7]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "no column 'Source'"),
        ("Source\tLabel\n5\t5\n", "no column 'Target'"),
        ("<html>403 Forbidden</html>\n", "no column 'Source'"),
        ("Source\tTarget\n5\t5\n", "ends after 1"),
        ("Source\tTarget\n( ( ( [AVG 4 ) 7 ) ] )\t7\n", r"line 2: .*'\[AVG'"),
        ("Source\tTarget\n( ( ( [MAX 47 ) ] )\t7\n", "'47'"),
        ("Source\tTarget\n5\t5\n5\tten\n", "line 3 has the label 'ten'"),
        ("Source\tTarget\n5\t\n", "label ''"),
        ("Source\tTarget\n5\n", "too few"),
        ("Source\tTarget\n\t5\n", "0 tokens"),
        ("Source\tTarget\n" + "5 " * 2001 + "\t5\n", "2001 tokens"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(cache: Path, body: str, says: str):
    folder = lra_folder(cache)
    (folder / "basic_val.tsv").write_text(body)
    with pytest.raises(DataError, match=says) as error:
        tasks.load(lra_task())
    assert "\n" not in str(error.value)
    assert "basic_val.tsv" in str(error.value)
    assert not list(cache.glob("*.npz"))


def test_missing_files_say_where_they_should_be(cache: Path):
    with pytest.raises(DataError, match=r"listops-1000.basic_train\.tsv.*source='generated'"):
        tasks.load(lra_task())


# --- the loader ------------------------------------------------------------------------------


def test_load_pads_and_splits(cache: Path):
    data = tasks.load(TINY)
    made = listops.make(TINY)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [60, 20, 20]
    assert data.train.inputs.shape == (60, TINY.max_length)
    assert data.train.inputs.dtype == np.uint8
    assert data.train.lengths.dtype == np.int32
    assert data.train.labels.dtype == np.int64
    joined = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    lengths = np.concatenate([data.train.lengths, data.validation.lengths, data.test.lengths])
    for index, (row, length) in enumerate(zip(joined, lengths, strict=True)):
        assert np.array_equal(row[:length], made.sequences[index])
        assert not row[length:].any()


def test_the_second_load_reads_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch):
    first = tasks.load(TINY)
    monkeypatch.setattr(listops, "make", lambda task: pytest.fail("made twice"))
    second = tasks.load(TINY)
    assert np.array_equal(first.test.inputs, second.test.inputs)
    with pytest.raises(pytest.fail.Exception):
        tasks.load(TINY.but(seed=3))


def test_tokens_refuses_foreign_ids():
    with pytest.raises(MemnbError, match=r"token ids 0\.\.15, but got 200"):
        tasks.tokens(TINY, np.array([200], np.uint8), 1)


def test_tokens_of_bytes_and_pixels():
    text = np.frombuffer(b"a\nB\xe9", np.uint8) + 1
    assert tasks.tokens(config.task_config("text"), text, 4) == ["a", "\\x0a", "B", "\\xe9"]
    assert tasks.tokens(config.task_config("image"), np.array([0, 255], np.uint8), 2) == [
        "0",
        "255",
    ]
