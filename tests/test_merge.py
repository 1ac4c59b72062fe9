"""Rows from elsewhere are verified, and taken in all together or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import amend, write_run

from memnb import cli, files, paths
from memnb.errors import MemnbError, RunError
from memnb.evidence import results, rows
from memnb.sweep import merge as module
from memnb.sweep.merge import merge


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    return tmp_path / "data" / "results"


def test_new_rows_are_added_and_known_ones_left(tmp_path: Path, committed: Path) -> None:
    first = write_run(tmp_path / "out" / "runs", "luna-1", weights=True)
    second = write_run(tmp_path / "more", "luna-16", outcome="failed", reason="NaN at step 300")
    result = merge([tmp_path / "out"], committed)
    assert result.added == (first.name,)
    assert sorted(path.name for path in (committed / first.name).iterdir()) == sorted(
        path.name for path in first.iterdir() if path.suffix != ".pt"
    )
    again = merge([tmp_path / "out", second], committed)
    assert (again.added, again.known) == ((second.name,), (first.name,))
    assert len(rows.load_runs(committed)) == 2


def test_an_archive_is_taken_like_a_folder(tmp_path: Path, committed: Path) -> None:
    run = write_run(tmp_path / "runs", "luna-1", weights=True)
    with tarfile.open(tmp_path / "rows.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "runs", "some/runs")
    assert merge([tmp_path / "rows.tar.gz"], committed).added == (run.name,)
    # The same run from two places is one row.
    other = merge([tmp_path / "rows.tar.gz", run], tmp_path / "other")
    assert other.added == (run.name,)


def test_an_archive_cut_off_between_two_runs_is_refused(tmp_path: Path, committed: Path) -> None:
    for model in ("luna-1", "luna-16"):
        write_run(tmp_path / "runs", model)
    path = tmp_path / "rows.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "runs", "runs")
    with tarfile.open(path) as archive:
        second = [member.offset for member in archive if member.isdir()][2]
    path.write_bytes(path.read_bytes()[:second])
    with pytest.raises(MemnbError, match="cut off"):
        merge([path], committed)
    assert not committed.exists()


def test_what_is_no_result_is_left_out_and_named(tmp_path: Path, committed: Path) -> None:
    here = tmp_path / "runs"
    write_run(here, "luna-1", outcome="interrupted")
    write_run(here, "luna-4", outcome="failed", reason="out of memory; use another device")
    write_run(here, "luna-8", training_changes={"steps": 10})
    real = write_run(tmp_path / "elsewhere", "luna-256")
    (here / real.name).symlink_to(real)
    good = write_run(here, "luna-16")
    result = merge([here], committed)
    assert result.added == (good.name,)
    reasons = dict(line.split(": ", 1) for line in result.left_out)
    assert len(reasons) == 4
    told = " ".join(reasons.values())
    for part in ("it is interrupted", "out of memory", "not that of the study", "it is a link"):
        assert part in told


def test_attention_maps_are_kept_of_one_seed(tmp_path: Path, committed: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / "runs", "luna-16", seed=seed)
    merge([tmp_path / "runs"], committed)
    with_maps = [path.parent.name for path in committed.glob("*/attention.npz")]
    assert [name.split("-s")[-1][0] for name in with_maps] == ["0"]


def asked_again(run: Path, *names: str) -> None:
    """As ``memnb runs examine`` leaves a run that lacked these files."""
    amend(run, examined_again=[{"files": list(names), "weights": "best.pt"}])


def test_what_a_run_was_asked_since_completes_the_row(tmp_path: Path, committed: Path) -> None:
    run = write_run(tmp_path / "runs", "luna-16")
    kept = "beginning.jsonl"
    content = (run / kept).read_bytes()
    (run / kept).unlink()
    older = tmp_path / "older" / run.name
    shutil.copytree(run, older)
    assert merge([run], committed).added == (run.name,)
    (run / kept).write_bytes(content)
    asked_again(run, kept)
    new = write_run(tmp_path / "runs", "luna-1")
    result = merge([tmp_path / "runs"], committed)
    assert (result.added, result.completed, result.known) == ((new.name,), (run.name,), ())
    assert (committed / run.name / kept).read_bytes() == content
    assert rows.read_run(committed / run.name)[0].examined_again[0].files == [kept]
    # The same again is known, and so is the copy from before.
    for source in (run, older):
        result = merge([source], committed)
        assert (result.added, result.completed, result.known) == ((), (), (run.name,))
    assert (committed / run.name / kept).exists()
    # Of two copies in one merge the later one is taken.
    for sources in ([older, run], [run, older]):
        other = tmp_path / f"other of {sources[0].parent.name}"
        assert merge(sources, other).added == (run.name,)
        assert (other / run.name / kept).exists()


@pytest.mark.parametrize("file", ["metrics.jsonl", "run.json"])
def test_a_run_asked_since_that_differs_elsewhere_is_another_result(
    file: str, tmp_path: Path, committed: Path
) -> None:
    run = write_run(tmp_path / "runs", "luna-16")
    shutil.copytree(run, committed / run.name)
    (committed / run.name / "beginning.jsonl").unlink()
    asked_again(run, "beginning.jsonl")
    if file == "run.json":
        amend(run, seconds=1.0)
    else:
        lines = (run / file).read_text().splitlines(keepends=True)
        (run / file).write_text("".join(lines[1:]))
    assert "another result is there" in merge([run], committed).left_out[0]
    assert not (committed / run.name / "beginning.jsonl").exists()


def test_a_row_is_completed_with_all_others_or_not_at_all(
    tmp_path: Path, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "runs", "luna-16")
    there = committed / run.name
    shutil.copytree(run, there)
    (there / "beginning.jsonl").unlink()
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    asked_again(run, "beginning.jsonl")
    write_run(tmp_path / "runs", "luna-1")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(results, "commit", full)
        with pytest.raises(OSError, match="No space"):
            merge([tmp_path / "runs"], committed)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before
    for name in ("run.json", "beginning.jsonl"):
        with monkeypatch.context() as patch:
            patch.setattr(results, "replacing", failing_at(name, OSError(28, "No space left")))
            with pytest.raises(MemnbError, match="nothing was changed there"):
                merge([tmp_path / "runs"], committed)
        assert {path.name: path.read_bytes() for path in there.iterdir()} == before
    assert [path.name for path in committed.iterdir()] == [run.name]


def failing_at(name: str, error: BaseException) -> Any:
    """:func:`memnb.files.replacing`, which fails at files of that name."""

    def replacing(path: Path) -> Any:
        if path.name == name:
            raise error
        return files.replacing(path)

    return replacing


@pytest.mark.parametrize("name", ["run.json", "beginning.jsonl"])
def test_what_a_killed_merge_did_not_add_the_next_one_adds(
    name: str, tmp_path: Path, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "runs", "luna-16")
    there = committed / run.name
    shutil.copytree(run, there)
    (there / "beginning.jsonl").unlink()
    asked_again(run, "beginning.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(results, "replacing", failing_at(name, SystemExit()))
        patch.setattr(results, "take_back", lambda *_: None)  # nobody is left to do it
        with pytest.raises(SystemExit):
            merge([run], committed)
    assert merge([run], committed).completed == (run.name,)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        path.name: path.read_bytes() for path in run.iterdir()
    }


def test_a_damaged_file_completes_no_row(tmp_path: Path, committed: Path) -> None:
    run = write_run(tmp_path / "runs", "luna-16")
    shutil.copytree(run, committed / run.name)
    (committed / run.name / "beginning.jsonl").unlink()
    asked_again(run, "beginning.jsonl")
    with (run / "beginning.jsonl").open("a") as file:
        file.write('{"kept": 5')
    with pytest.raises(MemnbError, match=r"ends in a torn line .*; nothing was added"):
        merge([run], committed)
    assert not (committed / run.name / "beginning.jsonl").exists()


# --- what is refused: nothing at all is then added -------------------------------------------


def another_id(run: Path) -> None:
    amend(run, run_id=json.loads((run / "run.json").read_text())["run_id"][:-1] + "x")


def another_config(run: Path) -> None:
    config = json.loads((run / "run.json").read_text())["config"]
    amend(run, config={**config, "seed": 7})


def an_outside_id(run: Path) -> None:
    amend(run, run_id="../../outside")


def a_newer_format(run: Path) -> None:
    amend(run, format=2)


def no_json(run: Path) -> None:
    (run / "run.json").write_text("[" * 100_000)


def a_list(run: Path) -> None:
    (run / "run.json").write_text("[]")


def another_accuracy(run: Path) -> None:
    amend(run, test_accuracy=0.99)


def no_metrics(run: Path) -> None:
    (run / "metrics.jsonl").unlink()


def no_test_line(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def two_test_lines(run: Path) -> None:
    path = run / "metrics.jsonl"
    *_, tested = path.read_text().splitlines(keepends=True)
    path.write_text(path.read_text() + tested.replace("0.35", "0.36"))


def torn_metrics(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])


def deep_metrics(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text("[" * 10**5 + "\n" + path.read_text())


def a_newer_version(run: Path) -> None:
    amend(run, version="9.9.9")


def a_torn_line(run: Path) -> None:
    with (run / "probes.jsonl").open("a") as file:
        file.write('{"step": 5')


def change_line(path: Path, **values: Any) -> None:
    """Change the first of several lines; None takes a key away."""
    first, *others = path.read_text().splitlines()
    line = {key: value for key, value in (json.loads(first) | values).items() if value is not None}
    path.write_text("\n".join([json.dumps(line), *others]) + "\n")


def no_examples(run: Path) -> None:
    change_line(run / "causal.jsonl", examples=None)


def a_huge_count(run: Path) -> None:
    change_line(run / "causal.jsonl", kept=10**30)


def a_broken_picture(run: Path) -> None:
    (run / "attention.npz").write_bytes(b"nothing")


def a_link(run: Path) -> None:
    (run / "probes.jsonl").unlink()
    (run / "probes.jsonl").symlink_to("/etc/passwd")


def a_pipe(run: Path) -> None:
    (run / "run.json").unlink()
    os.mkfifo(run / "run.json")


def too_much(run: Path) -> None:
    with (run / "removal.jsonl").open("wb") as file:
        file.truncate(module.MOST_BYTES + 1)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (another_id, "but its config is that of"),
        (another_config, "but its config is that of"),
        (an_outside_id, "but its config is that of"),
        (a_newer_format, "has format 2, but this memnb reads format 1"),
        (no_json, "could not be read"),
        (a_list, "is no record of a run"),
        (another_accuracy, "says a test accuracy of 0.99, but metrics.jsonl says [0.35]"),
        (no_metrics, "metrics.jsonl is missing or empty"),
        (no_test_line, "but metrics.jsonl says []"),
        (two_test_lines, "but metrics.jsonl says [0.35, 0.36]"),
        (torn_metrics, "metrics.jsonl ends in a torn line"),
        (deep_metrics, "metrics.jsonl has a damaged line 1"),
        (a_newer_version, "update memnb"),
        (a_torn_line, "ends in a torn line"),
        (no_examples, "causal.jsonl has a damaged line 1"),
        (a_huge_count, "causal.jsonl has a damaged line 1"),
        (a_broken_picture, "attention.npz is damaged"),
        (a_link, "is a link or device"),
        (a_pipe, "is a link or device"),
        (too_much, "but a result has at most"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_trusted_is_refused(
    harm: Any, message: str, tmp_path: Path, committed: Path
) -> None:
    write_run(tmp_path / "runs", "luna-1")
    harm(write_run(tmp_path / "runs", "luna-16"))
    with pytest.raises(MemnbError) as error:
        merge([tmp_path / "runs"], committed)
    assert message in str(error.value)
    assert not committed.exists() or list(committed.iterdir()) == []


def test_two_results_of_one_run_are_refused(tmp_path: Path, committed: Path) -> None:
    write_run(tmp_path / "a", "luna-1", accuracy=0.31)
    write_run(tmp_path / "b", "luna-1", accuracy=0.32)
    with pytest.raises(MemnbError, match="are two results of one run"):
        merge([tmp_path / "a", tmp_path / "b"], committed)
    assert not committed.exists()


def test_a_run_that_was_trained_again_keeps_no_other_from_being_added(
    tmp_path: Path, committed: Path
) -> None:
    known = results.commit(write_run(tmp_path / "a", "luna-1", accuracy=0.31), committed)
    before = {path.name: path.read_bytes() for path in known.iterdir()}
    # As in runs/ after 'memnb reproduce' and 'memnb sweep'.
    write_run(tmp_path / "runs", "luna-1", accuracy=0.32)
    new = write_run(tmp_path / "runs", "luna-16")
    result = merge([tmp_path / "runs"], committed)
    assert (result.added, result.known, result.completed) == ((new.name,), (), ())
    assert result.left_out == (
        f"{known.name}: another result is there (test accuracy 31.00%, here test accuracy "
        "32.00%; run.json differs), and stays.",
    )
    assert {path.name: path.read_bytes() for path in known.iterdir()} == before


def test_one_damaged_record_says_that_nothing_is_added(tmp_path: Path, committed: Path) -> None:
    write_run(tmp_path / "a", "luna-1")
    hurt = write_run(tmp_path / "b", "luna-16")
    for values in ({"run_id": "x"}, {"test_accuracy": None}, {"step": "5"}, {"config": {}}):
        before = (hurt / "run.json").read_text()
        amend(hurt, **values)
        with pytest.raises(MemnbError) as error:
            merge([tmp_path / "a", tmp_path / "b"], committed)
        assert str(error.value).endswith("; nothing was added.")
        assert "left out" not in str(error.value)
        assert not committed.exists()
        (hurt / "run.json").write_text(before)


# --- the same result, or another one ---------------------------------------------------------

BESIDE_THE_RECORD = [name for name in rows.RESULT_FILES if name != "run.json"]
#: Without one of them, a copy is refused for that.
NEEDED = ["metrics.jsonl", "probes.jsonl", "removal.jsonl"]


def alter(path: Path) -> None:
    """Other content that is sound as well."""
    if path.suffix == ".npz":
        np.savez(path, tokens=np.arange(3))
    else:
        path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize("harm", [alter, Path.unlink])
@pytest.mark.parametrize("name", BESIDE_THE_RECORD)
def test_a_copy_with_another_file_is_another_result(
    name: str, harm: Any, tmp_path: Path, committed: Path
) -> None:
    run = write_run(tmp_path / "a", "convluna-16")
    copy = tmp_path / "b" / run.name
    shutil.copytree(run, copy)
    # Both are sound in themselves; where one is not, it is refused for that.
    harm(copy / name)
    with pytest.raises(MemnbError, match=name):
        merge([run, copy], committed)
    assert not committed.exists()
    there = results.commit(run, committed)
    before = {path.name: path.read_bytes() for path in there.iterdir()}
    if (copy / name).exists() or name not in NEEDED:
        assert f"{name} differs" in merge([copy], committed).left_out[0]
    with pytest.raises(MemnbError, match=name):
        results.commit(copy, committed)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before


def test_attention_maps_that_committing_leaves_out_make_no_other_result(
    tmp_path: Path, committed: Path
) -> None:
    run = write_run(tmp_path / "runs", "luna-16", seed=1)
    there = results.commit(run, committed)
    assert not (there / "attention.npz").exists()
    assert merge([run], committed).known == (run.name,)
    assert results.commit(run, committed) == there
    assert merge([run, there], tmp_path / "other").added == (run.name,)


# --- incomplete results ----------------------------------------------------------------------


def empty(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize("harm", [Path.unlink, empty])
@pytest.mark.parametrize("name", NEEDED)
def test_a_finished_run_without_what_every_one_has_is_refused(
    name: str, harm: Any, tmp_path: Path, committed: Path
) -> None:
    write_run(tmp_path / "runs", "luna-1")
    harm(write_run(tmp_path / "runs", "luna-16") / name)
    with pytest.raises(MemnbError, match=f"{name} is missing or empty.*nothing was added"):
        merge([tmp_path / "runs"], committed)
    assert not committed.exists()


def test_no_more_is_asked_of_a_run_than_its_model_has(tmp_path: Path, committed: Path) -> None:
    for model in ("transformer", "luna-1", "luna-16"):
        run = write_run(tmp_path / "runs", model, attention=False)
        for name in ("lengths.jsonl", "causal.jsonl", "usage.jsonl"):
            (run / name).unlink(missing_ok=True)
    failed = write_run(tmp_path / "runs", "luna-4", outcome="failed", reason="NaN at step 300")
    (failed / "probes.jsonl").unlink()
    assert len(merge([tmp_path / "runs"], committed).added) == 4


def test_all_committed_rows_pass() -> None:
    stored = paths.stored_results()
    result = merge([stored], stored)
    assert sorted(result.known) == sorted(path.name for path in rows.run_folders([stored]))
    assert (result.added, result.left_out, result.notes) == ((), (), ())


# --- rows that other code has made -----------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({}, None),
        ({"commit": None}, None),
        ({"version": "0.0.9"}, "was made by memnb '0.0.9', but this is 0.1.0"),
        ({"version": "0.1.0rc1"}, "was made by memnb '0.1.0rc1', but this is 0.1.0"),
        ({"version": None}, "was made by memnb None"),
        ({"version": "\ud800\x1b[2J"}, r"was made by memnb '\ud800\x1b[2J'"),
        ({"commit": "0123456789ab+"}, "was made by code with uncommitted changes"),
    ],
)
def test_rows_made_by_other_code_are_noted(
    values: dict[str, Any],
    note: str | None,
    tmp_path: Path,
    committed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "__version__", "0.1.0")
    run = write_run(tmp_path / "runs", "luna-16")
    amend(run, **values)
    result = merge([tmp_path / "runs"], committed)
    assert result.added == (run.name,)
    assert len(result.notes) == (note is not None)
    assert f"{run.name} {note or ''}" in f"{''.join(result.notes)}{run.name} "
    # What was there already is not told again.
    assert merge([tmp_path / "runs"], committed).notes == ()


@pytest.mark.parametrize(
    ("version", "newer"),
    [("0.9.1", False), ("0.10", False), ("0.10.0.0", False), ("0.10.1", True), ("0.11.dev1", True),
     ("1", True), ("9" * 5000, True), ("new", False)],
)  # fmt: skip
def test_versions_are_compared_as_numbers(
    version: str, newer: bool, tmp_path: Path, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__version__", "0.10.0")
    amend(write_run(tmp_path / "runs", "luna-16"), version=version)
    if newer:
        with pytest.raises(MemnbError, match="update memnb"):
            merge([tmp_path / "runs"], committed)
    else:
        assert len(merge([tmp_path / "runs"], committed).notes) == 1


@pytest.mark.parametrize("name", ["../luna/run.json", "/luna/run.json", "link"])
def test_an_archive_that_leads_outside_is_refused(
    name: str, tmp_path: Path, committed: Path
) -> None:
    run = write_run(tmp_path / "runs", "luna-1")
    with tarfile.open(tmp_path / "rows.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
        else:
            member.size = (run / "run.json").stat().st_size
            with (run / "run.json").open("rb") as file:
                archive.addfile(member, file)
    with pytest.raises(MemnbError, match=r"leads outside of it|is a link or device"):
        merge([tmp_path / "rows.tar"], committed)
    assert not committed.exists()


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("luna-1", "luna-16"):
        write_run(tmp_path / "runs", model)
    copied: list[str] = []

    def copyfile(source: Path, target: Path) -> None:
        if len(copied) == 7:
            raise OSError(28, "No space left on device")
        copied.append(str(source))
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(MemnbError, match="No space left"):
        merge([tmp_path / "runs"], committed)
    assert list(committed.iterdir()) == []


def test_a_merge_that_fails_takes_no_row_away_that_another_one_has_added(
    tmp_path: Path, committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (write_run(tmp_path / "runs", model) for model in ("luna-1", "luna-16"))
    commit = results.commit

    def of_another(run: Path) -> list[str]:
        """What the last look before committing sees, and what another merge does after it."""
        commit(first, committed)
        return []

    def fail(run: Path, folder: Path) -> Path:
        if run == second:
            raise RunError("The disk is full.")
        return commit(run, folder)

    monkeypatch.setattr(module, "_origin", of_another)
    monkeypatch.setattr(results, "commit", fail)
    with pytest.raises(RunError, match="disk is full"):
        merge([tmp_path / "runs"], committed)
    assert [path.name for path in committed.iterdir()] == [first.name]


@pytest.mark.parametrize("kind", ["nothing", "an empty folder"])
def test_a_source_without_a_run_is_named(kind: str, tmp_path: Path, committed: Path) -> None:
    source = tmp_path / "source"
    if kind == "an empty folder":
        source.mkdir()
    with pytest.raises(MemnbError, match=r"There is no file or folder|holds no run"):
        merge([source], committed)


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "stored_results", lambda: tmp_path / "results")
    run = write_run(tmp_path / "runs", "luna-1")
    assert cli.main(["results", "merge", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert f"added {run.name}" in out
    assert "1 row added to" in out
    assert cli.main(["results", "merge"]) == 2
    assert "needs a PATH" in capsys.readouterr().err
    assert cli.main(["results", "marge", "x"]) == 2
    assert "did you mean 'merge'" in capsys.readouterr().err
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert cli.main(["results", "merge", str(tmp_path / "runs")]) == 1
    assert "a wheel" in capsys.readouterr().err
