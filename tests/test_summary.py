"""The findings in short say what the rows say, and nothing where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from made_up_runs import write_run

from memnb import evidence
from memnb.draw import summary
from memnb.evidence import published, rows


def in_short(folder: Path, known: pd.DataFrame | None = None) -> dict[str, str]:
    runs = rows.load_runs(folder)
    removal, probes = rows.load_removal(runs), rows.load_probes(runs)
    verdicts = evidence.check(runs, removal, probes)
    return summary.in_short(
        runs, verdicts, published.load() if known is None else known,
        removal=removal, probes=probes, beginning=rows.load_beginning(runs),
    )  # fmt: skip


def seeds(folder: Path) -> str:
    return summary.seeds(rows.load_runs(folder))


def test_without_full_scale_runs_there_is_nothing_to_say(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1", "listops-short")
    write_run(tmp_path, "convluna-1", "listops-short")
    assert in_short(tmp_path) == {}
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


def test_gains_are_those_of_the_same_memory_and_of_pooling(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, "luna-1", "text", seed=seed, accuracy=0.60 + 0.01 * seed)
        write_run(tmp_path, "convluna-1", "text", seed=seed, accuracy=0.70)
        write_run(tmp_path, "convluna-16", "text", seed=seed, accuracy=0.80)
    said = in_short(tmp_path)["ConvLuna against Luna"]
    assert said.startswith("In points: Text +9.0 (M = 1). That is all that ConvLuna changes")
    assert "PoolLuna" not in said
    write_run(tmp_path, "luna-16", "text", accuracy=0.81)
    write_run(tmp_path, "poolluna-16", "text", accuracy=0.84)
    said = in_short(tmp_path)["ConvLuna against Luna"]
    assert "Text +9.0 (M = 1), −1.0 (M = 16). That" in said
    assert said.endswith("minus Luna (M = 16): Text +3.0.")


def test_pooling_is_told_without_convluna_too(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-16", "text", accuracy=0.8)
    write_run(tmp_path, "poolluna-16", "text", accuracy=0.7996)
    said = in_short(tmp_path)["ConvLuna against Luna"]
    assert said == "PoolLuna, the same with max pooling, minus Luna (M = 16): Text +0.0."


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    write_run(tmp_path, "transformer", "text", accuracy=0.66)
    write_run(tmp_path, "convluna-1", "text", accuracy=0.7)  # nobody else's model
    said = in_short(tmp_path)["Beside published numbers"]
    assert said.startswith("Transformer: Text 66.0 (64.3 to 65.2). In brackets")
    assert "best of up to 50" in said


def test_numbers_of_the_paper_itself_are_not_those_of_others(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", "image", accuracy=0.5)
    known = published.load()
    own = (known["source"] == published.PAPER) & (known["task"] == "image")
    assert own.any()
    known.loc[own, "accuracy"] = 50.0
    assert "Beside published numbers" not in in_short(tmp_path, known)


def test_the_best_control_stands_beside_the_best_convluna(tmp_path: Path) -> None:
    write_run(tmp_path, "localconv", "text", accuracy=0.81)
    assert "The filter without a memory" not in in_short(tmp_path)
    write_run(tmp_path, "memoryless", "text", accuracy=0.78)
    write_run(tmp_path, "convluna-1", "text", accuracy=0.77)
    write_run(tmp_path, "convluna-16", "text", accuracy=0.83)
    assert in_short(tmp_path)["The filter without a memory"] == (
        "The best control that has run has on Text 81.0 (Local convolution), where the best "
        "ConvLuna has 83.0 (M = 16). Controls read the mean of all positions, ConvLuna reads CLS."
    )


def test_what_a_run_loses_is_its_own_difference(tmp_path: Path) -> None:
    whole = {16: 0.70, 8: 0.65, 4: 0.6, 1: 0.55}
    write_run(tmp_path, "luna-16", "text", 0, accuracy=0.70, removal=whole)
    write_run(tmp_path, "luna-16", "text", 1, accuracy=0.90, removal={16: 0.90, 8: 0.85})
    write_run(tmp_path, "luna-16", "text", 2, accuracy=0.50, removal={16: 0.5, 8: 0.5, 1: 0.5})
    said = in_short(tmp_path)["Rows taken away"]
    own = "Every example keeps random rows of its own."
    assert said.endswith(f"Luna-16: Text 5.0 and 15.0. {own}"), "of the one run that has all three"


def test_seeds_that_lose_quite_different_amounts_are_told_apart(tmp_path: Path) -> None:
    for seed, half in enumerate((0.702, 0.52)):
        kept = {16: 0.70, 8: half, 1: 0.5 + seed / 100}
        write_run(tmp_path, "luna-16", "text", seed, accuracy=0.70, removal=kept)
    said = in_short(tmp_path)["Rows taken away"]
    assert "(in brackets from seed to seed, where that is more than 2 points). Luna-16" in said
    assert "Luna-16: Text 8.9 (−0.2 to 18.0) and 19.5." in said


def test_only_the_runs_that_are_shown_say_how_rows_were_chosen(tmp_path: Path) -> None:
    for model in ("luna-16", "rmt-16"):
        kept = {16: 0.70, 8: 0.69, 1: 0.5}
        folder = write_run(tmp_path, model, "text", accuracy=0.70, removal=kept)
        if model == "luna-16":  # an older run
            lines = (folder / "removal.jsonl").read_text()
            (folder / "removal.jsonl").write_text(lines.replace(', "orders": 500', ""))
    assert in_short(tmp_path)["Rows taken away"].endswith(" One random choice of rows per run.")


def test_rows_taken_away_cost_what_the_whole_test_set_says(tmp_path: Path) -> None:
    kept = {16: 0.65, 8: 0.652, 4: 0.6, 1: 0.5}
    write_run(tmp_path, "luna-16", "text", accuracy=0.65, removal=kept)
    kept = {16: 0.50, 8: 0.40, 4: 0.3, 1: 0.1}
    write_run(tmp_path, "convluna-16", "image", accuracy=0.5, removal=kept)
    write_run(
        tmp_path, "convluna-16", "image", model_changes={"filter": "none"},
        removal={16: 0.5, 8: 0.1},
    )  # fmt: skip
    said = in_short(tmp_path)["Rows taken away"]
    assert " Luna-16: Text −0.2 and 15.0; ConvLuna-16: Image 10.0 and 40.0. " in said


def test_on_listops_the_rule_without_a_memory_is_named_too(tmp_path: Path) -> None:
    write_run(tmp_path, "localconv", "listops", accuracy=0.3)
    write_run(tmp_path, "convluna-1", "listops", accuracy=0.4)
    assert (
        "(M = 1) and the first operator alone 36.0."
        in in_short(tmp_path)["The filter without a memory"]
    )


def test_what_models_make_of_the_rest_of_listops_stands_beside_the_rule(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1", "listops", 0, accuracy=0.36)
    write_run(tmp_path, "luna-1", "listops", 1, accuracy=0.38)
    write_run(tmp_path, "luna-1", "listops-short", accuracy=0.9)
    said = in_short(tmp_path)["ListOps"]
    assert said.endswith("(500 test examples, runs that were asked): Luna-1 21.0.")
    for file in tmp_path.rglob("beginning.jsonl"):
        file.unlink()
    assert "Points lost" not in in_short(tmp_path)["ListOps"]


def becoming(folder: Path) -> str:
    return in_short(folder).get("Rows alike", "")


def test_rows_become_alike_by_rank_and_by_cosine_run_by_run(tmp_path: Path) -> None:
    assert becoming(tmp_path) == ""
    alike, apart = {"packed_cosine": 0.99}, {"packed_cosine": 0.90}
    write_run(tmp_path, "luna-16", "listops", 0, probes={**alike, "packed_rank": 1.2})
    said = becoming(tmp_path)
    assert "to 0.99, effective rank" in said
    assert said.endswith("by rank (more than 0.5 less) and by cosine: Luna ListOps 1 and 1 of 1.")
    write_run(tmp_path, "luna-16", "listops", 1, probes={**apart, "packed_rank": 1.5})
    write_run(tmp_path, "luna-16", "text", probes={**apart, "packed_rank": 16.0})
    write_run(tmp_path, "convluna-16", "listops", probes={**alike, "packed_rank": 16.0})
    write_run(tmp_path, "luna-1", "image")
    said = becoming(tmp_path)
    assert "to 0.99 and 0.90, effective rank" in said, "seeds that end apart are both there"
    assert "to 1.2 and 1.5; Text" in said
    cosine = "1" if begun(tmp_path, "packed_cosine") > 0.90 else "2"
    counts = f"Luna ListOps 2 and {cosine} of 2, Text 0 and {int(cosine) - 1} of 1"
    assert said.endswith(f"by cosine: {counts}; ConvLuna ListOps 0 and 1 of 1.")


def begun(folder: Path, measure: str) -> float:
    """What the last block of Luna-16 on ListOps began with."""
    runs = rows.load_runs(folder)
    probes = rows.load_probes(runs[(runs["model"] == "luna-16") & (runs["task"] == "listops")])
    first, _ = rows.first_and_last(probes)
    return float(first.loc[first["block"] == first["block"].max(), measure].iloc[0])


def test_rank_that_hardly_falls_makes_no_rows_alike(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "luna-16", "listops", probes={"packed_cosine": 0.98})
    looks = [json.loads(line) for line in (folder / "probes.jsonl").read_text().splitlines()]
    for lost, count in ((0.4, 0), (0.6, 1)):
        looks[-1]["packed_rank"] = begun(tmp_path, "packed_rank") - lost
        text = "".join(json.dumps(look) + "\n" for look in looks)
        (folder / "probes.jsonl").write_text(text)
        assert f"Luna ListOps {count} and " in becoming(tmp_path)


def test_only_finished_runs_of_the_protocol_that_were_looked_at_twice_can_become_alike(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, "luna-16", "listops", 0, outcome="failed", reason="the loss diverged")
    write_run(tmp_path, "luna-16", "listops", 1, training_changes={"steps": 100})
    folder = write_run(tmp_path, "luna-16", "listops", 2)
    looks = (folder / "probes.jsonl").read_text().splitlines()
    first = [line for line in looks if json.loads(line)["step"] == json.loads(looks[0])["step"]]
    (folder / "probes.jsonl").write_text("\n".join(first) + "\n")
    assert becoming(tmp_path) == ""
