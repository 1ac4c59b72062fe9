"""The published numbers: the file as committed, and what the loader refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from memnb.config import LRA_TASKS
from memnb.errors import DataError
from memnb.evidence import published

HEADER = "source,task,model,accuracy,note\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "published.csv"


def test_every_other_source_covers_every_task() -> None:
    frame = published.load()
    # The paper's own lines may be renamed, added and deleted by whoever has its tables.
    others = frame[frame["source"] != published.PAPER]
    for _, rows in others.groupby(["source", "model"]):
        assert rows["task"].tolist() == list(LRA_TASKS)
    assert others.groupby("source").size().to_dict() == {
        "LRA leaderboard": 11 * 5,
        "Mega, table 2 (second-hand)": 2 * 5,
        "S4 (second-hand)": 5,
    }


# One row or more of each source, typed in a second time; columns in the order of LRA_TASKS.
@pytest.mark.parametrize(
    ("source", "model", "accuracies"),
    [
        ("LRA leaderboard", "Transformer", [36.37, 64.27, 57.46, 42.44, 71.40]),
        ("LRA leaderboard", "Performer", [18.01, 65.40, 53.82, 42.77, 77.05]),
        ("LRA leaderboard", "BigBird", [36.05, 64.02, 59.29, 40.83, 74.87]),
        ("Mega, table 2 (second-hand)", "Luna-256", [37.98, 65.78, 79.56, 47.86, 78.55]),
        ("S4 (second-hand)", "Luna-256", [37.25, 64.57, 79.29, 47.38, 77.72]),
    ],
)
def test_numbers(source: str, model: str, accuracies: list[float]) -> None:
    frame = published.load()
    rows = frame[(frame["source"] == source) & (frame["model"] == model)]
    assert rows.set_index("task")["accuracy"].to_dict() == dict(
        zip(LRA_TASKS, accuracies, strict=True)
    )


def test_only_the_papers_own_numbers_are_open() -> None:
    """The paper's tables were not available: a number here would be invented, unless a reader
    entered it, in which case its note says where it stands."""
    frame = published.load()
    empty = frame["accuracy"].isna()
    assert set(frame.loc[empty, "source"]) <= {published.PAPER}
    entered = frame[~empty & (frame["source"] == published.PAPER)]
    assert not entered["note"].isin(["", "to be entered from the paper"]).any()


def test_the_retrieval_jump_is_explained_where_it_appears() -> None:
    frame = published.load()
    here = (frame["task"] == "retrieval") & (frame["source"] != published.PAPER)
    jumped = frame[here & (frame["accuracy"] > 70)]
    assert len(jumped) == 3
    assert jumped["note"].str.contains("more steps and a [u, v, u*v, u-v] head", regex=False).all()


def test_a_reader_can_enter_a_number(file: Path) -> None:
    # As a spreadsheet saves it: byte order mark, CRLF, spaces, an empty last line.
    line = f"{published.PAPER}, text ,ConvLuna-1, 50.5 ,table 1\n"
    file.write_bytes(("\ufeff" + HEADER + line + "\n").replace("\n", "\r\n").encode())
    assert published.load(file).to_dict("records") == [
        {
            "source": published.PAPER,
            "task": "text",
            "model": "ConvLuna-1",
            "accuracy": 50.5,
            "note": "table 1",
        }
    ]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("A,text,B,0.3637,\n", "line 2: the accuracy must be a percentage"),
        ("A,text,B,101,\n", "line 2: the accuracy must be a percentage"),
        ("A,text,B,nan,\n", "line 2: the accuracy must be a percentage"),
        ("A,text,B,about 36,\n", "got 'about 36'"),
        ("A,listop,B,36,\n", "line 2: There is no task named 'listop'; did you mean 'listops'?"),
        (",text,B,36,\n", "line 2: every number needs a source"),
        ("A,text,,36,\n", "line 2: every number needs a model"),
        ("A,text,B,36\n", "must have 5 cells, but has 4"),
        ("A,text,B,36,a, b\n", "must have 5 cells, but has 6"),
        ("A,text,B,36," + 200_000 * "x" + "\n", "line 2 is not CSV"),
        ("A,text,B,36,\n\nA,text,B,37,\n", "line 4: a second number for B on text from A"),
    ],
)
def test_a_mistake_is_named_with_its_line(file: Path, lines: str, says: str) -> None:
    file.write_text(HEADER + lines)
    with pytest.raises(DataError) as error:
        published.load(file)
    assert says in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("text", ["", "source;task;model;accuracy;note\n", "a,b\n1,2\n"])
def test_a_wrong_header_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(
        DataError, match="must start with the header source,task,model,accuracy,note"
    ):
        published.load(file)


def test_a_missing_or_unreadable_file_is_named(file: Path) -> None:
    with pytest.raises(DataError, match="are missing"):
        published.load(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="save it as UTF-8 CSV"):
        published.load(file)


def test_an_empty_list_is_allowed(file: Path) -> None:
    file.write_text(HEADER)
    assert list(published.load(file).columns) == list(published.COLUMNS)
