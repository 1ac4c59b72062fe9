"""The findings in short say what the rows say, and nothing where there are none."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pandas as pd
from made_up_runs import write_run, write_runs

from memnb import evidence
from memnb.draw import summary
from memnb.evidence import claims, published, rows, sensitivity

LISTOPS = "Is more of ListOps read than its first token?"
ALIKE = "Do the rows of Luna's memory become alike in training?"


def in_short(folder: Path, known: pd.DataFrame | None = None) -> summary.Short:
    runs = rows.load_runs(folder)
    removal, probes = rows.load_removal(runs), rows.load_probes(runs)
    verdicts = evidence.check(runs, removal, probes)
    return summary.in_short(
        runs, verdicts, published.load() if known is None else known,
        removal=removal, probes=probes, causal=rows.load_causal(runs),
        beginning=rows.load_beginning(runs),
    )  # fmt: skip


def findings(folder: Path) -> dict[str, list[str]]:
    """What each finding says of the tasks, in their order."""
    table = in_short(folder).table
    return {row[0]: row[1:] for row in table.to_numpy().tolist()}


def seeds(folder: Path) -> str:
    return summary.seeds(rows.load_runs(folder))


def test_without_full_scale_runs_there_is_nothing_to_say(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1", "listops-short")
    write_run(tmp_path, "convluna-1", "listops-short")
    short = in_short(tmp_path)
    assert short.table.empty
    assert (short.gist, short.answers, short.notes) == ([], {}, [])
    assert seeds(tmp_path) == "no run yet"


def test_the_heading_counts_seeds_of_each_model(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1", "text")
    assert seeds(tmp_path) == "1 seed of each model and task so far; a verdict needs 3"
    for seed in (0, 1, 2):
        write_run(tmp_path, "convluna-1", "text", seed)
    assert seeds(tmp_path) == "1 to 3 seeds of each model and task so far; a verdict needs 3"
    for seed in (1, 2):
        write_run(tmp_path, "luna-1", "text", seed)
    assert seeds(tmp_path) == "3 seeds of each model and task"
    write_run(tmp_path, "luna-16", "text", outcome="failed", reason="the loss diverged")
    assert seeds(tmp_path).startswith("0 to 3 seeds of each model and task so far")
    runs = rows.load_runs(tmp_path)
    others = runs.iloc[:1].assign(task="image", run_id="a")
    for other in ({"changes": "filter=none"}, {"preset": "quick"}):
        both = pd.concat([runs[runs["outcome"] == "finished"], others.assign(**other)])
        assert summary.seeds(both) == "3 seeds of each model and task"


GAINS = "Is ConvLuna more accurate than Luna?"


def test_gains_are_those_of_the_same_memory(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, "luna-1", "text", seed=seed, accuracy=0.60 + 0.01 * seed)
        write_run(tmp_path, "convluna-1", "text", seed=seed, accuracy=0.70)
        write_run(tmp_path, "convluna-16", "text", seed=seed, accuracy=0.80)
    assert in_short(tmp_path).answers[GAINS] == (
        "With as many memory rows, in points: +9.0 on Text (holds in 1 of 1 comparison). Besides "
        "the filter ConvLuna has a learned pack temperature, an unpack temperature of 1, and no "
        "value projection; claim C4 takes filter and pack temperature away."
    )
    write_run(tmp_path, "luna-16", "text", accuracy=0.81)
    write_run(tmp_path, "luna-1", "image", accuracy=0.4)
    write_run(tmp_path, "convluna-1", "image", accuracy=0.5)
    write_run(tmp_path, "poolluna-16", "listops", accuracy=0.45)
    assert (
        in_short(tmp_path)
        .answers[GAINS]
        .startswith(
            "With as many memory rows, in points: −1.0 to +9.0 on Text (holds in 1 of 1 that can "
            "be judged), +10.0 on Image (none can be judged yet). Besides"
        )
    )


def test_a_filter_without_a_luna_beside_it_has_no_gain(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-1", "text", accuracy=0.7)
    write_run(tmp_path, "luna-16", "text", accuracy=0.6)
    assert GAINS not in in_short(tmp_path).answers


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    write_runs(tmp_path, "transformer", [0.60, 0.60, 0.78], task="text")
    write_run(tmp_path, "convluna-1", "text", accuracy=0.7)  # nobody else's model
    xavier = {"cls_init": "xavier"}
    write_run(tmp_path, "transformer", "text", accuracy=0.9, model_changes=xavier)
    assert findings(tmp_path)["Transformer, accuracy (others')"] == ["66.0 (64.3 to 65.2)"]
    assert not any("ConvLuna-1 (" in name for name in findings(tmp_path))
    assert in_short(tmp_path).notes[0] == (
        "Accuracy: in percent, mean over seeds; in brackets what others published, of other "
        "setups. On Text each number of ours is the best of up to 50 evaluations of the test "
        "set, as in the authors' code."
    )
    known = published.load()
    without = known.assign(accuracy=known["accuracy"].where(known["task"] != "text"))
    assert not any("others" in name for name in in_short(tmp_path, without).table.iloc[:, 0])


def test_only_numbers_on_text_are_the_best_of_many_evaluations(tmp_path: Path) -> None:
    write_run(tmp_path, "transformer", "listops", accuracy=0.35)
    assert (
        in_short(tmp_path).notes[0].endswith("in brackets what others published, of other setups.")
    )


def test_numbers_of_the_paper_itself_are_not_those_of_others(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", "image", accuracy=0.5)
    known = published.load()
    own = (known["source"] == published.PAPER) & (known["task"] == "image")
    assert own.any()
    known.loc[own, "accuracy"] = 50.0
    assert not any("others published" in note for note in in_short(tmp_path, known).notes)


def test_the_best_control_stands_beside_the_best_convluna(tmp_path: Path) -> None:
    write_run(tmp_path, "localconv", "text", accuracy=0.81)
    assert in_short(tmp_path).answers == {}
    write_run(tmp_path, "memoryless", "text", accuracy=0.78)
    write_run(tmp_path, "convluna-1", "text", accuracy=0.77)
    write_run(tmp_path, "convluna-16", "text", 0, accuracy=0.82)
    write_run(tmp_path, "convluna-16", "text", 1, accuracy=0.84)
    write_run(tmp_path, "convluna-4", "image", accuracy=0.5)
    assert in_short(tmp_path).answers["Does the filter need a memory?"] == (
        "The better control has 81.0 on Text (Local convolution, n = 1), where the "
        "best ConvLuna has 83.0 (M = 16). Controls read the mean of all positions, ConvLuna the "
        "first one (CLS)."
    )


def test_the_best_convluna_is_that_of_the_same_task_by_its_mean(tmp_path: Path) -> None:
    for task, best in (("listops", 0.4), ("text", 0.8)):
        write_runs(tmp_path, "localconv", [best - 0.2, best - 0.1, best - 0.03], task=task)
        write_run(tmp_path, "memoryless", task, accuracy=best - 0.2)
        write_runs(tmp_path, "convluna-1", [best - 0.06, best, best], task=task)
        write_run(tmp_path, "convluna-16", task, accuracy=best - 0.01)
    said = in_short(tmp_path).answers["Does the filter need a memory?"]
    assert said.startswith(
        "Whether the filter without a memory explains ConvLuna is open on ListOps with M = 1 and "
        "Text with M = 1. The better control has 29.0 on ListOps (Local convolution, n = 3), where "
        "the best ConvLuna has 39.0 (M = 16); 69.0 on Text (Local convolution, n = 3), where the "
        "best ConvLuna has 79.0 (M = 16). Controls"
    )
    assert said.endswith(", ConvLuna the first one (CLS).")
    mean = {"representation": "mean"}
    write_runs(tmp_path, "convluna-16", [0.9] * 3, task="text", model_changes=mean)
    said = in_short(tmp_path).answers["Does the filter need a memory?"]
    assert said.endswith(", ConvLuna the first one (CLS) where it does not say mean.")


def test_the_gist_has_gains_controls_likeness_and_losses(tmp_path: Path) -> None:
    """Largest gain first; what the filter does alone only where it is the same for every M."""
    for task, luna, ours in (("listops", 0.40, 0.50), ("text", 0.60, 0.80)):
        kept = {16: luna, 8: luna, 1: luna}
        write_run(tmp_path, "luna-16", task, accuracy=luna, removal=kept, probes=False)
        left = {16: ours, 8: ours - 0.05, 1: 0.2}
        write_runs(tmp_path, "convluna-16", [ours] * 3, task=task, removal=left)
        write_run(tmp_path, "convluna-1", task, accuracy=0.99)  # one seed: nothing follows
    write_run(tmp_path, "luna-1", "text", accuracy=0.96)
    write_runs(tmp_path, "memoryless", [0.80] * 3, task="text")
    assert in_short(tmp_path).gist == [
        "ConvLuna's accuracy minus Luna's, with as many memory rows, in points: +3.0 to +20.0 on "
        "Text, +10.0 on ListOps.",
        "The filter without a memory explains ConvLuna on Text.",
        "Without half of its 16 rows, chosen at random, Luna-16 loses 0.0 points, ConvLuna-16 "
        "loses 5.0 points.",
    ]
    write_runs(tmp_path, "convluna-4", [0.7, 0.8, 0.9], task="text")
    assert "without a memory" not in " ".join(in_short(tmp_path).gist), "open with M = 4"


def test_what_half_of_the_rows_are_worth_is_a_mean_of_each_task_over_runs_that_learned(
    tmp_path: Path,
) -> None:
    for task, seed, whole, half in (
        ("text", 0, 0.70, 0.66), ("text", 1, 0.70, 0.68), ("text", 2, 0.52, 0.10),
        ("image", 0, 0.40, 0.39), ("listops", 0, 0.19, 0.05),
    ):  # fmt: skip
        left = {16: whole, 8: half, 1: 0.1}
        write_run(tmp_path, "luna-16", task, seed, whole, removal=left, probes=False)
    assert in_short(tmp_path).gist == [
        "Without half of its 16 rows, chosen at random, Luna-16 loses 1.0 to 3.0 points."
    ]


def test_a_gain_without_rows_has_the_minus_of_all_numbers(tmp_path: Path) -> None:
    gains = {16: 0.60, 8: 0.62, 1: 0.60}
    write_run(tmp_path, "luna-16", "text", accuracy=0.60, removal=gains, probes=False)
    assert in_short(tmp_path).gist[-1].endswith("Luna-16 loses −2.0 points.")


def lost(folder: Path, model: str) -> list[list[str]]:
    """Points lost with 8 and with 1 of 16 rows left, by task."""
    found = findings(folder)
    return [found[f"{model}, points lost with {kept} of 16 rows left"] for kept in (8, 1)]


def test_what_a_run_loses_is_its_own_difference(tmp_path: Path) -> None:
    whole = {16: 0.70, 8: 0.65, 4: 0.6, 1: 0.55}
    write_run(tmp_path, "luna-16", "text", 0, accuracy=0.70, removal=whole)
    write_run(tmp_path, "luna-16", "text", 1, accuracy=0.90, removal={16: 0.90, 8: 0.85})
    write_run(tmp_path, "luna-16", "text", 2, accuracy=0.50, removal={16: 0.5, 8: 0.5, 1: 0.5})
    assert lost(tmp_path, "Luna-16") == [["5.0"], ["15.0"]], "of the one run that has all three"


def test_what_seeds_lose_is_a_mean(tmp_path: Path) -> None:
    for seed, half in enumerate((0.70, 0.70, 0.682)):
        kept = {16: 0.70, 8: half, 1: 0.5 if seed else 0.47}
        write_run(tmp_path, "luna-16", "text", seed, accuracy=0.70, removal=kept)
    assert lost(tmp_path, "Luna-16") == [["0.6"], ["21.0 (20.0 to 23.0)"]]


def test_seeds_that_lose_quite_different_amounts_are_told_apart(tmp_path: Path) -> None:
    for seed, half in enumerate((0.702, 0.52)):
        kept = {16: 0.70, 8: half, 1: 0.5 + seed / 100}
        write_run(tmp_path, "luna-16", "text", seed, accuracy=0.70, removal=kept)
    assert lost(tmp_path, "Luna-16") == [["8.9 (−0.2 to 18.0)"], ["19.5"]]
    (said,) = in_short(tmp_path).notes[-1:]
    assert "from seed to seed, where that is more than 2 points" in said
    assert said.endswith("Always the same answer gives 50 on Text.")


def test_only_the_runs_that_are_shown_say_how_rows_were_chosen(tmp_path: Path) -> None:
    for model in ("luna-16", "rmt-16"):
        kept = {16: 0.70, 8: 0.69, 1: 0.5}
        folder = write_run(tmp_path, model, "text", accuracy=0.70, removal=kept)
        if model == "luna-16":  # an older run
            lines = (folder / "removal.jsonl").read_text()
            (folder / "removal.jsonl").write_text(lines.replace(', "orders": 500', ""))
    assert "One random choice of rows per run." in in_short(tmp_path).notes[-1]


def test_rows_taken_away_cost_what_the_whole_test_set_says(tmp_path: Path) -> None:
    kept = {16: 0.65, 8: 0.652, 4: 0.6, 1: 0.5}
    write_run(tmp_path, "luna-16", "text", accuracy=0.65, removal=kept)
    kept = {16: 0.50, 8: 0.40, 4: 0.3, 1: 0.1}
    write_run(tmp_path, "convluna-16", "image", accuracy=0.5, removal=kept)
    write_run(
        tmp_path, "convluna-16", "image", model_changes={"filter": "none"},
        removal={16: 0.5, 8: 0.1},
    )  # fmt: skip
    assert lost(tmp_path, "Luna-16") == [["−0.2", "–"], ["15.0", "–"]]
    assert lost(tmp_path, "ConvLuna-16") == [["–", "10.0"], ["–", "40.0"]]


def test_rows_that_are_all_their_mean_cost_what_the_same_examples_say(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "luna-16", "text", accuracy=0.70)
    lines = [json.loads(line) for line in (folder / "causal.jsonl").read_text().splitlines()]
    asked = {"intact": 0.69, "mean": 0.64}
    changed = [line | {"accuracy": asked.get(line["test"], 0.5)} for line in lines]
    (folder / "causal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    # A run that has learned nothing has nothing to lose.
    dull = write_run(tmp_path, "luna-16", "text", 1, accuracy=0.51)
    (dull / "causal.jsonl").write_text((folder / "causal.jsonl").read_text().replace("0.64", "0.1"))
    name = "points lost with every row the mean of all"
    assert findings(tmp_path)[f"Luna-16, {name}"] == ["5.0"]
    assert f"ConvLuna-16, {name}" not in findings(tmp_path)


def test_where_fewer_seeds_were_asked_than_have_run_it_says_so(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(tmp_path, "luna-16", "text", seed, accuracy=0.70, removal={16: 0.7, 8: 0.6, 1: 0})
    assert "The mean of all: on 500 test examples. In brackets" in in_short(tmp_path).notes[-1]
    (next(tmp_path.glob("text-luna-16-s0-*")) / "causal.jsonl").unlink()  # an older run
    assert (
        "The mean of all: on 500 test examples; not every seed was asked: Luna-16 on Text 2 of 3. "
        "In brackets" in in_short(tmp_path).notes[-1]
    )


def test_verdicts_that_hang_on_a_choice_are_named(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.70, 0.71, 0.72, 0.3, 0.9)):
        write_run(tmp_path, "convluna-16", "text", seed, accuracy=accuracy)
    for seed, accuracy in enumerate((0.60, 0.61, 0.62)):
        write_run(tmp_path, "luna-16", "text", seed, accuracy=accuracy)
    runs = rows.load_runs(tmp_path)
    under = sensitivity.verdicts(
        runs, rows.load_removal(runs), rows.load_probes(runs), rows.load_metrics(runs)
    )
    said = summary.under_other_choices(under)
    assert said == (
        "4 other choices of seeds, accuracies, runs and intervals give other numbers to 2 of the "
        "verdicts, and change 1 of them: C1 at full scale would be *supported* (seeds 0 to 2 only, "
        "seed by seed)."
    )
    same = dict.fromkeys(under, under[sensitivity.AS_JUDGED])
    assert summary.under_other_choices(same).endswith(
        "give other numbers to 0 of the verdicts, and change 0 of them."
    )


def judged(answer: str, claim: str, preset: str, *results: str) -> claims.Verdict:
    """A verdict whose comparisons ended so."""
    nothing = rows.load_runs()
    (some, *_) = evidence.check(nothing, rows.load_removal(nothing), rows.load_probes(nothing))
    return dataclasses.replace(
        some, claim=claim, preset=preset, verdict=answer, evidence=pd.DataFrame({"result": results})
    )


def test_each_other_verdict_is_named_with_the_choices_that_give_it() -> None:
    first = judged("supported", "C1", "paper", "holds")
    second = judged("not supported", "C2", "quick", "not shown")
    third = judged("not enough runs", "C3", "quick", "not enough runs")
    partly = judged("partly supported", "C1", "paper", "holds", "not shown")
    under = {
        sensitivity.AS_JUDGED: [first, second, third],
        "one": [partly, judged("not supported", "C2", "quick", "ruled out"), third],
        "two": [
            partly,
            judged("supported", "C2", "quick", "holds"),
            judged("not enough runs", "C3", "quick", "neither has learned"),  # none is judged
        ],
        "three": [judged("not supported", "C1", "paper", "not shown"), second, third],
    }
    assert summary.under_other_choices(under) == (
        "3 other choices of seeds, accuracies, runs and intervals give other numbers to 2 of the "
        "verdicts, and change 2 of them: C1 at full scale would be *partly supported* (one, two) "
        "or *not supported* (three); C2 at laptop scale would be *supported* (two)."
    )
    # Other numbers count, whether or not a comparison holds.
    more = judged("not supported", "C2", "quick", "not shown", "not shown")
    for other in (under["one"][1], more):
        same = {sensitivity.AS_JUDGED: [second], "one": [other]}
        said = summary.under_other_choices(same)
        assert said.endswith("other numbers to 1 of the verdicts, and change 0 of them.")


def test_on_listops_the_rule_without_a_memory_is_named_too(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1", "listops", 0, accuracy=0.36)
    write_run(tmp_path, "luna-1", "listops", 1, accuracy=0.38)
    write_run(tmp_path, "luna-1", "listops-short", accuracy=0.9)
    # Of the same name and task, but no full protocol.
    write_run(tmp_path, "luna-1", "listops", 2, 0.9, training_changes={"steps": 100})
    said = in_short(tmp_path).answers[LISTOPS]
    assert "a rule that reads the first token alone" in said
    assert said.endswith("With a run more than 2 points above it: Luna-1.")
    (note,) = in_short(tmp_path).notes
    assert "1 of 1 model loses more than 2 points, 21.0 (Luna-1), which leaves 16.0, where" in note
    assert "Seeds that were asked, of each: 2." in note
    for file in tmp_path.rglob("beginning.jsonl"):
        file.unlink()
    assert in_short(tmp_path).notes == []


def alike(folder: Path, model: str = "Luna-16") -> list[list[str]]:
    """Cosine and effective rank of the last block, first and last, by task."""
    found = findings(folder)
    names = ("cosine", "effective rank")
    return [found.get(f"{model}, last block: {name}", []) for name in names]


def test_how_alike_rows_are_at_first_and_at_last(tmp_path: Path) -> None:
    assert alike(tmp_path) == [[], []]
    flat = {"packed_cosine": 0.99, "packed_rank": 1.2}
    write_run(tmp_path, "luna-16", "listops", 0, probes=flat)
    cosine, rank = (float(f"{begun(tmp_path, name):.5f}") for name in flat)
    assert alike(tmp_path) == [[f"{cosine:.2f} → 0.99"], [f"{rank:.1f} → 1.2"]]
    write_run(tmp_path, "luna-16", "listops", 1, probes={**flat, "packed_cosine": 0.90})
    write_run(tmp_path, "luna-1", "image")
    assert alike(tmp_path)[0][0].endswith(" → 0.90 to 0.99"), "of runs that end apart a range"
    said = in_short(tmp_path).answers[ALIKE]
    assert "at the last: it falls in 0 of 2 runs." in said
    assert "comparisons of C3" not in said, "two seeds are too few"
    assert alike(tmp_path)[1][0].endswith(" → 1.2"), "of runs that agree, the mean"
    write_run(tmp_path, "convluna-16", "text", probes=flat)
    assert alike(tmp_path, "ConvLuna-16")[0][1].endswith(" → 0.99")
    assert alike(tmp_path)[0][1:] == ["–"]


def test_rows_that_were_alike_before_training_did_not_become_so(tmp_path: Path) -> None:
    flat = {"packed_cosine": 0.99, "packed_rank": 1.2}
    for seed in range(3):
        folder = write_run(tmp_path, "luna-16", "listops", seed, accuracy=0.4, probes=flat)
        lines = (folder / "probes.jsonl").read_text()
        at_first = '"packed_cosine": 0.1,'
        assert at_first in lines
        (folder / "probes.jsonl").write_text(lines.replace(at_first, '"packed_cosine": 0.98,'))
    said = in_short(tmp_path).answers[ALIKE]
    # Cosine and rank, over all blocks and in the last; the rank was not small at first.
    assert said.endswith(
        "Of 4 comparisons of C3 that find rows alike at the end, 2 did so at the first look."
    )


def write_looks(
    folder: Path,
    model: str,
    seed: int,
    cosines: tuple[tuple[float, float], tuple[float, float]],
    ranks: tuple[float, float] = (2.0, 2.0),
    task: str = "listops",
) -> None:
    """A run that was looked at twice.

    Args:
        cosines: of two blocks at the first look, and of both at the last.
        ranks: of the second block at the first look and at the last.
    """
    run = write_run(folder, model, task, seed, accuracy=0.4)
    lines = [
        {"step": step, "block": block, "packed_cosine": cosine,
         "packed_rank": rank if block == 2 else 9.0}
        for step, looked, rank in zip((0, 5000), cosines, ranks, strict=True)
        for block, cosine in enumerate(looked, start=1)
    ]  # fmt: skip
    (run / "probes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_cosines_over_all_blocks_and_those_of_the_last_are_told_apart(tmp_path: Path) -> None:
    # Over both blocks 0.3 to 0.5, 0.7 to 0.6, and 0.5 as before.
    write_looks(tmp_path, "luna-16", 0, ((0.5, 0.1), (0.1, 0.9)), (2.0, 10.0))
    write_looks(tmp_path, "luna-16", 1, ((0.6, 0.8), (0.5, 0.7)), (3.0, 10.0))
    write_looks(tmp_path, "luna-16", 2, ((0.4, 0.6), (0.4, 0.6)), (7.0, 10.3))
    write_looks(tmp_path, "convluna-16", 0, ((0.0, 0.2), (0.0, 0.3)), (2.0, 10.0))
    write_looks(tmp_path, "convluna-16", 1, ((0.0, 0.2), (0.0, 0.3)), (3.0, 10.6))
    # Not one of the benchmark's own tasks.
    write_looks(tmp_path, "luna-16", 0, ((0.9, 0.9), (0.0, 0.0)), task="retrieval-acl")
    short = in_short(tmp_path)
    assert "retrieval" not in " ".join(short.table.columns).lower()
    assert alike(tmp_path) == [["0.50 → 0.60 to 0.90"], ["4.0 → 10.1"]]
    assert alike(tmp_path, "ConvLuna-16") == [["0.20 → 0.30"], ["2.5 → 10.0 to 10.6"]]
    assert any("than they began, by their mean cosine, in 1 of 3 runs." in s for s in short.gist)
    assert short.answers[ALIKE].startswith(
        "The paper says yes. Over all blocks Luna-16's mean cosine is 0.30 to 0.70 at the first "
        "look and 0.50 to 0.60 at the last: it falls in 1 of 3 runs. Their mean effective rank, "
        "lower where rows are more alike, goes 6.5 → 9.5 on ListOps. The last block, in the table, "
        "is another matter."
    )
    write_looks(tmp_path / "flat", "luna-16", 0, ((0.3, 0.3), (0.2, 0.2)), (math.nan, math.nan))
    said = in_short(tmp_path / "flat").answers[ALIKE]
    assert "it falls in 1 of 1 runs. The last block" in said, "there are no ranks"
    write_looks(tmp_path / "alone", "convluna-16", 0, ((0.0, 0.2), (0.0, 0.3)))
    assert ALIKE not in in_short(tmp_path / "alone").answers, "it asks of Luna"
    (note,) = (note for note in short.notes if "Last block" in note)
    assert "mean cosine of the 16 vectors" in note
    assert "(1: all point the same way) and effective rank (1: one direction is left)" in note


def begun(folder: Path, measure: str) -> float:
    """What the last block of Luna-16 on ListOps began with."""
    runs = rows.load_runs(folder)
    probes = rows.load_probes(runs[(runs["model"] == "luna-16") & (runs["task"] == "listops")])
    first, _ = rows.first_and_last(probes)
    return float(first.loc[first["block"] == first["block"].max(), measure].iloc[0])


def test_only_finished_runs_of_the_protocol_that_were_looked_at_twice_can_become_alike(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, "luna-16", "listops", 0, outcome="failed", reason="the loss diverged")
    write_run(tmp_path, "luna-16", "listops", 1, training_changes={"steps": 100})
    folder = write_run(tmp_path, "luna-16", "listops", 2)
    looks = (folder / "probes.jsonl").read_text().splitlines()
    first = [line for line in looks if json.loads(line)["step"] == json.loads(looks[0])["step"]]
    (folder / "probes.jsonl").write_text("\n".join(first) + "\n")
    assert alike(tmp_path) == [[], []]
