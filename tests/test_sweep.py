"""A sweep: what is missing, in which order, what it takes; trained here, once, within a time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import amend, write_run

from memnb import cli, config, paths
from memnb.config import Run, run_config
from memnb.errors import DataError, MemnbError, RunError
from memnb.evidence import rows
from memnb.reproduce import cost, plan
from memnb.reproduce.progress import Display
from memnb.reproduce.workers import Ended
from memnb.sweep import local, planning, sweep
from memnb.sweep.local import Machine
from memnb.sweep.on_ray import Cluster
from memnb.sweep.on_slurm import Queue
from memnb.sweep.planning import Selection
from memnb.tasks import prepared

PRETEND = "pretend_training:train"
CPU = Machine("cpu", "a processor", (), 2)
CARDS = Machine("cuda", "NVIDIA H100 80GB HBM3", ("0", "1"), 8)
QUICK = Selection(sets=["table"], models=["luna-1", "luna-16"], seeds=[0, 1], preset="quick")


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No committed rows, but those that a test writes."""
    folder = tmp_path / "stored"
    monkeypatch.setattr(paths, "stored_results", lambda: folder)
    return folder


def names(runs: Any) -> list[str]:
    return [f"{run.task.name} {run.model.name} s{run.seed}" for run in runs]


# --- which runs, in which order --------------------------------------------------------------


def test_the_order_is_that_of_the_claims() -> None:
    runs = planning.select(Selection())
    place = {run.run_id: number for number, run in enumerate(runs)}

    def where(name: str, tasks: Any = None) -> list[int]:
        some = plan.runs(name, "paper")
        return [place[run.run_id] for run in some if tasks is None or run.task.name in tasks]

    first = where("table", ("text", "listops", "image"))
    assert sorted(first) == list(range(len(first)))
    assert [runs[number].seed for number in sorted(first)] == sorted(3 * [0, 1, 2] * 8)
    ablation = where("ablation", plan.PAPER_ABLATION_TASKS)
    assert max(ablation) < min(where("table", ("pathfinder",)))
    assert max(where("table", ("pathfinder",))) < min(where("other-tasks"))
    between = [place[run.run_id] for run in plan.runs("chunks", "paper") if run.model.chunk]
    assert max(where("memory-size")) < min(between)
    assert {run.task.name for run in runs if run.preset == "paper"} == set(config.FULL_TASKS)
    every = {run.run_id for name in plan.SETS for run in plan.runs(name, "paper")}
    assert len(runs) == len(every)


def test_names_and_seeds_narrow_the_plan() -> None:
    chosen = planning.select(Selection(tasks=["text"], models=["luna-1", "convluna-1"], seeds=[2]))
    assert names(chosen) == ["text luna-1 s2", "text convluna-1 s2"]
    assert all(run.preset == "paper" for run in chosen)


def test_seeds_that_are_not_planned_are_added_to_the_end() -> None:
    few = Selection(sets=["table"], tasks=["text"], models=["luna-1"])
    chosen = planning.select(Selection(few.sets, few.tasks, few.models, seeds=[4, 1]))
    assert names(chosen) == ["text luna-1 s1", "text luna-1 s4"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(sets=["tabel"]), "did you mean 'table'"),
        (Selection(tasks=["txt"]), "did you mean 'text'"),
        (Selection(models=["lunar-1"]), "did you mean 'luna-1'"),
        (Selection(preset="papr"), "did you mean 'paper'"),
        (
            Selection(preset="stored"),
            "no preset to sweep named 'stored'; the choices are paper, quick",
        ),
        (
            Selection(models=["luna-3"]),
            "The preset 'paper' plans no run of --models luna-3; change it, choose another",
        ),
        (
            Selection(sets=["table"], models=["rmt-16", "rmt-1"]),
            "plans no run of --set table and --models rmt-16,rmt-1; change one of them",
        ),
        (
            Selection(sets=["table"], models=["luna-1", "rmt-1"]),
            "plans no run of --set table and --models rmt-1; change one of them",
        ),
        (
            Selection(tasks=["text", "listops-short"], preset="quick"),
            "'quick' plans no run of --tasks text; change it",
        ),
        (
            Selection(sets=["chunks", "recall"], preset="quick"),
            "The preset 'quick' plans no run of chunks, recall; choose other sets",
        ),
        (
            Selection(tasks=["text-short"], preset="quick"),
            r"data are not here \(text-short: `memnb data get text`",
        ),
        (Selection(tasks=["text"], preset="quick"), "'quick' plans no run of --tasks text; change"),
    ],
)
def test_a_selection_that_means_nothing_is_refused(
    selection: Selection, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path))
    with pytest.raises(MemnbError, match=message):
        planning.select(selection)


def test_a_model_and_a_task_that_are_both_named_need_no_set() -> None:
    tasks = ["listops-short", "text"]
    chosen = planning.select(Selection(tasks=tasks, models=["luna-3", "luna-16"]))
    added = [f"{task} luna-3 s{seed}" for seed in plan.SEEDS for task in tasks]
    assert names(chosen)[-len(added) :] == added
    assert not any(run.model.name == "luna-3" for run in chosen[: -len(added)])
    planned = planning.select(Selection(tasks=tasks, models=["luna-16"]))
    assert chosen[: -len(added)] == planned
    assert chosen[-1] == config.run_config("luna-3", "text", plan.SEEDS[-1])
    few = Selection(tasks=["listops-short"], models=["luna-3"], seeds=[7], preset="quick")
    assert names(planning.select(few)) == ["listops-short luna-3 s7"]


def test_a_seed_given_twice_is_one_seed() -> None:
    once, twice = (
        Selection(tasks=["text"], models=["luna-1"], seeds=seeds) for seeds in ([7], [7, 7])
    )
    assert planning.select(twice) == planning.select(once)


def test_committed_rows_and_those_of_this_machine_count(tmp_path: Path, stored: Path) -> None:
    write_run(stored, "luna-1", seed=0)
    write_run(tmp_path / "runs", "luna-1", seed=1, outcome="failed", reason="NaN")
    write_run(tmp_path / "runs", "luna-16", seed=0, outcome="interrupted")
    write_run(tmp_path / "runs", "luna-16", seed=1, outcome="failed", reason="out of memory; ...")
    made = sweep.make_plan(QUICK, tmp_path, where=CPU)
    assert names(made.todo) == ["listops-short luna-16 s0", "listops-short luna-16 s1"]
    assert made.sentences()[0] == "4 runs, 2 of them ended before, 2 to do."


def test_missing_data_are_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "data"))
    some = Selection(tasks=["text", "listops", "image"], models=["luna-1"], seeds=[0])
    with pytest.raises(DataError, match=r"text: `memnb data get text`.*--skip-missing-data"):
        sweep.make_plan(some, tmp_path, where=CPU)
    made = sweep.make_plan(some, tmp_path, where=CPU, missing_data="leave out")
    assert {run.task.name for run in made.todo} == {"listops"}
    shown = "\n".join(made.sentences())
    assert "left out, 1 to do" in shown
    assert "Left out, no data: image; `memnb data get image`" in shown
    prepared.file("text").parent.mkdir(parents=True)
    prepared.file("text").touch()
    made = sweep.make_plan(some, tmp_path, where=CPU, missing_data="leave out")
    assert {run.task.name for run in made.todo} == {"text", "listops"}
    # The machines of a cluster have data of their own.
    cluster = sweep.make_plan(some, tmp_path, where=Cluster(gpus=0))
    assert len(cluster.todo) == made.selected
    assert (cluster.kind, cluster.places) == (cost.CORE, 1)
    assert sweep.make_plan(some, tmp_path, where=Queue()).kind == cost.H100


# --- what it takes ---------------------------------------------------------------------------


def measured(folder: Path, model: str, seconds: float, **changes: Any) -> None:
    run = write_run(folder, model, changes.pop("task", "text"), probes=False, removal=False)
    usual = {"device": "cuda", "device_name": "NVIDIA H100 80GB HBM3"}
    amend(run, seconds=seconds, **{**usual, **changes})


def test_times_are_measured_or_scaled_or_assumed_and_say_so(tmp_path: Path) -> None:
    measured(tmp_path, "luna-1", 300.0)
    measured(tmp_path, "luna-16", 900.0, side_by_side=3)
    speeds = cost.Speeds(rows.load_runs(tmp_path))
    same = speeds.estimate(run_config("luna-1", "text", 1), cost.H100)
    assert same == cost.Estimate(300.0, "measured")
    # Three shared the card for 900 s, so that each took 300 s of it.
    assert speeds.estimate(run_config("luna-16", "text", 2), cost.H100).seconds == 300.0
    near = run_config("luna-32", "text")
    ratio = cost.operations_of(near) / cost.operations_of(run_config("luna-16", "text"))
    scaled = speeds.estimate(near, cost.H100)
    assert scaled.basis == "scaled"
    assert scaled.seconds == pytest.approx(300.0 * ratio)
    other = speeds.estimate(run_config("luna-1", "text"), cost.T4)
    assert other.basis == "assumed"
    assert other.seconds == pytest.approx(300.0 * cost.SLOWER_THAN_H100[cost.T4])
    # A changed setting is another model.
    changed = run_config("luna-1", "text", model_changes={"representation": "mean"})
    assert speeds.estimate(changed, cost.H100).basis == "scaled"
    assert speeds.estimate(changed, cost.CORE).basis == "assumed"


def test_a_run_that_stopped_early_tells_the_speed_of_its_steps(tmp_path: Path) -> None:
    run = run_config("luna-1", "text")
    measured(tmp_path, "luna-1", 300.0, step=run.training.steps // 2)
    speeds = cost.Speeds(rows.load_runs(tmp_path))
    other = run_config("luna-1", "text", model_changes={"representation": "mean"})
    assert speeds.estimate(other, cost.H100).seconds == pytest.approx(600.0)


def test_the_closest_measured_run_is_the_measure() -> None:
    of = lambda model, task="text": run_config(model, task)  # noqa: E731
    wanted = of("luna-16")
    order = [of("luna-16", "listops"), of("transformer"), of("luna-256"), of("luna-8")]
    found = sorted(order, key=lambda run: cost._likeness(wanted, run))
    assert found == order


def test_work_is_shared_out_to_the_cards_or_cores(tmp_path: Path) -> None:
    for machine, places in ((CPU, 2), (CARDS, 2)):
        made = sweep.make_plan(QUICK, tmp_path, where=machine)
        total = sum(estimate.seconds for estimate in made.estimates.values())
        assert made.seconds == pytest.approx(total / places)
        assert made.places == places
    assert list(made.table()["seed"]) == [0, 0, 1, 1]


def test_no_run_takes_more_than_one_card_and_no_more_cards_than_runs_at_a_time(
    tmp_path: Path,
) -> None:
    one = Selection(sets=["table"], models=["luna-1"], seeds=[0], preset="quick")
    alone, on_cores = (sweep.make_plan(one, tmp_path, where=place) for place in (CARDS, CPU))
    assert alone.seconds == alone.estimates[alone.todo[0].run_id].seconds
    assert on_cores.seconds == on_cores.estimates[alone.todo[0].run_id].seconds / 2
    in_turn = sweep.make_plan(QUICK, tmp_path, where=replace(CARDS, wanted=1))
    assert in_turn.seconds == sum(each.seconds for each in in_turn.estimates.values())
    assert " on 1 H100 (" in in_turn.sentences()[1]


# --- training here ---------------------------------------------------------------------------


class Sweep:
    """A sweep with the pretended training."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out, self.monkeypatch = out, monkeypatch
        self.shown = io.StringIO()

    def __call__(self, what: dict[str, str] | None = None, **settings: Any) -> sweep.Result:
        self.monkeypatch.setenv("PRETEND", json.dumps(what or {}))
        where = settings.pop("where", CPU)
        made = sweep.make_plan(QUICK, self.out, where=where)
        return sweep.run(
            made,
            self.out,
            where=where,
            display=Display(self.shown),
            function=PRETEND,
            **settings,
        )

    def where(self, run: Run) -> str:
        return (paths.runs(self.out) / run.run_id / "where.txt").read_text()


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    return Sweep(tmp_path / "out put", monkeypatch)


def test_a_sweep_trains_each_run_once_and_tells_of_each(swept: Sweep) -> None:
    result = swept()
    assert (result.failures, result.left) == (0, 0)
    assert swept.shown.getvalue().count("test accuracy 35.0%") == 4
    assert list(result.table()["outcome"]) == ["finished"] * 4
    again = swept()
    assert again.plan.todo == ()
    assert again.ended == {}


def test_cards_are_shared_by_two_runs_each_and_told_so(swept: Sweep) -> None:
    result = swept(where=CARDS)
    seen = {swept.where(run) for run in result.plan.todo}
    # Four runs are fewer than six: two to a card.
    assert seen <= {"0 2", "1 2"}


def test_a_run_too_large_beside_others_is_tried_alone(swept: Sweep) -> None:
    result = swept({"luna-16 s0": "no room beside others"}, where=replace(CARDS, wanted=4))
    assert (result.failures, result.left) == (0, 0)
    crowded = next(run for run in result.plan.todo if run.model.memory == 16 and run.seed == 0)
    assert swept.where(crowded).endswith(" 1")
    assert "too little memory beside others" in swept.shown.getvalue()


@pytest.mark.parametrize(
    ("at_a_time", "stopped", "attempts"), [(4, False, 2), (2, False, 1), (4, True, 1)]
)
def test_a_run_too_large_by_itself_is_tried_again_only_where_that_may_help(
    swept: Sweep, at_a_time: int, stopped: bool, attempts: int
) -> None:
    large = paths.runs(swept.out) / run_config("luna-16", plan.QUICK_TASK).run_id
    over = (large / "run.json").exists if stopped else lambda: False
    where = replace(CARDS, wanted=at_a_time)
    result = swept({"luna-16 s0": "no room"}, where=where, should_stop=over)
    assert result.failures == 1
    assert len((large / "calls.txt").read_text().splitlines()) == attempts


def test_a_budget_stops_and_the_next_sweep_goes_on(swept: Sweep) -> None:
    result = swept({"luna-1 s0": "wait", "luna-16 s0": "wait"}, budget=3.0)
    assert result.left == 4
    assert result.failures == 0
    assert set(result.table()["outcome"]) == {"interrupted"}
    assert swept().left == 0


def test_a_budget_that_is_no_number_is_refused(swept: Sweep) -> None:
    with pytest.raises(MemnbError, match=r"number of seconds.* but got nan"):
        swept(budget=float("nan"))


def test_after_a_budget_runs_have_time_to_save(
    swept: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits in front of it, as after Ctrl-C."""
    monkeypatch.setattr("memnb.reproduce.trainer.GRACE", 0.2)
    result = swept({"luna-1 s0": "stop slowly", "luna-16 s0": "stop slowly"}, budget=3.0)
    assert "killed" not in swept.shown.getvalue()
    assert set(result.table()["outcome"]) == {"interrupted"}


def test_a_run_that_another_sweep_trains_is_no_failure(swept: Sweep) -> None:
    result = swept({"luna-1 s0": "in use"})
    assert (result.failures, result.left) == (0, 1)
    told = result.table().set_index(["model", "seed"]).loc[("luna-1", 0)]
    assert told["outcome"] == "in use"
    assert told["reason"] == "Another process trains this run; wait for it."
    assert "Another process trains this run" in swept.shown.getvalue()
    assert swept().left == 0


def test_failures_are_counted_and_named(swept: Sweep) -> None:
    result = swept({"luna-1 s0": "nan", "luna-16 s1": "raise"})
    assert (result.failures, result.left) == (2, 0)
    reasons = list(result.table()["reason"])
    assert reasons[0] == "The run failed: The loss is not a number."
    assert reasons[3] == "ValueError: something"


def test_what_this_machine_is() -> None:
    machine = local.look("cpu")
    assert (machine.device, machine.cards) == ("cpu", ())
    assert machine.jobs == machine.places == machine.cores >= 1
    assert local.look("cpu", 3).jobs == 3
    assert (CARDS.jobs, CARDS.places) == (4, 2)
    under_mps = replace(CARDS, mps=True)
    assert (under_mps.jobs, under_mps.places) == (6, 2)
    assert replace(under_mps, wanted=5).jobs == 5


def test_a_pytorch_that_kills_its_process_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunError, match="what is wrong with PyTorch"):
        local.look("cpu")


def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text('from memnb.sweep import local\n\nlocal.look("cpu")\n')
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode
    assert "below 'if __name__ == \"__main__\":'" in done.stderr.splitlines()[-1]


# --- the command -----------------------------------------------------------------------------


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_dry_run_shows_the_plan_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "look", lambda *_: CPU)
    words = "sweep --dry-run --tasks text --models luna-1,luna-16 --set table --seeds 0"
    code, out, _ = call(capsys, *words.split(), f"--out={tmp_path}")
    assert code == 0
    assert "2 runs, 2 to do." in out
    assert "assumed" in out
    assert out.count("text") >= 2
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_with_nothing_to_do_shows_no_table(
    stored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "look", lambda *_: CPU)
    write_run(stored, "luna-1", "text")
    words = "sweep --dry-run --tasks text --models luna-1 --set table --seeds 0 --device cpu"
    code, out, _ = call(capsys, *words.split())
    assert code == 0
    assert "0 to do." in out
    assert len(out.splitlines()) == 1


def test_planning_takes_its_part_of_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: Any) -> Machine:
        time.sleep(0.2)  # PyTorch is imported
        return CPU

    given = []

    def run(plan: sweep.Plan, out: str, *, budget: float, **_: Any) -> sweep.Result:
        given.append(budget)
        return sweep.Result(plan)

    monkeypatch.setattr(local, "look", look)
    monkeypatch.setattr(sweep, "run", run)
    words = "sweep --preset quick --set table --models luna-1 --seeds 0 --budget 60s"
    assert cli.main([*words.split(), f"--out={tmp_path}"]) == 0
    assert 50 < given[0] < 59.8


def test_runs_that_were_not_started_are_not_counted_as_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(plan: sweep.Plan, *_: Any, **settings: Any) -> sweep.Result:
        first, second = (run.run_id for run in plan.todo)
        ended = {
            first: Ended(first, {"outcome": "interrupted"}),
            second: Ended(second, error="It was not started.", stopped=True),
        }
        return sweep.Result(plan, ended, 5.0)

    monkeypatch.setattr(local, "look", lambda *_: CPU)
    monkeypatch.setattr(sweep, "run", run)
    words = "sweep --preset quick --set table --models luna-1 --seeds 0,1"
    code, out, _ = call(capsys, *words.split(), f"--out={tmp_path}")
    assert code == 0
    assert "1 run in 5 s, 0 failed; 2 to do, the same command goes on." in out


@pytest.mark.parametrize("task", config.TASKS)
def test_every_task_can_be_swept_with_another_seed(
    task: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "look", lambda *_: CPU)
    preset = "paper" if "-short" not in task else "quick"
    words = f"sweep --dry-run --tasks {task} --seeds 7 --preset {preset} --device cpu"
    code, out, err = call(capsys, *words.split())
    if task in ("text-short", "image-short"):  # planned where their data are
        assert "No planned run" in err
        return
    assert code == 0, err
    assert " to do." in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--on rai", "no place to sweep on named 'rai'; did you mean 'ray'"),
        ("--seeds 0,x", "expected a whole number from 0, but got 'x'"),
        ("--tasks text,,image", "expected names with commas between"),
        ("--budget soon", "A time is written 90s"),
        ("--gpus-per-run many", "expected a number such as 0.5"),
        ("--on slurm --gpus-per-run 0.5", "Slurm gives out whole graphics cards"),
        ("--dry-run --store s3://b/runs", "--store means something with --on ray or slurm only"),
        ("--on ray --jobs 2", "--jobs means something with --on local or slurm only"),
        ("--retries 0", "--retries means something with --on ray or slurm only"),
        ("--time-limit 9h", "--time-limit means something with --on slurm only"),
        ("--on slurm --address auto", "--address means something with --on ray only"),
        ("--dry-run --on slurm --gpus-per-run 0.5", "Slurm gives out whole graphics cards"),
        ("--dry-run --on slurm --time-limit soon", "A time is written 90s"),
        ("--dry-run --on ray --gpus-per-run 1.5", "parts of one graphics card or whole ones"),
        ("--dry-run --on ray --device cpu --gpus-per-run 1", "contradict each other"),
        ("--dry-run --on slurm --device cuda --gpus-per-run 0", "contradict each other"),
        ("--dry-run --on ray --skip-missing-data", "something with --on local only"),
    ],
)
def test_mistakes_in_the_call_are_one_sentence(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, "sweep", *words.split(), f"--out={tmp_path}")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_who_asks_for_cards_gets_no_run_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ray's own choice, on a cluster without cards, would be the CPU."""
    asked: list[object] = []

    def run(plan: sweep.Plan, _out: str, **settings: object) -> sweep.Result:
        asked.append(settings["where"])
        return sweep.Result(plan)

    monkeypatch.setattr(sweep, "run", run)
    words = f"sweep --on ray --preset quick --set table --models luna-1 --seeds 7 --out={tmp_path}"
    for device in ("cuda", "cpu", "auto"):
        assert call(capsys, *words.split(), "--device", device)[0] == 0
    assert asked == [Cluster(gpus=0.5), Cluster(gpus=0), Cluster(gpus=None)]


BARE = """
import sys
ABSENT = {"pooch", "requests", "scipy", "matplotlib", "seaborn", "PIL", "jinja2",
          "IPython", "ipykernel", "papermill", "nbformat", "nbconvert", "ray", "submitit"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
if __name__ == "__main__":
    from memnb import cli
    from memnb.config import run_config
    from memnb.reproduce import plan
    small = {"train": 64, "validation": 32, "test": 32}
    short = {"steps": 4, "evaluate_every": 2, "batch": 8}
    run = run_config(
        "luna-4", "listops-short", task_changes=small, training_changes=short,
        model_changes={"width": 8},
    )
    plan.SETS["table"] = lambda preset: iter([run])
    words = "sweep --preset quick --set table --seeds 0 --device cpu --budget 300s".split()
    sys.exit(cli.main(words) or cli.main("results --runs --format csv".split()))
"""


def test_a_bare_machine_with_pytorch_can_sweep_and_print_its_rows(tmp_path: Path) -> None:
    script = tmp_path / "bare.py"
    script.write_text(BARE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 run in" in done.stdout
    assert "finished" in done.stdout
    assert "\nrun_id,preset,task," in done.stdout
