"""Verdicts under other choices, on made-up runs where each choice decides."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from made_up_runs import write_run, write_runs

from memnb.draw import claim_tables
from memnb.evidence import claims, rows, sensitivity

LOW, HIGH = [0.60, 0.61, 0.62], [0.70, 0.71, 0.72]


def answers(folder: Path, claim: str = "C1") -> dict[str, str]:
    return {
        choice: claims.verdict_on(found, claim, "quick").verdict
        for choice, found in under(folder).items()
    }


def under(folder: Path) -> dict[str, list[claims.Verdict]]:
    runs = rows.load_runs(folder)
    return sensitivity.verdicts(
        runs, rows.load_removal(runs), rows.load_probes(runs), rows.load_metrics(runs)
    )


def test_every_choice_is_explained_and_without_runs_none_differs(tmp_path: Path) -> None:
    found = under(tmp_path)
    assert list(found) == list(sensitivity.CHOICES)
    assert {verdict.verdict for one in found.values() for verdict in one} == {"not enough runs"}
    assert claim_tables.sensitivity(found).columns.tolist() == [
        "Claim",
        "Scale",
        *sensitivity.CHOICES,
    ]


def test_later_seeds_can_be_left_aside(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [*HIGH, 0.3, 0.9, 0.2, 0.9])
    write_runs(tmp_path, "luna-16", LOW)
    found = answers(tmp_path)
    assert found[sensitivity.AS_JUDGED] == "not supported"
    assert found[sensitivity.FIRST_SEEDS] == "supported"


def test_the_end_of_training_is_the_last_fifth_of_the_evaluations(tmp_path: Path) -> None:
    """Ten evaluations whose last two are as good as Luna's: what was best by then is lost."""
    for folder in write_runs(tmp_path, "convluna-16", HIGH):
        accuracies = [0.9] * 8 + [0.60, 0.62]
        lines = [
            {"step": 10 * k, "split": split, "loss": 1.0, "accuracy": seen}
            for k, accuracy in enumerate(accuracies, start=1)
            for split, seen in (("validation", accuracy), ("train", 1.0))
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    write_runs(tmp_path, "luna-16", LOW)
    found = {v.claim: v for v in under(tmp_path)[sensitivity.AT_THE_END] if v.preset == "quick"}
    assert found["C1"].verdict == "not supported"
    assert found["C1"].effect == pytest.approx(0)
    rule = {v.claim: v for v in under(tmp_path)[sensitivity.AS_JUDGED] if v.preset == "quick"}
    assert found["C3"].evidence.equals(rule["C3"].evidence), "it rests on no such accuracy"
    assert answers(tmp_path)[sensitivity.AS_JUDGED] == "supported"


def test_a_fifth_of_the_evaluations_is_rounded_and_one_at_least(tmp_path: Path) -> None:
    """However their lines lie in the file."""
    for number, effect in ((2, 20.0), (7, 20.0), (8, 15.0)):
        for folder in write_runs(tmp_path / str(number), "convluna-16", HIGH):
            accuracies = [*[0.9] * (number - 2), 0.71, 0.81]
            lines = [
                {"step": step, "split": "validation", "loss": 1.0, "accuracy": accuracy}
                for step, accuracy in enumerate(accuracies)
            ]
            text = "".join(json.dumps(line) + "\n" for line in reversed(lines))
            (folder / "metrics.jsonl").write_text(text)
        write_runs(tmp_path / str(number), "luna-16", LOW)
        found = under(tmp_path / str(number))[sensitivity.AT_THE_END]
        verdict = claims.verdict_on(found, "C1", "quick")
        assert verdict.effect == pytest.approx(effect)


def test_runs_without_an_evaluation_have_no_accuracy_at_the_end(tmp_path: Path) -> None:
    for folder in write_runs(tmp_path, "convluna-16", HIGH):
        (folder / "metrics.jsonl").unlink()
    write_runs(tmp_path, "luna-16", LOW)
    assert answers(tmp_path)[sensitivity.AT_THE_END] == "not enough runs"


def test_what_learned_nothing_can_be_counted(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.17, 0.171, 0.172])
    write_runs(tmp_path, "luna-16", [0.13, 0.131, 0.132])
    found = answers(tmp_path)
    assert found[sensitivity.AS_JUDGED] == "not enough runs"
    assert found[sensitivity.ALL_COUNT] == "supported"
    assert answers(tmp_path, "C3")[sensitivity.ALL_COUNT] == "partly supported"


def test_seeds_that_rise_and_fall_together_can_be_compared_one_by_one(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.55, 0.64, 0.76])
    write_runs(tmp_path, "luna-16", [0.52, 0.62, 0.73])
    found = answers(tmp_path)
    assert found[sensitivity.AS_JUDGED] == "not supported"
    assert found[sensitivity.PAIRED] == "supported"
    (by_seed,) = (v for v in under(tmp_path)[sensitivity.PAIRED] if v.claim == "C1" and v.n)
    assert by_seed.effect == pytest.approx(8 / 3)
    half = 4.302653 * 0.5773503 / 3**0.5  # t at two degrees of freedom, deviation of 3, 2, 3
    assert (by_seed.low, by_seed.high) == pytest.approx((8 / 3 - half, 8 / 3 + half))


def test_a_seed_that_one_side_lacks_makes_no_pair(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.55, None, 0.76, 0.9])
    write_runs(tmp_path, "luna-16", [0.52, 0.62, 0.73])
    found = answers(tmp_path)
    assert found[sensitivity.AS_JUDGED] == "not supported"
    assert found[sensitivity.PAIRED] == "not enough runs"


def test_the_table_has_a_row_for_what_any_choice_judges(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.17, 0.171, 0.172])
    write_runs(tmp_path, "luna-16", [0.13, 0.131, 0.132], probes=False, removal=False)
    write_run(tmp_path, "transformer")
    table = claim_tables.sensitivity(under(tmp_path)).set_index(["Claim", "Scale"])
    expected = pd.Series("the same rows", index=[*sensitivity.CHOICES])
    expected[sensitivity.AS_JUDGED] = "not enough runs"
    expected[sensitivity.ALL_COUNT] = "supported (1 of 1)"
    expected[sensitivity.PAIRED] = "not enough runs"  # of intervals that are others
    assert table.to_dict("index") == {("C1", "laptop"): expected.to_dict()}
