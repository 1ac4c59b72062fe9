"""The README's numbers are those of the committed rows."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from memnb import config
from memnb.draw import style
from memnb.draw.panels import plain_models
from memnb.evidence import check, rows, statistics
from memnb.evidence.claims import UNJUDGED
from memnb.reproduce import plan

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "readme.py"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with the README, its picture and the tool, which looks only beside itself."""
    for name in ("tools/readme.py", "README.md", "docs/degradation.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_committed_readme_is_current_and_one_of_other_rows_is_noticed(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["readme.py", "--check"])
    # What is worked out from the rows takes seconds, and does not change in this test.
    tool = runpy.run_path(str(copied / "tools" / "readme.py"))["main"].__globals__
    for name in ("picture", "results"):
        monkeypatch.setitem(tool, name, functools.cache(tool[name]))
    check = tool["main"]

    assert check() == 0, capsys.readouterr().err

    readme = copied / "README.md"
    committed = readme.read_text(encoding="utf-8")
    before, after = committed.split("<!-- results:start -->")
    number = re.compile(r"(?<=\| )\d")  # the first digit of a table cell that holds a number
    assert number.search(after)
    swapped = number.sub(lambda digit: str((int(digit[0]) + 1) % 10), after, count=1)
    readme.write_text(before + "<!-- results:start -->" + swapped, encoding="utf-8")
    assert check() == 1
    assert "make readme" in capsys.readouterr().err

    readme.write_text(committed, encoding="utf-8")
    picture = copied / "docs" / "degradation.png"
    with Image.open(picture) as image:
        image.save(picture, pnginfo=_says("rows of an earlier day"))
    assert check() == 1
    assert "make readme" in capsys.readouterr().err


def test_a_verdict_that_rests_on_one_task_alone_says_so() -> None:
    runs = rows.load_runs(ROOT / "data" / "results")
    (verdict, *_) = check(runs, rows.load_removal(runs), rows.load_probes(runs))
    table = runpy.run_path(str(TOOL))["by_scale"]
    assert verdict.evidence["task"].nunique() > 1
    assert "alone" not in table([verdict])["Full scale"][0]
    on_text = verdict.evidence[verdict.evidence["task"] == "text"]
    waiting = verdict.evidence[verdict.evidence["task"] == "listops"].assign(result=UNJUDGED[0])
    only = dataclasses.replace(verdict, evidence=pd.concat([waiting, on_text]))
    assert table([only])["Full scale"][0].endswith(
        f"<br>holds in {len(on_text)} of {len(on_text)} comparisons, on Text alone"
    )


def test_a_picture_with_other_words_is_another() -> None:
    tool = runpy.run_path(str(TOOL))
    marks = set()
    for subtitle in ("Full scale", "Full scale", "thin: a seed"):
        figure, _ = style.canvas(1, 1, 2.0)
        style.heading(figure, "How alike", subtitle)
        marks.add(tool["mark"](style.attach(figure, pd.DataFrame({"step": [1]}))))
        plt.close(figure)
    assert len(marks) == 2


def _says(text: str) -> PngInfo:
    information = PngInfo()
    information.add_text("Comment", text)
    return information


def test_committed_rows_are_of_committed_code() -> None:
    """A plus sign stands behind a commit whose files had been changed: such code is nowhere."""
    runs = rows.load_runs(ROOT / "data" / "results")
    assert len(runs) > 700
    changed = [
        run_id
        for run_id, commits in zip(runs["run_id"], runs["commits"], strict=True)
        if any(commit is None or commit.endswith("+") for commit in commits)
    ]
    assert changed == []


def test_how_many_seeds_are_trained_again_is_what_is_planned() -> None:
    said = "three seeds of ListOps and Pathfinder again, but one of Luna-4 and ConvLuna-4, and none"
    said += " of Pathfinder's Transformer and PoolLuna-16."
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert said in readme
    table = readme.split("| Model | ListOps short |")[1].split("First operator alone")[0]
    planned = Counter(
        (run.task.name, run.model.name)
        for run in plan.together(plan.SETS, "quick")
        if run.model == config.standard_model(run.model, run.task)
    )
    for line in table.splitlines()[2:-1]:
        label, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for task, cell in (("listops-short", cells[0]), ("pathfinder-short", cells[-1])):
            few = 0 if task != "listops-short" and label in ("Transformer", "PoolLuna-16") else 3
            wanted = 0 if cell == "–" else 1 if label.endswith("-4") else few
            assert planned[task, label.lower()] == wanted, (label, task)


def test_what_a_page_says_of_every_full_scale_run_of_luna_holds() -> None:
    """That m' becomes more alike while the packed rows part, by cosine over all blocks."""
    cells = json.loads((ROOT / "notebooks" / "05_degradation.ipynb").read_text("utf-8"))["cells"]
    text = " ".join("".join(line for cell in cells for line in cell["source"]).split())
    assert "becomes more alike while the packed rows part" in text
    runs = plain_models(rows.load_runs(ROOT / "data" / "results"))  # the others are on no figure
    luna = runs[(runs["preset"] == "paper") & (runs["family"] == "luna") & (runs["memory"] > 1)]
    probes = rows.load_probes(luna[luna["outcome"] == "finished"])
    packed, stream = (rows.looks(probes, f"{name}_cosine") for name in ("packed", "memory"))
    assert len(packed) > 3
    assert (packed["last"] < packed["first"]).all()
    assert (stream["last"] > stream["first"]).all()


def test_what_a_page_says_of_other_kernels_on_short_pathfinder_holds() -> None:
    """Whose mean is higher, and that no difference is beyond what seeds may do."""
    cells = json.loads((ROOT / "notebooks" / "14_filters.ipynb").read_text("utf-8"))["cells"]
    text = " ".join("".join(line for cell in cells for line in cell["source"]).split())
    assert (
        "The mean is higher with a fixed difference of two neighbours, lower with a fixed mean or "
        "taps at shuffled places, but no 95 % interval of such a difference leaves out zero."
    ) in text
    runs = rows.load_runs(ROOT / "data" / "results")
    here = runs[(runs["task"] == "pathfinder-short") & (runs["model"] == "convluna-16")]
    accuracy = here.groupby("changes")["test_accuracy"].apply(list)
    for kernel, sign in (("difference", 1), ("smooth", -1), ("shuffled", -1)):
        found = statistics.difference(accuracy[f"filter_kernel={kernel}"], accuracy[""])
        assert found.effect * sign > 0
        assert found.low < 0 < found.high


def test_seeds_are_as_many_as_the_readme_says() -> None:
    runs = plain_models(rows.load_runs(ROOT / "data" / "results"))
    of_each = runs.groupby(["preset", "task", "model"])["seed"].nunique()
    full = "Up to three" if of_each["paper"].min() < 3 else "Three"
    said = f"{full} at full scale, up to ten at laptop scale; no run is picked"
    assert said in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert of_each["paper"].max() == 3
    assert of_each["quick"].max() == 10


def test_where_a_memory_was_first_looked_at_late_is_what_the_limits_say() -> None:
    said = " ".join((ROOT / "docs" / "reading.md").read_text(encoding="utf-8").split())
    assert (
        "at full scale in seed 0 of Luna-1, Luna-16, ConvLuna-1, ConvLuna-16 and the four memories "
        "between chunks on Text (500 steps) and ListOps (200 steps), and of ConvLuna-256 on "
        "ListOps; at laptop scale in a quarter of the runs (100 steps), but in none that claim C3 "
        "is judged on; on recall, of which no page shows these looks, in most (200 steps)."
    ) in said
    runs = rows.load_runs(ROOT / "data" / "results")
    of_recall = rows.load_probes(runs[runs["task"].isin(config.EXTRA_TASKS)])
    assert of_recall.groupby("run_id")["step"].min().value_counts(normalize=True)[200] > 0.5
    runs = runs[(runs["preset"] != "custom") & ~runs["task"].isin(config.EXTRA_TASKS)]
    probes = rows.load_probes(runs)
    first = probes.groupby("run_id")["step"].min()
    looked = runs[runs["run_id"].isin(first.index)].set_index("run_id").join(first.rename("first"))
    late = looked[looked["first"] > 0]
    full = late[late["preset"] == "paper"]
    models = {"luna-1", "luna-16", "convluna-1", "convluna-16", *config.CHUNK_MODELS}
    assert set(zip(full["task"], full["model"], full["seed"], full["first"], strict=True)) == {
        *(("text", model, 0, 500) for model in models),
        *(("listops", model, 0, 200) for model in {*models, "convluna-256"}),
    }
    assert set(full["changes"]) == {""}
    short = late[late["preset"] == "quick"]
    assert set(short["first"]) == {100}
    assert len(short) / (looked["preset"] == "quick").sum() == pytest.approx(1 / 4, abs=0.03)
    judged = [v.evidence for v in check(runs, rows.load_removal(runs), probes) if v.claim == "C3"]
    (laptop,) = (found[~found["result"].isin(UNJUDGED)] for found in judged[1:])
    sides = {*zip(laptop["task"], laptop["a"], strict=True)}
    sides |= {*zip(laptop["task"], laptop["b"], strict=True)}
    plain = short[short["changes"] == ""]
    assert not sides & {*zip(plain["task"], plain["model"], strict=True)}


def test_the_full_ablation_is_as_far_as_the_changes_say() -> None:
    said = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
    stored = rows.load_runs(ROOT / "data" / "results")["run_id"]
    planned = pd.DataFrame(
        [(one.task.name, one.seed, one.run_id) for one in plan.runs("ablation", "paper")],
        columns=["task", "seed", "run_id"],
    )
    there = planned["run_id"].isin(stored).groupby([planned["task"], planned["seed"]])
    assert set(there.all()["text"]) == {True}
    assert there.all()["listops", 0]
    done, all_of_it = there.sum()["listops", 1], there.size()["listops", 1]
    assert (
        "the whole ablation, in both readings, with these seeds on Text, on ListOps with seed 0 "
        f"and {done} of its {all_of_it} runs of seed 1"
    ) in said


def test_the_laptop_seeds_are_as_many_as_the_changes_say() -> None:
    said = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
    assert (
        "ten seeds of the main table (M = 1 and 16), of ConvLuna-16 without its filter or with a "
        "fixed pack temperature, of both controls, and of Luna-16 and ConvLuna-16 reading the mean "
        "as those do, on all four tasks; of memory between chunks on short ListOps, Text and "
        "Pathfinder; of the other memories (official Luna, Perceiver, Linformer) and of the fixed "
        "kernels on short ListOps and Pathfinder; on short ListOps also of M = 4, the rest of the "
        "ablation and `cls_init`. Three of the rest, but one of PoolLuna-16 with a fixed "
        "temperature and of the block that a page writes (`slots-16`)."
    ) in said
    runs = rows.load_runs(ROOT / "data" / "results")
    runs = runs[runs["preset"] == "quick"]
    seeds = runs.groupby(["task", "model", "changes"])["seed"].nunique()
    tasks = [task for task in config.TASKS if task.endswith("-short")]
    shared = ("luna-1", "luna-16", "convluna-1", "convluna-16")
    everywhere = (*plan.QUICK_MODELS, *config.FILTER_ALONE)
    ten = {(task, model, "") for task in tasks for model in everywhere}
    alike = ("luna-16", "convluna-16")
    ten |= {(task, model, "representation=mean") for task in tasks for model in alike}
    ten |= {("listops-short", model, "") for model in ("luna-4", "convluna-4")}
    ten |= {("listops-short", model, "cls_init=xavier") for model in shared}
    ten |= {
        (f"{task}-short", model, "")
        for task in ("listops", "text", "pathfinder")
        for model in config.CHUNK_MODELS
    }
    others = ("officialluna-16", "perceiver-16", "linformer-16")
    ten |= {(f"{task}-short", model, "") for task in ("listops", "pathfinder") for model in others}
    kernels = [f"filter_kernel={kernel}" for kernel in plan.KERNELS]
    ten |= {(f"{t}-short", "convluna-16", k) for t in ("listops", "pathfinder") for k in kernels}
    fixed = ("pack_temperature=unit", "pack_temperature=sqrt")
    ten |= {(task, "convluna-16", one) for task in tasks for one in ("filter=none", *fixed)}
    ten |= {("listops-short", "convluna-16", f"filter=none, {one}") for one in fixed}
    one = {("listops-short", "poolluna-16", changes) for changes in fixed}
    one.add(("listops-short", f"{config.DEMONSTRATION}-16", ""))
    wanted = {key: 10 if key in ten else 1 if key in one else 3 for key in seeds.index}
    assert seeds.to_dict() == wanted
    assert ten | one <= set(wanted)
