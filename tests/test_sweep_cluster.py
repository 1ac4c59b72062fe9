"""Runs on other machines: cut off and taken up, they give the rows that one machine gives."""

from __future__ import annotations

import importlib.util
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from memnb import __version__, cli
from memnb.config import Run, run_config
from memnb.errors import RunError
from memnb.evidence import rows
from memnb.reproduce import trainer
from memnb.reproduce.progress import Display
from memnb.reproduce.workers import Ended
from memnb.sweep import local, on_ray, on_slurm, remote, sweep
from memnb.sweep.local import Machine
from memnb.sweep.on_ray import Cluster
from memnb.sweep.on_slurm import Queue
from memnb.sweep.store import Store
from memnb.sweep.work import Work

HURRIED = "hurried_training:train"
PRETEND = "pretend_training:train"
TESTS = str(Path(__file__).parent)


def tiny(seed: int = 0, steps: int = 40) -> Run:
    """A run of some seconds, most of them pauses."""
    return run_config(
        "luna-4",
        "listops-short",
        seed,
        task_changes={"train": 64, "validation": 32, "test": 32},
        training_changes={"steps": steps, "evaluate_every": 10, "batch": 8},
        model_changes={"width": 8},
    )


def results(folder: Path) -> dict[str, Any]:
    """What two runs of one config have to agree on: everything but times and places."""
    record = json.loads((folder / "run.json").read_text())
    keys = ("run_id", "outcome", "step", "best_step", "validation_accuracy", "validation_loss",
            "test_accuracy", "test_loss", "precision", "threads")  # fmt: skip
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "record": {key: record[key] for key in keys},
        "metrics": [{k: v for k, v in row.items() if k != "seconds"} for row in metrics],
        "probes": (folder / "probes.jsonl").read_text(),
        "removal": (folder / "removal.jsonl").read_text(),
        "weights": (folder / "best.pt").read_bytes(),
    }


def work(runs: list[Run], folder: Path, store: Path | None = None, **changes: Any) -> Work:
    """Runs to train in a hurry, into ``folder``."""
    settings = {
        "deadline": None,
        "display": Display(io.StringIO()),
        "should_stop": lambda: False,
        "function": HURRIED,
    }
    return Work(tuple(runs), folder, str(store or folder), **(settings | changes))


def trained_here(runs: list[Run], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The results of ``runs`` on this machine, without any hurry or interruption."""
    monkeypatch.setattr(trainer, "cores", lambda: 1)
    machine = Machine("cpu", "", (), 1)
    local.train(work(runs, folder, function=trainer.TRAIN), machine)
    return [results(folder / run.run_id) for run in runs]


# --- the store -------------------------------------------------------------------------------


@pytest.fixture(params=["a folder", "an object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("memnb.sweep.store._LOOK_EVERY", 0.05)
    if request.param == "a folder":
        return Store(str(tmp_path / "the store"))
    return Store(f"memory://{tmp_path.name}/runs")


def checkpoint(folder: Path, step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"checkpoint-{step:08d}.pt").write_bytes(b"state %d" % step)
    (folder / f"checkpoint-{step:08d}.sha256").write_text(f"sum {step}")


def test_the_store_keeps_the_newest_checkpoints_and_gives_them_back(
    store: Store, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    sent: set[str] = set()
    assert store.names("r") == []
    for step in (1, 2, 3):
        checkpoint(here, step)
        store.push_checkpoints("r", here, sent)
    names = [f"checkpoint-0000000{n}.{kind}" for n in (2, 3) for kind in ("pt", "sha256")]
    assert store.names("r") == sorted(names)
    store.pull("r", there)
    assert {path.name: path.read_bytes() for path in there.iterdir()} == {
        name: (here / name).read_bytes() for name in names
    }


def test_a_checkpoint_counts_in_the_store_only_when_its_sum_is_there(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "here", 1)
    put = []
    monkeypatch.setattr(store, "_put", lambda run, name, content: put.append(name))
    store.push_checkpoints("r", tmp_path / "here", set())
    assert put == ["checkpoint-00000001.pt", "checkpoint-00000001.sha256"]


def test_results_take_the_place_of_checkpoints_the_record_last(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    checkpoint(here, 5)
    put = []
    real = store._put
    monkeypatch.setattr(
        store, "_put", lambda run, name, content: (put.append(name), real(run, name, content))
    )
    with store.following("r", here):
        (here / "metrics.jsonl").write_text("{}\n")
        (here / "run.json").write_text('{"outcome": "finished"}')
        checkpoint(here, 6)
        time.sleep(0.3)  # the background look has sent it
        assert "checkpoint-00000006.sha256" in store.names("r")
    assert store.names("r") == ["metrics.jsonl", "run.json"]
    assert put[-1] == "run.json"


def test_a_store_that_is_away_for_a_while_costs_no_training(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "here", 1)
    tries = []

    def put(run: str, name: str, content: bytes) -> None:
        tries.append(name)
        if len(tries) == 1:
            raise OSError("the network is down")

    monkeypatch.setattr(store, "_put", put)
    with store.following("r", tmp_path / "here"):
        time.sleep(0.3)
    assert tries[1:] == ["checkpoint-00000001.pt", "checkpoint-00000001.sha256"]


def test_an_address_that_means_nothing_is_refused() -> None:
    with pytest.raises(RunError, match=r"The store s4://bucket cannot be used"):
        Store("s4://bucket")


@pytest.mark.parametrize(
    ("named", "meeting"),
    [
        (None, "{out}/runs"),
        ("", "{out}/runs"),
        ("shared/runs", "{here}/shared/runs"),
        ("s3://b/runs", "s3://b/runs"),
    ],
)
def test_a_folder_to_meet_in_is_the_same_from_every_working_directory(
    named: str | None, meeting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(on_ray, "train", lambda work, _: seen.append(work.store) or {})
    plan = sweep.Plan((), 0, 0, {}, {}, "H100", 1)
    sweep.run(plan, tmp_path / "out", where=Cluster(), store=named, display=Display(io.StringIO()))
    assert seen == [meeting.format(out=tmp_path / "out", here=here)]


# --- one attempt -----------------------------------------------------------------------------


def payload(run: Run, store: Path, **changes: Any) -> dict[str, Any]:
    settings = {"device": "cpu", "threads": 1, "side_by_side": 1}
    one = work([run], Path("anywhere"), store=store, function=PRETEND)
    return remote.payload(one, run, **settings) | changes


def attempt(run: Run, store: Path, **changes: Any) -> dict[str, Any]:
    return remote.attempt(payload(run, store, **changes), lambda message: None, lambda: False)


RUN = run_config("luna-1", "listops-short")


def test_the_files_of_a_run_come_home_and_stay_in_the_store(tmp_path: Path) -> None:
    result = attempt(RUN, tmp_path / "store")
    assert result["record"]["outcome"] == "finished"
    assert set(result["files"]) == set(Store(str(tmp_path / "store")).names(RUN.run_id))
    home = tmp_path / "home" / RUN.run_id
    checkpoint(home, 1)
    end = remote.ended(RUN.run_id, {"value": result, "seconds": 2.0}, tmp_path / "home")
    assert end == Ended(RUN.run_id, result["record"], seconds=2.0)
    assert rows.read_run(home)[0].test_accuracy == 0.35
    assert not list(home.glob("checkpoint-*"))


def test_results_that_the_store_does_not_take_still_come_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(store: Store, run: str, name: str, content: bytes) -> None:
        raise OSError("the store is full")

    monkeypatch.setattr(Store, "_put", put)
    result = attempt(RUN, tmp_path / "store")
    end = remote.ended(RUN.run_id, {"value": result, "seconds": 2.0}, tmp_path / "home")
    assert end.error is None
    assert rows.read_run(tmp_path / "home" / RUN.run_id)[0].test_accuracy == 0.35


def test_a_recorded_failure_comes_home_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETEND", '{"luna-1 s0": "nan"}')
    result = attempt(RUN, tmp_path / "store")
    end = remote.ended(RUN.run_id, {"value": result, "seconds": 2.0}, tmp_path / "home")
    assert end.error == "The run failed: The loss is not a number."
    assert rows.read_run(tmp_path / "home" / RUN.run_id)[0].outcome == "failed"


def test_of_a_run_that_was_interrupted_no_file_comes_home_and_none_goes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints stay where it goes on from them."""

    def stopped(payload: dict[str, Any], *_: Any) -> None:
        folder = Path(payload["folder"])
        (folder / "run.json").write_text(json.dumps({"outcome": "interrupted", "step": 5}))
        (folder / "metrics.jsonl").write_text("")

    monkeypatch.setattr(remote.trainer, "job", stopped)
    home = tmp_path / "home" / RUN.run_id
    checkpoint(home, 1)
    before = sorted(path.name for path in home.iterdir())
    result = attempt(RUN, tmp_path / "store")
    end = remote.ended(RUN.run_id, {"value": result, "seconds": 2.0}, tmp_path / "home")
    assert (end.value["outcome"], end.error) == ("interrupted", None)
    assert sorted(path.name for path in home.iterdir()) == before


def test_a_machine_is_told_where_data_and_blocks_are_and_which_commit_its_code_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"MEMNB_DATA": "/shared/data", "MEMNB_BLOCKS": "mine=/shared/mine.py"}
    commit = {"MEMNB_COMMIT": "0123456789ab"}
    for name, value in (told | commit).items():
        monkeypatch.setenv(name, value)
    assert payload(RUN, tmp_path)["environment"] == told | commit
    monkeypatch.delenv("MEMNB_COMMIT")
    assert payload(RUN, tmp_path)["environment"] == told


def test_machines_of_another_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"has memnb {__version__}, but the sweep is one of memnb 9"):
        attempt(RUN, tmp_path, version="9.9")


def test_past_the_deadline_a_run_stops_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETEND", '{"luna-1 s0": "wait"}')
    with pytest.raises(RunError, match="left no record"):  # the pretended training writes none
        attempt(RUN, tmp_path, deadline=time.time() - 1)


# --- Slurm -----------------------------------------------------------------------------------


def test_a_preempted_job_is_requeued_and_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tiny(), tmp_path / "an output folder"
    monkeypatch.setenv("PYTHONPATH", TESTS)
    monkeypatch.setenv("PREEMPT", str(out / "runs"))
    shown = io.StringIO()
    queue = Queue(cluster="local", gpus=0, minutes=5)
    one = work([run], out / "home", store=out / "runs", display=Display(shown))
    ended = on_slurm.train(one, queue, out / "slurm")
    log = next((out / "slurm").glob("*_log.err")).read_text()
    assert ended[run.run_id].error is None, (ended[run.run_id], log)
    assert "Caught signal SIGUSR2" in log
    assert ended[run.run_id].value["resumed"] >= 1
    assert "test accuracy" in shown.getvalue()
    expected = trained_here([run], tmp_path / "local", monkeypatch)
    assert [results(out / "home" / run.run_id)] == expected


class Queued:
    """A job that waits until it is cancelled, and the executor that takes it."""

    state = "PENDING"

    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload, self.cancelled = payload, False

    def done(self) -> bool:
        return self.cancelled

    def exception(self) -> Exception:
        return RuntimeError("It was cancelled.")

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Queued]:
    """The jobs that are given to a queue in which nothing ever begins."""
    jobs: list[Queued] = []

    class Executor:
        @staticmethod
        def map_array(_: Any, payloads: list[dict[str, Any]]) -> list[Queued]:
            jobs.extend(map(Queued, payloads))
            return jobs[-len(payloads) :]

    monkeypatch.setattr(on_slurm, "_executor", lambda *_: Executor)
    monkeypatch.setattr(on_slurm, "_POLL", 0.01)
    (tmp_path / "slurm").mkdir()
    return jobs


def test_a_sweep_through_slurm_that_stops_tells_no_other_one_to(
    tmp_path: Path, queued: list[Queued]
) -> None:
    def stop() -> bool:
        """While the first sweep waits, a second one begins in the same folder, and ends."""
        if len(queued) == 1:
            second = work([tiny(1)], tmp_path, should_stop=lambda: True)
            ended = on_slurm.train(second, Queue(), tmp_path / "slurm")
            assert ended[tiny(1).run_id].stopped
            assert [job.cancelled for job in queued] == [False, True]
            assert not Path(queued[0].payload["stop_file"]).exists()
        return True

    on_slurm.train(work([tiny()], tmp_path, should_stop=stop), Queue(), tmp_path / "slurm")
    assert queued[0].payload["stop_file"] != queued[1].payload["stop_file"]
    assert list((tmp_path / "slurm").iterdir()) == []


def test_a_sweep_through_slurm_that_is_cut_off_leaves_no_job_behind(
    tmp_path: Path, queued: list[Queued]
) -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt  # Ctrl-C, a second time

    some = work([tiny(), tiny(1)], tmp_path, should_stop=interrupted)
    with pytest.raises(KeyboardInterrupt):
        on_slurm.train(some, Queue(), tmp_path / "slurm")
    assert [job.cancelled for job in queued] == [True, True]


def test_a_job_that_is_lost_without_a_word_is_told_by_its_type(
    tmp_path: Path, queued: list[Queued], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Queued, "done", lambda _: True)
    monkeypatch.setattr(Queued, "exception", lambda _: TimeoutError())
    ended = on_slurm.train(work([tiny()], tmp_path), Queue(), tmp_path / "slurm")
    assert ended[tiny().run_id].error == "Its job was lost: TimeoutError"


def test_where_there_is_no_slurm_one_sentence_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["sweep", "--on", "slurm", "--tasks", "text", "--models", "luna-2", f"--out={tmp_path}"]
    assert cli.main(words) == 1
    assert "There is no Slurm on this machine" in capsys.readouterr().err


# --- Ray -------------------------------------------------------------------------------------

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="needs ray, which the lock leaves out (80 MB for a test of a minute); to run it: "
    "pip install -e '.[ray]'",
)


@needs_ray
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # Ray's own, in its threads
def test_a_lost_node_costs_nothing_and_the_rows_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster as Nodes

    runs, out = [tiny(seed, steps=120) for seed in range(3)], tmp_path / "an output folder"
    monkeypatch.setenv("PYTHONPATH", TESTS)
    shown = io.StringIO()
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first = nodes.add_node(num_cpus=1)
        nodes.add_node(num_cpus=1)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
        killed: list[bool] = []

        def kill_a_node_in_the_middle() -> bool:
            """Asked twice a second: once both runs have checkpoints, a node goes without notice."""
            begun = {path.parent.name for path in (out / "runs").glob("*/checkpoint-*.sha256")}
            if len(begun) >= 2 and not killed:
                killed.append(True)
                nodes.remove_node(first, allow_graceful=False)
                nodes.add_node(num_cpus=1)
            return False

        three = work(
            runs,
            out / "home",
            store=out / "runs",
            display=Display(shown),
            should_stop=kill_a_node_in_the_middle,
        )
        ended = on_ray.train(three, Cluster(gpus=0))
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert [end.error for end in ended.values()] == [None] * 3
    resumed = [name for name, end in ended.items() if end.value["resumed"]]
    assert resumed
    told = shown.getvalue().count("Its machine or process was lost; taken up on")
    assert told >= len(resumed)
    expected = trained_here(runs, tmp_path / "local", monkeypatch)
    assert [results(out / "home" / run.run_id) for run in runs] == expected


@needs_ray
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_sweep_on_ray_stops_when_asked_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    run, folder = tiny(steps=200), tmp_path / "runs"
    monkeypatch.setenv("PYTHONPATH", TESTS)
    ray.init(num_cpus=1, log_to_driver=False, logging_level="error", include_dashboard=False)

    def train(should_stop: Any) -> Ended:
        two = work([run, tiny(1)], folder, should_stop=should_stop)
        ended = on_ray.train(two, Cluster(gpus=0))
        assert set(ended) == {run.run_id, tiny(1).run_id}
        return ended[run.run_id]

    try:
        stopped = train(lambda: any(folder.glob(f"{run.run_id}/checkpoint-*.sha256")))
        assert stopped.value["outcome"] == "interrupted"
        finished = train(lambda: False)
    finally:
        ray.shutdown()
    assert finished.value["outcome"] == "finished"
    assert finished.value["resumed"] == 1


def test_without_ray_one_sentence_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    words = ["sweep", "--on", "ray", "--tasks", "text", "--models", "luna-2", f"--out={tmp_path}"]
    assert cli.main(words) == 1
    assert "pip install -e '.[ray]'" in capsys.readouterr().err


def test_an_address_where_no_cluster_answers_is_told_at_once() -> None:
    class Patient:
        """Ray, which would wait for minutes."""

        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**_: Any) -> None:
            raise AssertionError("Ray was asked although nobody listens")

    begun = time.monotonic()
    with pytest.raises(RunError, match="There is no Ray cluster to use"):
        on_ray._connect(Patient, "127.0.0.1:9")
    assert time.monotonic() - begun < 6


def test_a_store_that_needs_a_package_says_where_to_install_it() -> None:
    if importlib.util.find_spec("s3fs") is not None:
        assert Store("s3://bucket/runs").root
        return
    with pytest.raises(RunError, match=r"s3fs.*install that package on every machine"):
        Store("s3://bucket/runs")
