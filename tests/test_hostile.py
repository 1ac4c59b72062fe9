"""Hostile input by the thousand: one sentence or a result, no traceback, no file anywhere else.

10,000 cases in all, the same ones every time.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up_runs import write_run
from tiny_notebooks import write_notebook

from memnb import cli, config, paths, runs
from memnb.config import Run
from memnb.errors import DataError, MemnbError
from memnb.evidence import rows
from memnb.reproduce import manifest

CASES = {
    "configs": 2000, "settings": 1000, "command": 2500, "parameters": 1000, "cells": 1000,
    "notebooks": 500, "manifests": 1000, "records": 600, "rows": 400,
}  # fmt: skip


def cases(name: str) -> Callable[[Any], Any]:
    return settings(
        max_examples=CASES[name],
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_there_are_ten_thousand_cases() -> None:
    assert sum(CASES.values()) == 10_000


def one_sentence(error: BaseException) -> None:
    assert isinstance(error, MemnbError)
    assert str(error).strip()


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1, 10**30, 2**63, -(2**31)])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "..", "../x", "/etc/passwd", "luna-1", "text", "\x00", "\ud800", "é\n"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def changed(draw: Any, values: dict[str, Any]) -> dict[str, Any]:
    """A sound config or record in which a few things are replaced, removed or added."""
    copy: dict[str, Any] = json.loads(json.dumps(values))
    for _ in range(draw(st.integers(1, 3))):
        at = copy
        while True:
            key = draw(st.sampled_from(sorted(at)) if at else st.text(max_size=4))
            if not isinstance(at.get(key), dict) or draw(st.booleans()):
                break
            at = at[key]
        what = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if what == "remove":
            at.pop(key, None)
        else:
            at[key if what == "replace" else draw(st.text(max_size=6))] = draw(JSON)
    return copy


# --- configs ---------------------------------------------------------------------------------

SOUND = [config.run_config(model, task).model_dump() for model in ("transformer", "convluna-16")
         for task in ("listops-short", "text", "pathfinder", "image-short")]  # fmt: skip


def check_run(run: Run) -> None:
    """An accepted config survives JSON, and its id can name a folder and nothing else."""
    assert re.fullmatch(r"[a-z0-9-]{1,80}", run.run_id)
    assert Run.of(json.loads(json.dumps(run.model_dump()))) == run


@cases("configs")
@given(st.sampled_from(SOUND).flatmap(changed) | JSON)
def test_a_config_is_taken_or_refused_in_one_sentence(values: Any) -> None:
    try:
        run = Run.of(values)
    except MemnbError as error:
        one_sentence(error)
    except (TypeError, ValueError):
        assert not isinstance(values, dict)  # no mapping at all: a mistake of the program
    else:
        check_run(run)


CHANGES = st.dictionaries(
    st.text(max_size=4)
    | st.sampled_from(
        ["memory", "kind", "width", "filter", "max_length", "name", "source", "steps", "lr", "seed"]
    ),
    JSON,
    max_size=3,
)


@cases("settings")
@given(
    st.sampled_from(["luna-16", "convluna-1", "transformer", "luna-0", "luna-99999"]) | st.text(),
    st.sampled_from([*config.TASKS]) | st.text(),
    st.integers() | JSON,
    CHANGES,
    CHANGES,
    CHANGES,
)
def test_settings_are_taken_or_refused_in_one_sentence(
    model: str, task: str, seed: Any, first: Any, second: Any, third: Any
) -> None:
    try:
        run = config.run_config(
            model, task, seed, model_changes=first, task_changes=second, training_changes=third
        )
    except MemnbError as error:
        one_sentence(error)
    else:
        check_run(run)


# --- the command line ------------------------------------------------------------------------

WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link",
          "os.truncate", "os.chmod", "shutil.rmtree"}  # fmt: skip
watched: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Every path that is opened for writing, made, renamed or removed, while somebody watches."""
    if watched is None:
        return
    if event == "open":
        path, mode, flags = arguments
        writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if flags else False
        # A number is a file that is open already.
        if isinstance(path, str | bytes) and ((mode and set(mode) & set("wax+")) or writing):
            watched.append(os.path.abspath(os.fsdecode(path)))
    elif event in WRITES:
        watched.extend(os.path.abspath(each) for each in arguments[:2] if isinstance(each, str))


sys.addaudithook(_watch)

WORDS = st.sampled_from(
    [
        *cli.COMMANDS, "--help", "--version", "-v", "-vv", "--verbose", "--out", "--out=x",
        "--out=", "--out=a/../../b", "--out=~nobody-here/x", "--out=" + "n" * 5000,
        "--out=a\nb", "--seed",
        "--seed=3", "--jobs", "--device=cpu", "--device", "--set", "--set=model.memory=4",
        "--set=training.steps=1e400", "--set=model.=", "--set=task.name=text", "--budget=9m",
        "--budget", "--preset=stored", "--preset", "--only", "--only=accuracy", "--format=csv",
        "--runs", "--evidence", "--accumulate=2", "--deterministic", "--bundle", "--bundle=b.zip",
        "--suite=length", "--longest=2000", "--yes", "luna-16", "convluna-1", "text",
        "listops-short", "list", "get", "import", "check", "show", "verify", "remove",
        "--", "-", "..", "0", "-1",
        "1e9", "made-up", "\udcff", "…", "--model=luna-1", "--task=text", "@file", "-vvv", "--=",
    ]
)  # fmt: skip
FREE = st.text(st.characters(exclude_characters="\x00/", exclude_categories=()), max_size=10)
SENSIBLE = st.sampled_from(
    [
        ["train", "luna-16", "text"], ["train", "convluna-1", "listops-short", "--seed"],
        ["results"],
        ["check"], ["reproduce"], ["data", "list"], ["data", "get"], ["data", "import", "text"],
        ["data", "check"], ["runs", "list"], ["runs", "show"], ["runs", "verify"],
        ["runs", "remove"],
        ["bench"], ["models"], ["tasks"], ["doctor"], [],
    ]
)  # fmt: skip


@pytest.fixture
def nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of one's own, where the commands do all but their hours of work."""
    from memnb import doctor
    from memnb.reproduce import workflow
    from memnb.tasks import catalogue, download
    from memnb.train import bench, loop

    folder = tmp_path / "here"
    write_run(folder / "memnb output" / "runs", "luna-1")
    (folder / "memnb output" / "runs" / "broken").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MEMNB_OUT", str(folder / "memnb output"))
    monkeypatch.setenv("MEMNB_DATA", str(folder / "memnb data"))
    monkeypatch.setenv("MEMNB_VERBOSE", "")
    monkeypatch.setattr(paths, "assets", lambda: folder / "assets")
    record = {"outcome": "interrupted", "step": 3}
    monkeypatch.setattr(loop, "train", lambda *_, **__: record)
    monkeypatch.setattr(workflow, "reproduce", lambda *_, **__: workflow.Result(0, None, ()))
    monkeypatch.setattr(doctor, "examine", lambda out: [])
    monkeypatch.setattr(catalogue.listops, "load", lambda task: None)
    monkeypatch.setattr(catalogue.pathfinder, "load", lambda task: None)

    def offline(*_: Any) -> Path:
        raise DataError("No network here.")

    def measured(suite: str, wanted: list[Run], *_: Any, **__: Any) -> Iterator[bench.Measurement]:
        for run in wanted:
            where = {"task": run.task.name, "model": run.model.name, "length": 1, "batch": 1}
            yield bench.Measurement(suite=suite, outcome="out of memory", **where)

    ceilings = bench.Ceilings(1e12, 1e13, "cpu", "a processor", "fp32", "2.13.0")

    def apart(action: Callable[..., Any], *given_: Any) -> Any:
        return ceilings if action is bench.ceilings else action(*given_)

    monkeypatch.setattr(bench, "apart", apart)
    monkeypatch.setattr(download, "fetch", offline)
    monkeypatch.setattr(bench, "isolated", measured)
    return folder


def test_any_words_are_a_command_or_one_sentence(
    nothing_heavy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @cases("command")
    @given(SENSIBLE, st.lists(WORDS | FREE, max_size=4))
    def try_words(command: list[str], more: list[str]) -> None:
        global watched
        words = [*command, *more]
        watched = []
        try:
            code = cli.main(words)
        except SystemExit as leave:  # argparse's --help and --version
            code = int(leave.code or 0)
        finally:
            touched, watched = watched or [], None
        shown = capsys.readouterr()
        assert code in (0, 1, 2), words
        assert "Traceback" not in shown.err
        if code == 2:
            assert shown.err.startswith("memnb: ")
            assert shown.err.count("\n") == 1
        inside = [str(nothing_heavy), os.devnull]
        for place, word in enumerate(words):
            given_out = words[place + 1 : place + 2] if word == "--out" else []
            if word.startswith("--out="):
                given_out = [word.removeprefix("--out=")]
            inside += [os.path.abspath(os.path.expanduser(each)) for each in given_out if each]
        for path in touched:
            assert any(path == root or path.startswith(root + os.sep) for root in inside), path

    try_words()


# --- notebooks and manifests -----------------------------------------------------------------

LITERALS = st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KNOWN = st.dictionaries(st.text(max_size=5), LITERALS, max_size=4)


@cases("parameters")
@given(KNOWN, KNOWN | st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_parameters_of_a_notebook_are_taken_or_refused(known: Any, given_: Any) -> None:
    try:
        manifest.check_parameters(known, given_, "a.ipynb")
    except MemnbError as error:
        one_sentence(error)
    else:
        assert set(given_) <= set(known)


CELLS = st.sampled_from(
    ["level: int = 3", "a = [1, 2]", "a: str = 'x'", "a: int", "a = b = 1", "a.b = 1", "import os",
     "a = " + "[" * 300, "a = " + "-" * 5000 + "1", "a = {1: {}}", "a = {[]: 1}", "a = 1 + 2j",
     "a = open('x')", "a = __import__('os').system('touch owned')", "a = 'é' # ü", "\x00", "\ud800",
     "a = " + "9" * 5000, "(a := 1)", "a: int = " + "(" * 100 + ")" * 100, "if True: a = 1"]
)  # fmt: skip


@cases("cells")
@given(st.lists(CELLS | st.text(max_size=12), max_size=3))
def test_a_parameters_cell_is_read_or_refused_and_never_run(lines: list[str]) -> None:
    cell = {
        "cell_type": "code",
        "metadata": {"tags": ["parameters"]},
        "source": "\n".join(lines),
    }
    global watched
    watched = []
    try:
        manifest.read_parameters({"cells": [cell]}, "a.ipynb")
    except MemnbError as error:
        one_sentence(error)
    finally:
        touched, watched = watched, None
    assert touched == []


NOTEBOOKS = st.fixed_dictionaries(
    {},
    optional={
        "cells": JSON
        | st.lists(
            JSON
            | st.fixed_dictionaries(
                {"cell_type": st.just("code") | JSON, "metadata": JSON, "source": JSON}
            )
            | st.fixed_dictionaries(
                {
                    "cell_type": st.just("code"),
                    "metadata": st.fixed_dictionaries({"tags": st.just(["parameters"]) | JSON}),
                    "source": st.text(max_size=9) | st.lists(SCALARS, max_size=2),
                }
            ),
            max_size=3,
        ),
        "metadata": JSON,
    },
)


def test_a_file_is_a_notebook_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"

    @cases("notebooks")
    @given(NOTEBOOKS.map(lambda each: json.dumps(each).encode()) | JSON.map(
        lambda each: json.dumps(each).encode()) | st.binary(max_size=20)
        | st.sampled_from([b"[" * 100_000, b'{"cells":' * 50_000]))  # fmt: skip
    def try_file(content: bytes) -> None:
        path.write_bytes(content)
        try:
            manifest.read_parameters(manifest.read_notebook(path), path.name)
        except MemnbError as error:
            one_sentence(error)

    try_file()


FIELDS = st.sampled_from([*manifest.Artefact.model_fields, "levl", "é", "a.b"])
OUTPUTS = st.sampled_from(['["../../x.png"]', '["/etc/x.csv"]', '["a/b.png"]', '["a.png"]', "3"])
TOML_VALUES = (
    st.text(max_size=8).map(json.dumps)
    | st.integers().map(str)
    | st.sampled_from(
        ["true", "nan", "inf", "1979-05-27", "[]", '["../x.png"]', '["a.png"]', '"C1"', '["C1"]',
         '"../tiny.ipynb"', '"/etc/passwd"', '"tiny.ipynb"', "{}", "{level = 3}", "[[1]]", '"tiny"']
    )
)  # fmt: skip


def test_a_manifest_is_taken_or_refused(tmp_path: Path) -> None:
    write_notebook(tmp_path / "tiny.ipynb", "1")
    sound = ['id = "tiny"', 'title = "A"', 'see = "B"', 'notebook = "tiny.ipynb"']

    @cases("manifests")
    @given(
        st.just(sound) | st.lists(st.sampled_from(sound), max_size=4, unique=True),
        st.lists(
            st.tuples(FIELDS, TOML_VALUES) | st.tuples(st.just("outputs"), OUTPUTS), max_size=3
        ),
        st.sampled_from(["[[artefact]]", "[[artefact]]", "[artefact]", "", "[" * 2000]),
        st.just("") | st.text(max_size=9),
    )
    def try_manifest(lines: Any, fields: Any, head: str, tail: str) -> None:
        text = "\n".join([head, *lines, *(f"{key} = {value}" for key, value in fields), tail])
        (tmp_path / "manifest.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            found = manifest.load(tmp_path / "manifest.toml")
        except MemnbError as error:
            one_sentence(error)
            return
        report = tmp_path / "report"
        for artefact in found.artefacts:
            assert found.notebook(artefact).parent == tmp_path
            for file in artefact.files(report):
                assert file.resolve().is_relative_to(report)

    try_manifest()


# --- results ---------------------------------------------------------------------------------


def all_sentences(found: list[str]) -> None:
    assert all(sentence and isinstance(sentence, str) for sentence in found)


def test_a_record_is_read_or_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", "luna-2")
    record = json.loads((folder / "run.json").read_text())

    @cases("records")
    @given(changed(record).map(json.dumps) | JSON.map(json.dumps) | st.text(max_size=20)
           | st.sampled_from(["[" * 100_000, '{"config":' * 50_000]))  # fmt: skip
    def try_record(text: str) -> None:
        (folder / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        frame = rows.load_runs(tmp_path / "runs")
        assert len(frame) + len(frame.attrs["problems"]) == 1
        all_sentences(frame.attrs["problems"])
        rows.load_metrics(frame)

    try_record()


def test_rows_are_read_or_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs", "luna-2")
    frame = rows.load_runs(tmp_path / "runs")
    metrics = (folder / "metrics.jsonl").read_bytes()
    row = json.loads(metrics.splitlines()[0])
    probe = json.loads((folder / "probes.jsonl").read_text().splitlines()[0])

    @cases("rows")
    @given(
        st.lists(
            changed(row).map(json.dumps) | changed(probe).map(json.dumps) | JSON.map(json.dumps)
            | st.text(max_size=9) | st.sampled_from([json.dumps(row), "[" * 50_000]),
            max_size=4,
        ),
        st.sampled_from(["metrics.jsonl", "probes.jsonl", "removal.jsonl"]),
    )  # fmt: skip
    def try_rows(lines: list[str], name: str) -> None:
        (folder / name).write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        for load in (rows.load_metrics, rows.load_probes, rows.load_removal):
            all_sentences(load(frame).attrs["problems"])
        found = runs.verify(folder)
        all_sentences([*found.damage, *found.unchecked])

    try_rows()
