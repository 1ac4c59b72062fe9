"""The claims on made-up runs whose answer is known, at the edge of every rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_runs import COLLAPSED, SPREAD_OUT, judged, write_run, write_runs

from memnb.config import TASKS
from memnb.evidence import claims, rows, statistics
from memnb.evidence.claims import Verdict

#: Above what takes no memory, on every task.
LOW = [0.60, 0.61, 0.62]
HIGH = [0.70, 0.71, 0.72]
#: At most two points above the first operator of short ListOps, 34.6 %.
SHALLOW = [0.34, 0.35, 0.366]


def check(
    folder: Path,
    claim: str,
    preset: str = "quick",
    probes: pd.DataFrame | None = None,
    **choices: Any,
) -> Verdict:
    """The verdict on the runs in ``folder``, with other ``probes`` than theirs if given."""
    runs = rows.load_runs(folder)
    probes = rows.load_probes(runs) if probes is None else probes
    verdicts = claims.check(runs, rows.load_removal(runs), probes, **choices)
    found = claims.verdict_on(verdicts, claim, preset)
    assert found.reading.endswith(".")
    assert "nan" not in found.reading
    return found


def write_degraded(
    folder: Path,
    luna: Mapping[str, float] = COLLAPSED,
    convluna: Mapping[str, float] = SPREAD_OUT,
    accuracies: list[float | None] | None = None,
    **settings: Any,
) -> None:
    """Luna and ConvLuna with M = 16, three seeds each, with the given probes at the end."""
    write_runs(folder, "luna-16", accuracies or LOW, probes=luna, **settings)
    write_runs(folder, "convluna-16", HIGH, probes=convluna, **settings)


# --- what holds for every claim --------------------------------------------------------------


def test_every_claim_is_answered_at_both_scales_without_any_run(tmp_path: Path) -> None:
    verdicts = judged(tmp_path)
    assert [(v.preset, v.claim) for v in verdicts] == [
        (preset, claim) for preset in ("paper", "quick") for claim in claims.STATEMENTS
    ]
    for verdict in verdicts:
        assert verdict.verdict == "not enough runs"
        assert math.isnan(verdict.effect)
        assert (verdict.n, verdict.unit) == (0, "")
        assert list(verdict.evidence.columns) == list(claims.EVIDENCE_COLUMNS)
        assert verdict.evidence.empty


def test_scales_are_judged_apart_and_custom_runs_not_at_all(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", HIGH)
    write_runs(tmp_path, "luna-16", LOW)
    write_runs(tmp_path, "convluna-16", LOW, task="listops")
    write_runs(tmp_path, "luna-16", HIGH, task="listops")
    for model, accuracies in (("convluna-16", LOW), ("luna-16", HIGH)):
        write_runs(tmp_path, model, accuracies, training_changes={"steps": 7})
    quick, paper = check(tmp_path, "C1", "quick"), check(tmp_path, "C1", "paper")
    assert quick.verdict == "supported"
    assert quick.evidence["task"].tolist() == ["listops-short"]
    assert paper.verdict == "not supported"
    assert paper.evidence["task"].tolist() == ["listops"]


@pytest.mark.parametrize("known", [SHALLOW, [*SHALLOW[:2], 0.367]])
def test_nothing_follows_from_models_that_one_token_would_do_for(
    tmp_path: Path, known: list[float]
) -> None:
    write_runs(tmp_path, "convluna-16", known)
    write_runs(tmp_path, "luna-16", [0.25, 0.26, 0.27])
    verdict = check(tmp_path, "C1")
    shallow = known == SHALLOW
    assert verdict.verdict == ("not enough runs" if shallow else "supported")
    assert verdict.evidence["result"].tolist() == [claims.SHALLOW if shallow else "holds"]
    words = (
        "on ListOps short in which no run is more than 2 points above what reading the first "
        "operator alone gives (34.6 %)"
    )
    assert (f"nothing follows from the one {words}" in verdict.reading) == shallow
    if shallow:
        assert "No comparison can be judged yet" in verdict.reading
    write_runs(tmp_path, "convluna-1", HIGH)
    write_runs(tmp_path, "luna-1", LOW)
    verdict = check(tmp_path, "C1")
    assert verdict.verdict == "supported"
    assert (f"nothing follows from 1 of 2 {words}" in verdict.reading) == shallow
    # Other tasks have no such level.
    write_runs(tmp_path, "convluna-16", HIGH, task="text-short")
    write_runs(tmp_path, "luna-16", LOW, task="text-short")
    assert "on Text short" not in check(tmp_path, "C1").reading


@pytest.mark.parametrize("model", ["convluna-16", "luna-16"])
def test_one_side_that_knows_more_is_enough_to_judge(tmp_path: Path, model: str) -> None:
    other = {"convluna-16": "luna-16", "luna-16": "convluna-16"}[model]
    write_runs(tmp_path, model, LOW)
    write_runs(tmp_path, other, SHALLOW)
    assert check(tmp_path, "C1").evidence["result"].tolist() != [claims.SHALLOW]


def test_levels_are_those_of_the_set_that_accuracies_are_of(tmp_path: Path) -> None:
    """Always the same answer is right on 54.2 % of short Pathfinder's validation set."""
    write_runs(tmp_path, "convluna-16", [0.55, 0.552, 0.554], task="pathfinder-short")
    write_runs(tmp_path, "luna-16", [0.50, 0.501, 0.502], task="pathfinder-short")
    for which, result in (("test", "holds"), ("validation", claims.SILENT)):
        assert check(tmp_path, "C1", which=which).evidence["result"].tolist() == [result]


def test_the_level_that_is_named_is_that_of_the_set(tmp_path: Path) -> None:
    for model in ("convluna-16", "luna-16"):
        write_runs(tmp_path, model, [0.30, 0.31, 0.32])
    for which, level in (("test", "34.6 %"), ("validation", "33.2 %")):
        reading = check(tmp_path, "C1", which=which).reading
        assert f"the first operator alone gives ({level})" in reading


def test_where_some_have_enough_runs_the_reading_does_not_blame_their_number(
    tmp_path: Path,
) -> None:
    write_runs(tmp_path, "convluna-16", SHALLOW)
    write_runs(tmp_path, "luna-16", SHALLOW)
    write_run(tmp_path, "convluna-1")
    write_run(tmp_path, "luna-1")
    reading = check(tmp_path, "C1").reading
    assert reading.startswith("No comparison can be judged yet")


def test_counting_all_judges_what_the_rule_does_not(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", SHALLOW)
    write_runs(tmp_path, "luna-16", [0.15, 0.16, 0.17])
    assert check(tmp_path, "C1", count_all=True).verdict == "supported"
    counted = check(tmp_path, "C3", count_all=True).evidence
    assert set(counted["n_a"]) == {3}, "runs that have learned nothing"
    assert check(tmp_path, "C1").verdict == check(tmp_path, "C3").verdict == "not enough runs"


def test_partly_takes_one_comparison_that_holds_among_all(tmp_path: Path) -> None:
    """One of many that holds at 95 % by itself may do so by chance."""
    write_runs(tmp_path, "convluna-16", [0.632, 0.642, 0.652])
    write_runs(tmp_path, "luna-16", LOW)
    assert check(tmp_path, "C1").verdict == "supported"
    for memory in (1, 4, 8, 32, 64, 256):
        for model in ("convluna", "luna"):
            write_runs(tmp_path, f"{model}-{memory}", LOW)
    verdict = check(tmp_path, "C1")
    assert verdict.evidence["result"].tolist().count("holds") == 1
    assert verdict.verdict == "not supported"
    assert "none with an interval for all of them together" in verdict.reading


def test_the_interval_for_several_together_counts_each_of_them(tmp_path: Path) -> None:
    """What holds among two comparisons need not hold among three."""
    convluna = [0.632, 0.642, 0.652]
    among = {n: statistics.difference(convluna, LOW, level=1 - 0.05 / n).low for n in (2, 3)}
    assert among[2] > 0 > among[3]
    write_runs(tmp_path, "convluna-16", convluna)
    write_runs(tmp_path, "luna-16", LOW)
    for memory, answer in ((1, "partly supported"), (4, "not supported")):
        for model in ("convluna", "luna"):
            write_runs(tmp_path, f"{model}-{memory}", LOW)
        assert check(tmp_path, "C1").verdict == answer


# --- C1 --------------------------------------------------------------------------------------


def test_c1_reports_effect_interval_and_numbers(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", HIGH)
    write_runs(tmp_path, "luna-16", LOW)
    verdict = check(tmp_path, "C1")
    expected = statistics.difference([70, 71, 72], [60, 61, 62])
    assert verdict.verdict == "supported"
    assert (verdict.effect, verdict.low, verdict.high) == pytest.approx(expected[:3])
    assert (verdict.n, verdict.unit) == (3, "points")
    row = verdict.evidence.iloc[0]
    assert (row["a"], row["b"], row["memory"]) == ("convluna-16", "luna-16", 16)
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((71, 61))
    assert row["result"] == "holds"
    assert "ListOps short, ConvLuna-16 − Luna-16: +10.0 points [" in verdict.reading


@pytest.mark.parametrize(
    ("convluna", "luna", "answer", "result"),
    [
        (HIGH, LOW, "supported", "holds"),
        (LOW, HIGH, "not supported", "ruled out"),
        ([0.60, 0.65, 0.70], [0.59, 0.64, 0.69], "not supported", "not shown"),
        (LOW, LOW, "not supported", "not shown"),
        # Neither is above the majority level.
        ([0.17] * 3, [0.135] * 3, "not enough runs", "neither has learned"),
        ([0.17] * 3, [0.135] * 2, "not enough runs", "not enough runs"),
        # Two points above that level at most.
        ([0.177] * 3, [0.135] * 3, "not enough runs", "neither has learned"),
        # One run that has learned is enough to ask how often that happens.
        ([0.5, 0.135, 0.135], [0.135] * 3, "not supported", "not shown"),
        ([0.5] * 3, [0.135] * 3, "supported", "holds"),
        ([0.5] * 3, [0.5] * 3, "not supported", "not shown"),
        (HIGH[:2], LOW, "not enough runs", "not enough runs"),
        (HIGH, LOW[:1], "not enough runs", "not enough runs"),
        ([*HIGH[:2], None], LOW, "not enough runs", "not enough runs"),
    ],
)
def test_c1_answers(
    tmp_path: Path,
    convluna: list[float | None],
    luna: list[float | None],
    answer: str,
    result: str,
) -> None:
    write_runs(tmp_path, "convluna-16", convluna)
    write_runs(tmp_path, "luna-16", luna)
    verdict = check(tmp_path, "C1")
    assert verdict.verdict == answer
    assert verdict.evidence["result"].tolist() == [result]
    # The effect is shown even where nothing is concluded from it.
    a, b = ([x for x in side if x is not None] for side in (convluna, luna))
    assert verdict.effect == pytest.approx(100 * (np.mean(a) - np.mean(b)))


def test_c1_partly_supported_quotes_the_weakest(tmp_path: Path) -> None:
    for memory, accuracies in ((1, LOW), (16, HIGH)):
        write_runs(tmp_path, f"convluna-{memory}", accuracies)
        write_runs(tmp_path, f"luna-{memory}", LOW)
    write_run(tmp_path, "convluna-4")
    verdict = check(tmp_path, "C1")
    assert verdict.verdict == "partly supported"
    assert verdict.effect == pytest.approx(0)
    assert verdict.reading.startswith(
        "1 of 2 comparisons judged hold; the weakest is ListOps short, ConvLuna-1 − Luna-1"
    )
    assert "with too few runs: 1" in verdict.reading
    assert verdict.evidence["memory"].tolist() == [1, 4, 16]


def test_c1_counts_failed_runs_and_shows_them(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [*HIGH, None])
    write_runs(tmp_path, "luna-16", [None, *LOW, None])
    verdict = check(tmp_path, "C1")
    row = verdict.evidence.iloc[0]
    assert (row["n_a"], row["failed_a"], row["n_b"], row["failed_b"]) == (3, 1, 3, 2)
    assert "failed runs, counted but without a value: 3" in verdict.reading


def test_a_verdict_quotes_a_comparison_that_was_judged_and_its_smaller_side(
    tmp_path: Path,
) -> None:
    """Not one of two seeds, though it speaks more against the claim."""
    write_runs(tmp_path, "convluna-16", [*HIGH, 0.73, 0.74])
    write_runs(tmp_path, "luna-16", LOW)
    write_runs(tmp_path, "convluna-4", LOW[:2])
    write_runs(tmp_path, "luna-4", HIGH[:2])
    verdict = check(tmp_path, "C1")
    assert verdict.decided_by == "ListOps short, ConvLuna-16 − Luna-16"
    assert (verdict.effect, verdict.n) == (pytest.approx(11), 3)
    assert "with too few runs: 1" in verdict.reading
    # From these nothing follows, but not for want of runs.
    for model in ("convluna-1", "luna-1"):
        write_runs(tmp_path, model, [0.15, 0.16, 0.17])
    assert "with too few runs: 1" in check(tmp_path, "C1").reading


def test_c1_shows_a_memory_size_at_which_every_run_has_failed(tmp_path: Path) -> None:
    for model in ("convluna-4", "luna-4"):
        write_runs(tmp_path, model, [None])
    verdict = check(tmp_path, "C1")
    (row,) = verdict.evidence.to_dict("records")
    assert (row["memory"], row["failed_a"], row["failed_b"]) == (4, 1, 1)
    assert "failed runs, counted but without a value: 2" in verdict.reading


def test_runs_without_a_counterpart_are_not_said_to_know_one_token_only(tmp_path: Path) -> None:
    """What they lack is another model to be compared with."""
    write_runs(tmp_path, "luna-16", SHALLOW)
    reading = check(tmp_path, "C1").reading
    assert reading == "No comparison has 3 finished runs on each side yet."


def test_c1_compares_standard_settings_only(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", LOW)
    write_runs(tmp_path, "luna-16", LOW)
    write_runs(tmp_path, "poolluna-16", HIGH)
    for changes in ({"filter": "none"}, {"reading": "as_intended"}, {"filter_width": 8}):
        write_runs(tmp_path, "convluna-16", HIGH, model_changes=changes)
    verdict = check(tmp_path, "C1")
    assert verdict.evidence["n_a"].tolist() == [3]
    assert verdict.effect == pytest.approx(0)


def test_a_run_under_way_is_not_evidence(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", HIGH)
    write_run(tmp_path, "luna-16", outcome="running")
    write_run(tmp_path, "luna-4", outcome="interrupted")
    (row,) = check(tmp_path, "C1").evidence.to_dict("records")
    assert (row["n_b"], row["failed_b"], row["result"]) == (0, 0, "not enough runs")


# --- C2 --------------------------------------------------------------------------------------


def test_c2_needs_one_task_and_quotes_the_strongest(tmp_path: Path) -> None:
    for task, accuracies in (("listops", LOW), ("image", HIGH)):
        write_runs(tmp_path, "convluna-1", accuracies, task=task)
        write_runs(tmp_path, "transformer", LOW, task=task)
    verdict = check(tmp_path, "C2", "paper")
    assert verdict.verdict == "supported"
    assert "1 of 2 comparisons judged hold; the strongest is Image, ConvLuna-1" in verdict.reading


def test_c2_not_supported(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-1", LOW)
    write_runs(tmp_path, "transformer", HIGH)
    assert check(tmp_path, "C2").verdict == "not supported"


def test_c2_pays_for_trying_many_tasks(tmp_path: Path) -> None:
    """An effect that just passes alone does not pass as the best of five."""
    convluna, transformer = [0.63, 0.64, 0.65], [0.605, 0.615, 0.625]
    assert statistics.difference(convluna, transformer).low > 0
    write_runs(tmp_path, "convluna-1", convluna, task="listops")
    write_runs(tmp_path, "transformer", transformer, task="listops")
    assert check(tmp_path, "C2", "paper").verdict == "supported"
    for task in ("text", "retrieval", "image", "pathfinder"):
        write_runs(tmp_path, "convluna-1", LOW, task=task)
        write_runs(tmp_path, "transformer", LOW, task=task)
    verdict = check(tmp_path, "C2", "paper")
    assert verdict.verdict == "not supported"
    found = statistics.difference(convluna, transformer, level=0.99)
    row = verdict.evidence[verdict.evidence["task"] == "listops"].iloc[0]
    assert row["low"] == pytest.approx(100 * found.low)


def test_c2_pays_for_tasks_that_both_models_were_tried_on_and_for_no_other(tmp_path: Path) -> None:
    """A task on which one of them has failed was tried; one that has no run of it was not."""

    def low(folder: Path) -> float:
        return float(check(folder, "C2", "paper").evidence.iloc[0]["low"])

    def expected(tried: int) -> float:
        return statistics.difference([70, 71, 72], [60, 61, 62], level=1 - 0.05 / tried).low

    write_runs(tmp_path, "convluna-1", HIGH, task="listops")
    write_runs(tmp_path, "transformer", LOW, task="listops")
    write_runs(tmp_path, "transformer", LOW, task="image")
    assert low(tmp_path) == pytest.approx(expected(1))
    write_runs(tmp_path, "convluna-1", [None], task="text")
    write_runs(tmp_path, "transformer", LOW, task="text")
    assert low(tmp_path) == pytest.approx(expected(2))
    verdict = check(tmp_path, "C2", "paper")
    assert verdict.evidence["task"].tolist() == ["listops", "text"]
    assert verdict.evidence["failed_a"].tolist() == [0, 1]


# --- C3 --------------------------------------------------------------------------------------


def test_c3_supported_when_rows_collapse_and_are_not_missed(tmp_path: Path) -> None:
    write_degraded(tmp_path)
    verdict = check(tmp_path, "C3")
    assert verdict.verdict == "supported"
    assert (verdict.effect, verdict.unit) == (pytest.approx(0.97), "cosine")
    evidence = verdict.evidence.set_index(["measure", "target"])["effect"].to_dict()
    assert evidence == {
        ("packed cosine", "> 0.9"): pytest.approx(0.97),
        ("packed cosine, last block", "> 0.9"): pytest.approx(0.97),
        ("packed cosine, change in training", "> 0"): pytest.approx(0.97 - 0.1),
        ("packed cosine", "> 0"): pytest.approx(0.97 - 0.4),
        ("packed rank share", "< 0.25"): pytest.approx(0.3 / 15),
        ("packed rank share, last block", "< 0.25"): pytest.approx(0.3 / 15),
        ("packed rank share, change in training", "< 0"): pytest.approx((1.3 - 14.4) / 15),
        ("packed rank share", "< 0"): pytest.approx((1.3 - 9) / 15),
        ("accuracy lost with 8 of 16 rows left", "within ±1"): pytest.approx(0),
        ("accuracy lost with 1 of 16 rows left", "within ±1"): pytest.approx(0),
    }


def test_c3_rank_is_a_share_of_what_the_shape_allows(tmp_path: Path) -> None:
    """256 rows of width 128 have at most rank 128; four rows of one direction rank 1, none less."""
    write_runs(tmp_path, "luna-256", LOW, task="listops", probes={"packed_rank": 16.0})
    write_runs(tmp_path, "luna-4", LOW, task="listops", probes={"packed_rank": 1.0})
    evidence = check(tmp_path, "C3", "paper").evidence
    shares = evidence[(evidence["measure"] == "packed rank share") & (evidence["b"] == "")]
    assert dict(zip(shares["memory"], shares["effect"], strict=True)) == pytest.approx(
        {4: 0, 256: 15 / 127}
    )
    assert shares["result"].tolist() == ["holds", "holds"]


def results(verdict: Verdict) -> dict[tuple[str, str], str]:
    table = verdict.evidence
    keys = zip(table["measure"], table["target"], strict=True)
    return dict(zip(keys, table["result"], strict=True))


@pytest.mark.parametrize(
    ("luna", "convluna", "measure", "result"),
    [
        ({"packed_cosine": 0.8}, SPREAD_OUT, ("packed cosine", "> 0.9"), "ruled out"),
        ({"packed_rank": 8.0}, SPREAD_OUT, ("packed rank share", "< 0.25"), "ruled out"),
        (COLLAPSED, {"packed_cosine": 0.99}, ("packed cosine", "> 0"), "ruled out"),
        (COLLAPSED, {"packed_rank": 1.1}, ("packed rank share", "< 0"), "ruled out"),
    ],
)
def test_c3_each_condition_can_fail(
    tmp_path: Path,
    luna: Mapping[str, float],
    convluna: Mapping[str, float],
    measure: tuple[str, str],
    result: str,
) -> None:
    write_degraded(tmp_path, luna=luna, convluna=SPREAD_OUT | dict(convluna))
    verdict = check(tmp_path, "C3")
    assert verdict.verdict == "partly supported"
    assert results(verdict)[measure] == result
    others = [result for (name, _), result in results(verdict).items() if name != measure[0]]
    # Luna's last block is changed with the others, and its change in training may stay.
    assert others.count("holds") >= 6


def test_c3_quotes_how_alike_rows_are_and_no_difference_of_cosines(tmp_path: Path) -> None:
    """Even where the difference to ConvLuna is closer to its target."""
    write_degraded(tmp_path, convluna=SPREAD_OUT | {"packed_cosine": 0.96})
    verdict = check(tmp_path, "C3")
    assert (verdict.effect, verdict.target) == (pytest.approx(0.97), "> 0.9")
    assert verdict.decided_by == "ListOps short, Luna-16, packed cosine"


@pytest.mark.parametrize(
    ("kept", "half", "one"),
    [
        ({8: 0.0, 1: 0.0}, "holds", "holds"),
        ({8: -0.005, 1: -0.02}, "holds", "ruled out"),
        ({8: -0.02, 1: -0.02}, "ruled out", "ruled out"),
        # More accurate without its rows: changed as well.
        ({8: 0.02, 1: 0.0}, "ruled out", "holds"),
    ],
)
def test_c3_removal_is_a_test_of_equivalence(
    tmp_path: Path, kept: dict[int, float], half: str, one: str
) -> None:
    for seed, accuracy in enumerate(LOW):
        left = {number: accuracy + change for number, change in kept.items()}
        write_run(tmp_path, "luna-16", seed=seed, accuracy=accuracy, removal=left)
    found = results(check(tmp_path, "C3"))
    assert found["accuracy lost with 8 of 16 rows left", "within ±1"] == half
    assert found["accuracy lost with 1 of 16 rows left", "within ±1"] == one


def test_c3_asks_what_random_rows_are_worth_and_no_chosen_ones(tmp_path: Path) -> None:
    for seed, accuracy in enumerate(LOW):
        folder = write_run(tmp_path, "luna-16", seed=seed, accuracy=accuracy)
        with (folder / "removal.jsonl").open("a") as file:
            file.write('{"rule": "most used", "kept": 8, "accuracy": 0.1, "orders": 500}\n')
    found = results(check(tmp_path, "C3"))
    assert found["accuracy lost with 8 of 16 rows left", "within ±1"] == "holds"


def test_c3_a_wide_interval_shows_no_equivalence(tmp_path: Path) -> None:
    """A mean loss of zero is not enough: the seeds have to agree on it."""
    for seed, lost in enumerate((-0.03, 0.0, 0.03)):
        write_run(tmp_path, "luna-16", seed=seed, accuracy=0.6, removal={8: 0.6 + lost})
    verdict = check(tmp_path, "C3")
    row = verdict.evidence.set_index("measure").loc["accuracy lost with 8 of 16 rows left"]
    assert row["effect"] == pytest.approx(0)
    assert row["result"] == "not shown"


def test_c3_says_nothing_about_a_model_that_learned_nothing(tmp_path: Path) -> None:
    # Two points above the majority level, 15.7 %, is not above them.
    write_degraded(tmp_path, accuracies=[0.155, 0.177, 0.6])
    verdict = check(tmp_path, "C3")
    assert verdict.verdict == "not enough runs"
    assert set(verdict.evidence["n_a"]) == {1}
    assert set(verdict.evidence["left_out_a"]) == {2}
    note = "runs at the majority level, left out: on ListOps short Luna-16 2 of 3"
    assert verdict.reading.count(note) == 1
    assert set(verdict.evidence["note"]) == {note}


def test_c3_leaves_runs_that_learned_nothing_out_on_both_sides(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [*LOW, 0.15])
    write_runs(tmp_path, "convluna-16", [0.15, *HIGH, 0.16], probes=SPREAD_OUT)
    evidence = check(tmp_path, "C3").evidence
    both = evidence[evidence["b"] != ""]
    assert both[["n_a", "left_out_a", "n_b", "left_out_b"]].values.tolist() == [[3, 1, 3, 2]] * 2
    (note,) = set(both["note"])
    assert note.endswith("left out: on ListOps short Luna-16 1 of 4, ConvLuna-16 2 of 5")


def test_c3_parts_are_counted_apart(tmp_path: Path) -> None:
    for seed, accuracy in enumerate(LOW):
        left = {8: accuracy - 0.1, 1: accuracy - 0.1}
        write_run(tmp_path, "luna-16", seed=seed, accuracy=accuracy, removal=left)
    write_runs(tmp_path, "convluna-16", HIGH, probes=SPREAD_OUT)
    reading = check(tmp_path, "C3").reading
    assert (
        "8 of 10 comparisons judged hold (alike at the end 4 of 4, more alike than at first 2 of "
        "2, more alike than ConvLuna's 2 of 2, row removal 0 of 2)"
    ) in reading


def test_c3_says_where_all_examples_lost_the_same_rows(tmp_path: Path) -> None:
    for seed, accuracy in enumerate(LOW):
        folder = write_run(tmp_path, "luna-16", seed=seed, accuracy=accuracy)
        assert claims.ONE_CHOICE not in check(tmp_path, "C3").reading
    lines = (folder / "removal.jsonl").read_text()
    (folder / "removal.jsonl").write_text(lines.replace(', "orders": 500', ""))
    verdict = check(tmp_path, "C3")
    assert verdict.reading.count(claims.ONE_CHOICE) == 1
    noted = verdict.evidence["note"].str.contains(claims.ONE_CHOICE)
    assert noted.equals(verdict.evidence["measure"].str.startswith("accuracy lost"))


def test_c3_asks_for_a_change_during_training(tmp_path: Path) -> None:
    """Rows that begin alike have not become so."""
    write_degraded(tmp_path)
    probes = rows.load_probes(rows.load_runs(tmp_path))
    luna = probes["model"] == "luna-16"
    probes.loc[luna, ["packed_cosine", "packed_rank"]] = [0.97, 1.3]
    verdict = check(tmp_path, "C3", probes=probes)
    assert verdict.verdict == "partly supported"
    assert results(verdict)["packed cosine, change in training", "> 0"] == "not shown"
    once = check(tmp_path, "C3", probes=probes[probes["step"] == 0])
    assert results(once)["packed cosine, change in training", "> 0"] == "not enough runs"


def test_c3_says_what_was_alike_before_training(tmp_path: Path) -> None:
    write_degraded(tmp_path)
    assert claims.WAS_SO not in check(tmp_path, "C3").reading
    probes = rows.load_probes(rows.load_runs(tmp_path))
    early = (probes["model"] == "luna-16") & (probes["step"] == 0)
    probes.loc[early & (probes["block"] == probes["block"].max()), "packed_cosine"] = 0.95
    verdict = check(tmp_path, "C3", probes=probes)
    assert "of what is alike at the end 1 was" in verdict.reading
    # A mean within the target is not enough: the comparison has to hold.
    seeds = early & (probes["block"] == probes["block"].max()) & (probes["seed"] == 0)
    apart = probes.assign(packed_cosine=probes["packed_cosine"].mask(seeds, 0.89))
    assert claims.WAS_SO not in check(tmp_path, "C3", probes=apart).reading
    noted = verdict.evidence["note"] == claims.WAS_SO
    assert verdict.evidence.loc[noted, "measure"].tolist() == ["packed cosine, last block"]
    assert f"of what is alike at the end 1 was {claims.WAS_SO}" in verdict.reading
    probes.loc[early, "packed_cosine"] = 0.95
    several = check(tmp_path, "C3", probes=probes)
    assert f"of what is alike at the end 2 were {claims.WAS_SO}" in several.reading


def test_c3_measures_the_end_of_training_and_all_blocks(tmp_path: Path) -> None:
    write_degraded(tmp_path)
    probes = rows.load_probes(rows.load_runs(tmp_path))
    luna = probes["model"] == "luna-16"
    last = probes["step"] == probes["step"].max()
    probes.loc[luna & last & (probes["block"] == 1), "packed_cosine"] = 0.5
    verdict = check(tmp_path, "C3", probes=probes)
    assert verdict.effect == pytest.approx((0.5 + 0.97) / 2)
    assert results(verdict)["packed cosine", "> 0.9"] == "ruled out"
    assert results(verdict)["packed cosine, last block", "> 0.9"] == "holds"


def test_c3_leaves_out_failed_runs_and_a_memory_of_one_row(tmp_path: Path) -> None:
    write_degraded(tmp_path, accuracies=[*LOW, None])
    write_runs(tmp_path, "luna-1", LOW)
    evidence = check(tmp_path, "C3").evidence
    assert set(evidence["memory"]) == {16}
    assert set(evidence["n_a"]) == {3}
    assert set(evidence["failed_a"]) == {1}


def test_c3_half_of_two_rows_is_one_row(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-2", LOW)
    measures = check(tmp_path, "C3").evidence["measure"].tolist()
    assert measures.count("accuracy lost with 1 of 2 rows left") == 1


def test_c3_without_probes_or_removal(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", LOW, probes=False, removal=False)
    verdict = check(tmp_path, "C3")
    assert verdict.verdict == "not enough runs"
    assert math.isnan(verdict.effect)


# --- C4 and C5 -------------------------------------------------------------------------------

ABLATIONS: dict[str, dict[str, Any]] = {
    "filter=none": {"filter": "none"},
    "pack_temperature=unit": {"pack_temperature": "unit"},
    "pack_temperature=sqrt": {"pack_temperature": "sqrt"},
}


def write_ablation(folder: Path, accuracies: Mapping[str, list[float]]) -> None:
    write_runs(folder, "convluna-16", HIGH)
    for changes, values in accuracies.items():
        write_runs(folder, "convluna-16", values, model_changes=ABLATIONS[changes])


def test_c4_supported_when_every_part_matters(tmp_path: Path) -> None:
    write_ablation(tmp_path, dict.fromkeys(ABLATIONS, LOW))
    verdict = check(tmp_path, "C4")
    assert verdict.verdict == "supported"
    assert verdict.evidence["b"].tolist() == [f"convluna-16 ({name})" for name in ABLATIONS]


@pytest.mark.parametrize("useless", list(ABLATIONS))
def test_c4_each_part_can_fail(tmp_path: Path, useless: str) -> None:
    write_ablation(tmp_path, {**dict.fromkeys(ABLATIONS, LOW), useless: HIGH})
    verdict = check(tmp_path, "C4")
    assert verdict.verdict == "partly supported"
    assert verdict.effect == pytest.approx(0)


def test_c4_half_of_the_ablation_supports_half_of_the_claim(tmp_path: Path) -> None:
    write_ablation(tmp_path, {"filter=none": LOW})
    verdict = check(tmp_path, "C4")
    assert verdict.verdict == "partly supported"
    assert "nothing can be judged yet of: pack temperature" in verdict.reading


def test_c4_not_supported(tmp_path: Path) -> None:
    write_ablation(tmp_path, dict.fromkeys(ABLATIONS, HIGH))
    assert check(tmp_path, "C4").verdict == "not supported"


def test_a_difference_that_rounds_to_nothing_has_no_minus(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.8, 0.81, 0.82])
    same = [0.8, 0.8101, 0.8201]
    write_runs(tmp_path, "convluna-16", same, model_changes={"filter": "none"})
    assert "(no filter): +0.0 points [" in check(tmp_path, "C4").reading


def test_c4_shows_an_ablation_whose_runs_have_all_failed(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", HIGH)
    write_runs(tmp_path, "convluna-16", [None, None], model_changes=ABLATIONS["filter=none"])
    verdict = check(tmp_path, "C4")
    (row,) = verdict.evidence.to_dict("records")
    assert (row["n_b"], row["failed_b"], row["result"]) == (0, 2, "not enough runs")
    assert "failed runs, counted but without a value: 2" in verdict.reading


def test_c4_ignores_ablations_of_two_things_at_once(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", HIGH)
    both = {"filter": "none", "pack_temperature": "sqrt"}
    write_runs(tmp_path, "convluna-16", LOW, model_changes=both)
    assert check(tmp_path, "C4").evidence.empty


def test_c5_has_nothing_to_judge_without_a_memory_between_chunks(tmp_path: Path) -> None:
    write_degraded(tmp_path)
    verdict = check(tmp_path, "C5")
    assert verdict.verdict == "not enough runs"
    assert verdict.evidence.empty


@pytest.mark.parametrize("family", ["chunkmem", "rmt"])
def test_c5_compares_each_memory_between_chunks_with_its_filtered_one(
    tmp_path: Path, family: str
) -> None:
    write_runs(tmp_path, f"conv{family}-16", HIGH)
    write_runs(tmp_path, f"{family}-16", LOW)
    write_runs(tmp_path, "luna-16", HIGH)
    verdict = check(tmp_path, "C5")
    assert verdict.verdict == "supported"
    assert verdict.evidence[["a", "b"]].values.tolist() == [[f"conv{family}-16", f"{family}-16"]]


def test_c5_is_partly_supported_where_the_filter_helps_one_kind_only(tmp_path: Path) -> None:
    for family, with_filter in (("chunkmem", HIGH), ("rmt", LOW)):
        write_runs(tmp_path, f"conv{family}-16", with_filter)
        write_runs(tmp_path, f"{family}-16", LOW)
    assert check(tmp_path, "C5").verdict == "partly supported"


def test_no_claim_is_judged_on_the_extra_task(tmp_path: Path) -> None:
    for model, values in (("convluna-16", HIGH), ("luna-16", LOW), ("convchunkmem-16", HIGH)):
        write_runs(tmp_path, model, values, task="recall-8")
    assert check(tmp_path, "C1").evidence.empty
    assert check(tmp_path, "C5").evidence.empty


def test_no_claim_is_judged_on_a_task_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model, values in (("convluna-16", HIGH), ("luna-16", LOW)):
        write_runs(tmp_path, model, values)
    runs = rows.load_runs(tmp_path).assign(task="parity")
    monkeypatch.setitem(TASKS, "parity", TASKS["listops-short"])
    verdicts = claims.check(runs, rows.load_removal(runs), rows.load_probes(runs))
    assert all(verdict.evidence.empty for verdict in verdicts)


def test_no_claim_is_judged_on_retrievals_substitute(tmp_path: Path) -> None:
    """Neither does it support a claim, nor does it widen the intervals of the true tasks."""
    for task, filtered in (("text", HIGH), ("retrieval-acl", HIGH)):
        for model, values in (("convluna-1", filtered), ("luna-1", LOW), ("transformer", LOW)):
            write_runs(tmp_path, model, values, task=task)
    for claim in ("C1", "C2"):
        row = check(tmp_path, claim, "paper").evidence
        assert row["task"].tolist() == ["text"]
        expected = statistics.difference([70, 71, 72], [60, 61, 62])
        assert row["low"].tolist() == pytest.approx([expected.low])


def test_what_is_known_without_enough_seeds_is_listed(tmp_path: Path) -> None:
    for memory in (1, 4, 16):
        write_runs(tmp_path, f"luna-{memory}", [0.20])
        write_runs(tmp_path, f"convluna-{memory}", [0.30])
    found = check(tmp_path, "C1")
    assert found.verdict == "not enough runs"
    assert found.reading.count("+10.0 points") == 3
    for memory in (1, 4, 16):
        assert f"ListOps short, ConvLuna-{memory} − Luna-{memory}: " in found.reading


def test_of_many_without_enough_seeds_the_first_are_listed_and_the_others_counted(
    tmp_path: Path,
) -> None:
    for memory in (1, 4, 8, 16, 32, 64):
        write_runs(tmp_path, f"luna-{memory}", [0.60])
        write_runs(tmp_path, f"convluna-{memory}", [0.70])
    write_run(tmp_path, "luna-256")  # without a counterpart there is no effect
    reading = check(tmp_path, "C1").reading
    assert reading.count("+10.0 points") == claims.SHOWN == 4
    assert reading.endswith(", and 2 more.")


def test_of_several_measures_the_weakest_of_each_is_listed(tmp_path: Path) -> None:
    write_degraded(tmp_path, accuracies=[0.5])
    found = check(tmp_path, "C3")
    assert found.verdict == "not enough runs"
    for kind in ("packed cosine", "packed rank share", "lost with 8 of 16", "lost with 1 of 16"):
        assert kind in found.reading, "what speaks against a claim is not passed over"
