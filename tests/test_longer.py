"""Recall of more facts than training showed, as a figure, a table and a few sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from made_up_runs import write_run

from memnb.draw import beside, beside_tables, style
from memnb.evidence import rows

COUNTS = range(2, 17, 2)


def facts_of(folder: Path) -> pd.DataFrame:
    runs = rows.of_study(rows.load_runs(folder), "longer")
    return beside.by_facts(runs, rows.load_lengths(runs))


def write(folder: Path, model: str, positions: str, seed: int, start: float, end: float) -> None:
    """A run whose accuracy falls evenly from 2 facts to 16."""
    changes = {"reading": "as_intended", "positions": positions}
    here = write_run(folder, model, "recall-longer", seed, model_changes=changes)
    lines = [
        {"low": n + 1, "high": n + 1, "examples": 400,
         "accuracy": start + (end - start) * (n - 2) / 14}
        for n in COUNTS
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (here / "lengths.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def facts(tmp_path: Path) -> pd.DataFrame:
    for seed, end in enumerate((0.4, 0.5, 0.6)):
        write(tmp_path, "chunkmem-16", "none", seed, 1.0, end)
        write(tmp_path, "convchunkmem-16", "none", seed, 1.0, end - 0.1)
    write(tmp_path, "chunkmem-16", "learned", 0, 1.0, 0.3)
    write(tmp_path, "chunkmem-4", "none", 0, 0.9, 0.3)
    write_run(tmp_path, "chunkmem-16", "recall-8")
    return facts_of(tmp_path)


def test_a_length_is_a_number_of_facts_and_other_tasks_stay_out(facts: pd.DataFrame) -> None:
    assert set(facts["facts"]) == set(COUNTS)
    assert set(facts["task"]) == {"recall-longer"}
    assert beside.most_trained(facts) == 4


def test_the_figure_draws_every_seed_and_the_mean(facts: pd.DataFrame) -> None:
    figure = beside.longer(facts, "Laptop scale")
    plain, learned = figure.axes
    assert plain.get_title(loc="left") == "ChunkMem"
    curves = [line for line in plain.lines if len(line.get_xdata()) == len(COUNTS)]
    ends = [round(float(line.get_ydata()[-1])) for line in curves]
    assert ends == [40, 50, 60, 50, 30, 40, 50, 40]  # three seeds and their mean, twice
    kept = next(line for line in learned.lines if list(line.get_xdata()) == list(range(4, 17)))
    assert float(kept.get_ydata()[0]) == 100.0, "four facts, all of them held"
    assert float(kept.get_ydata()[-1]) == pytest.approx(100 * (4 + 12 / 4) / 16)
    drawn = style.attached(figure)
    assert set(drawn["model"]) == {"chunkmem-16", "convchunkmem-16"}, "one number of rows"


def test_memories_stand_against_the_better_control_without_one(tmp_path: Path) -> None:
    write(tmp_path, "chunkmem-16", "none", 0, 1.0, 0.5)
    write(tmp_path, "rmt-16", "none", 0, 1.0, 0.3)
    for model, end in (("localconv", 0.45), ("memoryless", 0.35)):
        write(tmp_path, model, "none", 0, 1.0, end)
    said = " ".join(beside_tables.longer_reading(facts_of(tmp_path)).splitlines())
    assert "Local convolution with 45 % at 16 facts: ChunkMem-16 +5.0 and RMT-16 −15.0" in said


def test_memories_between_chunks_degrade_in_panels_of_their_own(tmp_path: Path) -> None:
    for model in ("chunkmem-16", "convchunkmem-16", "rmt-16", "luna-16"):
        write_run(tmp_path, model)
    write_run(tmp_path, "chunkmem-16", "text-short")  # ListOps has more of them
    probes = rows.load_probes(rows.load_runs(tmp_path))
    figure = beside.degradation(probes)
    assert len(figure.axes) == 8  # two blocks; two measures of two memories
    colours = [{line.get_color() for line in axis.lines} for axis in figure.axes[::2]]
    chunkmem = {style.family(name).colour for name in ("chunkmem", "convchunkmem")}
    assert colours == [chunkmem, {style.family("rmt").colour}] * 2
    assert figure.axes[0].get_ylim() == figure.axes[2].get_ylim(), "one scale for both memories"
    drawn = style.attached(figure)
    assert set(drawn["task"]) == {"listops-short"}
    other = style.attached(beside.degradation(probes, task="text-short"))
    assert set(other["task"]) == {"text-short"}
    assert beside.degradation(probes.iloc[:0]).axes[0].texts[0].get_text() == style.MISSING


def test_facts_held_are_those_of_the_most_that_were_asked_for(tmp_path: Path) -> None:
    for model, accuracy in (("chunkmem-1", 0.25), ("chunkmem-16", 1.0), ("convchunkmem-1", 0.625)):
        write_run(tmp_path, model, "recall-8", accuracy=accuracy)
        write_run(tmp_path, model, "recall-4", accuracy=0.9)
    assert beside_tables.facts_held(rows.load_runs(tmp_path)) == (
        "Facts held of 8:\n  ChunkMem: 0.0 with M = 1, 8.0 with M = 16\n"
        "  ConvChunkMem: 4.0 with M = 1"
    )
    assert beside_tables.facts_held(rows.load_runs(tmp_path / "nothing")) == ""


def test_recall_is_drawn_as_accuracy_and_as_facts_held(tmp_path: Path) -> None:
    for facts, accuracy in ((4, 1.0), (8, 0.625), (16, 0.25)):
        write_run(tmp_path, "chunkmem-16", f"recall-{facts}", accuracy=accuracy)
    figure = beside.recall(rows.load_runs(tmp_path))
    above, below = figure.axes
    mean, kept = above.lines[1], below.lines[1]
    assert list(mean.get_xdata()) == list(kept.get_xdata()) == [4, 8, 16]
    assert list(mean.get_ydata()) == pytest.approx([100, 62.5, 25])
    # All of 4, half of 8, and of 16 none: those answers are guessed.
    assert list(kept.get_ydata()) == pytest.approx([4, 4, 0])
    drawn = style.attached(figure)
    assert drawn.set_index("facts")["held"].to_dict() == pytest.approx({4: 4, 8: 4, 16: 0})
    for count, some in ((8, 3), (16, 5)):
        share = pd.Series([beside.holding(some, count)])
        assert beside.held(share, pd.Series([count]))[0] == pytest.approx(some)


def test_the_table_shows_multiples_of_what_training_showed(facts: pd.DataFrame) -> None:
    table = beside_tables.longer(facts)
    assert list(table.columns[2:]) == ["4 facts", "8 facts", "12 facts", "16 facts"]
    cells = table.set_index(["Model", "Positions"])["16 facts"]
    assert cells["ChunkMem-16", "none"] == "50.0 ± 10.0 (3)"
    assert cells["ChunkMem-16", "learned"] == "30.0 (1)"


def test_the_reading_has_the_numbers_of_the_rows(facts: pd.DataFrame) -> None:
    lines = beside_tables.longer_reading(facts).splitlines()
    # The page breaks lines where it ends.
    assert all(line.endswith(".") for line in lines)
    said = " ".join(lines)
    assert "ChunkMem-16 from 93 to 50 %" in said
    assert "holding 4 facts and guessing at the others 44 %" in said
    assert "−10.0 for ChunkMem-16 (points)" in said
    assert "lower for 1 of 1 models (from −20.0 to −20.0 points)" in said


def test_every_number_of_the_reading_is_that_of_its_models(tmp_path: Path) -> None:
    """From 2 facts to 16 accuracies fall evenly, so at 4 facts a seventh of the way is gone."""
    for model, start, ends in (
        ("chunkmem-16", 0.9, (0.20, 0.20, 0.50)),
        ("convchunkmem-16", 1.0, (0.44,)),
        ("rmt-16", 1.0, (0.30,)),
        ("convrmt-16", 1.0, (0.23,)),
        ("localconv", 1.0, (0.58,)),
        ("memoryless", 1.0, (0.51,)),
    ):
        for seed, end in enumerate(ends):
            write(tmp_path, model, "none", seed, start, end)
    write(tmp_path, "chunkmem-16", "learned", 0, 1.0, 0.26)
    write(tmp_path, "rmt-16", "learned", 0, 1.0, 0.295)
    write(tmp_path, "convrmt-16", "learned", 0, 1.0, 0.33)
    assert " ".join(beside_tables.longer_reading(facts_of(tmp_path)).splitlines()) == (
        "Without positions, from 4 facts, the most in training, to 16: ChunkMem-16 from 81 to "
        "30 %, ConvChunkMem-16 from 92 to 44 %, RMT-16 from 90 to 30 %, ConvRMT-16 from 89 to "
        "23 %, Local convolution from 94 to 58 %, ConvLuna without memory from 93 to 51 %. "
        "Guessing gives 25 %, holding 4 facts and guessing at the others 44 %. The filter changes "
        "accuracy at 16 facts by +14.0 for ChunkMem-16 and −7.0 for RMT-16 (points). Against the "
        "better control without a memory, Local convolution with 58 % at 16 facts: ChunkMem-16 "
        "−28.0, ConvChunkMem-16 −14.0, RMT-16 −28.0 and ConvRMT-16 −35.0 (points). With learned "
        "positions, accuracy at 16 facts is lower for 2 of 3 models (from −4.0 to +10.0 points)."
    )


def test_the_reading_compares_only_what_has_run(tmp_path: Path) -> None:
    write(tmp_path, "localconv", "none", 0, 1.0, 0.5)
    write(tmp_path, "chunkmem-16", "learned", 0, 1.0, 0.5)
    alone = beside_tables.longer_reading(facts_of(tmp_path))
    assert alone.endswith("guessing at the others 44 %.")
    write(tmp_path, "chunkmem-16", "none", 0, 1.0, 0.5)
    said = " ".join(beside_tables.longer_reading(facts_of(tmp_path)).splitlines())
    assert said.endswith(
        " 44 %. Against the better control without a memory, Local convolution with 50 % at 16 "
        "facts: ChunkMem-16 +0.0 (points). With learned positions, accuracy at 16 facts is lower "
        "for 0 of 1 models (from +0.0 to +0.0 points)."
    )


def test_each_pair_of_memories_has_a_panel_of_its_own(tmp_path: Path) -> None:
    for model, end in (("chunkmem-16", 0.4), ("rmt-16", 0.5)):
        write(tmp_path, model, "none", 0, 1.0, end)
    write(tmp_path, "rmt-16", "learned", 0, 1.0, 0.6)
    figure = beside.longer(facts_of(tmp_path))
    (chunkmem, rmt), (none, learned) = figure.axes[:2], figure.axes[2:]
    ends = [
        {round(float(line.get_ydata()[-1])) for line in axis.lines
         if len(line.get_xdata()) == len(COUNTS)}
        for axis in (chunkmem, rmt, none, learned)
    ]  # fmt: skip
    assert ends == [{40}, {50}, set(), {60}]
    assert [text.get_text() for text in none.texts] == [style.MISSING]
    for axis in figure.axes:
        level = [line for line in axis.lines if line.get_color() == style.QUIET]
        assert 25.0 in [float(line.get_ydata()[0]) for line in level], "one answer of four"


def test_without_rows_everything_says_so(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    assert beside.longer(facts).axes[0].texts[0].get_text() == style.MISSING
    assert beside_tables.longer(facts).iloc[0, 0] == style.MISSING
    nothing = "No model without positions has a run yet."
    assert beside_tables.longer_reading(facts) == nothing
