"""Weights travel without code, come back as they were but for rounding, and damage is said."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from memnb import cli, config, explore, paths, tasks, weights
from memnb.errors import DataError, MemnbError, RunError
from memnb.evidence import views
from memnb.models.network import Network
from memnb.probes import attention_maps
from memnb.probes import views as probes
from memnb.train import examination
from memnb.train.loop import train

TASK = {"min_length": 4, "max_length": 40, "train": 100, "validation": 30, "test": 20}
TRAINING = {"steps": 4, "batch": 8, "evaluate_every": 2}
RUN = config.run_config(
    "convluna-4", "listops-short",
    task_changes=TASK,
    model_changes={"width": 16, "mlp": 16},
    training_changes=TRAINING,
)  # fmt: skip
TITLE = "convluna-4 (width=16, mlp=16) on listops-short, seed 0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMNB_DATA", str(tmp_path_factory.mktemp("data")))
        folder = tmp_path_factory.mktemp("runs") / RUN.run_id
        train(RUN, folder, device="cpu")
    return folder


@pytest.fixture
def exported(trained: Path, tmp_path: Path) -> Path:
    return weights.export(trained, tmp_path / "weights")


def test_an_export_comes_back_as_the_best_network_in_half_precision(
    trained: Path, exported: Path
) -> None:
    assert exported.name == f"{RUN.run_id}.safetensors"
    back = weights.load(exported)
    record = json.loads((trained / "run.json").read_text())
    assert back.run == RUN
    assert back.facts["test_accuracy"] == record["test_accuracy"]
    assert not back.network.training
    best = torch.load(trained / "best.pt", weights_only=True)
    for name, value in back.network.state_dict().items():
        assert torch.equal(value, best[name].half().float()), name
    with safe_open(exported, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_where_the_disk_is_full_nothing_is_left_of_an_export(
    trained: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported.parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match=r"No space left on device.*--to"):
        weights.export(trained, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_buffers_that_count_stay_whole_numbers(tmp_path: Path) -> None:
    run = RUN.but(model=RUN.model.but(filter_kernel="shuffled").model_dump())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMNB_DATA", str(tmp_path / "data"))
        train(run, tmp_path / run.run_id, device="cpu")
        back = weights.load(weights.export(tmp_path / run.run_id, tmp_path / "weights"))
    best = torch.load(tmp_path / run.run_id / "best.pt", weights_only=True)
    name = "encoder.blocks.0.attention.filter.places"
    assert torch.equal(back.network.state_dict()[name], best[name])


def test_the_views_beside_the_weights_are_those_of_the_halved_network(exported: Path) -> None:
    found = views.load_views(exported.with_suffix(".npz"))
    assert len(found) == weights.EXAMPLES
    one = found[0]
    length = int(one["length"])
    assert one["tokens"].shape == one["attribution"].shape == (length,)
    assert one["pack"].shape == (2, 4, 4, length + 1)
    assert one["filled"].shape == (12, 2, 4)
    assert one["filled"][0].max() == 0.0
    assert one["filled"][-1] == pytest.approx(np.ones((2, 4)))
    assert one["prefixes"].tolist()[-1] == length
    inputs = torch.zeros(1, 40, dtype=torch.uint8)
    inputs[0, :length] = torch.from_numpy(one["tokens"])
    network = weights.load(exported).network
    assert int(network(inputs, torch.tensor([length])).argmax()) == int(one["prediction"])


@pytest.mark.parametrize("name", ["rmt-4", "convrmt-4"])
def test_a_model_that_reads_in_chunks_is_exported_with_its_views(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "data"))
    run = config.run_config(
        name, "listops-short",
        task_changes=TASK,
        model_changes={"width": 16, "mlp": 16, "chunk": 9},
        training_changes=TRAINING,
    )  # fmt: skip
    train(run, tmp_path / run.run_id, device="cpu")
    path = weights.export(tmp_path / run.run_id, tmp_path / "weights")
    found = views.load_views(path.with_suffix(".npz"))
    assert len(found) == weights.EXAMPLES
    for one in found:
        length = int(one["length"])
        assert one["tokens"].shape == one["attribution"].shape == (length,)
        assert np.isfinite(one["attribution"]).all()
        assert one["filled"].shape == (12, 2, 4)


def test_the_metadata_can_be_read_without_the_tensors(exported: Path) -> None:
    (one,) = views.shipped(exported.parent)
    assert one.run == RUN
    assert one.title == TITLE
    assert len(one.views()) == 2
    assert views.best_of([one], "ListOps", "convluna") == one
    assert views.best_of([one], "ListOps", "luna") is None
    assert views.best_of([one], "Text", "convluna") is None


def test_full_scale_and_more_memory_are_shown_first() -> None:
    def named(model: str, task: str) -> views.Shipped:
        return views.Shipped(Path(), config.run_config(model, task), {})

    short, one, many = (
        named("luna-256", "listops-short"), named("luna-1", "listops"), named("luna-16", "listops"),
    )  # fmt: skip
    assert views.best_of([short, one, many], "ListOps", "luna") is many


def test_changed_models_are_told_apart_and_shown_last(exported: Path) -> None:
    def named(changes: dict[str, str], steps: int = 700) -> views.Shipped:
        run = config.run_config(
            "convluna-16", "listops-short", model_changes=changes, training_changes={"steps": steps}
        )
        return views.Shipped(exported, run, {"test_accuracy": None})

    plain, short, without = named({}), named({}, 5), named({"filter": "none"})
    assert without.title == "convluna-16 (filter=none) on listops-short, seed 0"
    assert without.label == "ConvLuna-16 (no filter)"
    assert views.best_of([short, without, plain], "ListOps", "convluna") is plain
    names = controls(explore.shipped([plain, without, short]))["model"].options  # type: ignore[attr-defined]
    assert list(names) == [plain.run.run_id, without.title, short.run.run_id]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "There are no weights at"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is damaged"),
        (lambda path: path.write_bytes(b"\x80\x05cposix\nsystem\n."), "is damaged"),
        (lambda path: save_file({"a": torch.zeros(2)}, path), "is no export of memnb"),
        (lambda path: _metadata(path, format="2"), "has the format 2"),
        (lambda path: _metadata(path, config="{"), "config that is not valid"),
        (lambda path: _metadata(path, config='{"task": 1}'), "config that is not valid"),
        (lambda path: _metadata(path, config="[" * 10**5), "config that is not valid"),
        (lambda path: _metadata(path, run_id="another"), "its config is that of"),
        (lambda path: _tensors(path, {"a": torch.zeros(2)}), "do not fit its config"),
        (lambda path: _model(path, width=2**30), "do not fit its config"),
        (lambda path: _model(path, width=2**30, mlp=2**31 - 1), "do not fit its config"),
        (lambda path: _model(path, memory=2**31 - 1), "do not fit its config"),
        (lambda path: _model(path, blocks=2**31 - 1), "of 2 blocks, not of 2147483647"),
    ],
)  # fmt: skip
def test_what_is_no_sound_export_is_refused_in_one_sentence(
    exported: Path, damage: object, sentence: str
) -> None:
    damage(exported)  # type: ignore[operator]
    with pytest.raises(DataError, match=sentence) as caught:
        weights.load(exported)
    assert "\n" not in str(caught.value)


def _model(path: Path, **sizes: int) -> None:
    """The same tensors under the config of a larger model, which no machine could hold."""
    run = RUN.but(model=RUN.model.but(**sizes).model_dump())
    _metadata(path, run_id=run.run_id, config=json.dumps(run.model_dump()))


def _metadata(path: Path, **changes: str) -> None:
    _tensors(path, None, changes)


def _tensors(
    path: Path, tensors: dict[str, torch.Tensor] | None, changes: dict[str, str] | None = None
) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(kept if tensors is None else tensors, path, {**metadata, **(changes or {})})


def test_a_run_without_weights_or_without_an_end_cannot_be_exported(
    trained: Path, tmp_path: Path
) -> None:
    record = json.loads((trained / "run.json").read_text())
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(DataError, match=r"holds no run\.json"):
        weights.export(folder)
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="committed rows come without weights"):
        weights.export(folder)
    (folder / "best.pt").write_bytes(b"not weights")
    with pytest.raises(DataError, match="damaged"):
        weights.export(folder)
    torch.save({"of.another.model": torch.zeros(2)}, folder / "best.pt")
    with pytest.raises(DataError, match="holds the weights of another model"):
        weights.export(folder)
    (folder / "run.json").write_text(json.dumps({**record, "outcome": "interrupted"}))
    with pytest.raises(RunError, match="is interrupted"):
        weights.export(folder)


def test_the_shipped_folder_does_not_grow_beyond_its_limit(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    monkeypatch.setattr(paths, "weights", lambda: shipped)
    path = weights.export(trained)
    size = sum(file.stat().st_size for file in shipped.iterdir())
    monkeypatch.setattr(weights, "LIMIT", size + 10)
    assert weights.export(trained) == path  # the older one is replaced
    (shipped / "another.safetensors").write_bytes(b"12345678901")
    monkeypatch.chdir(tmp_path)
    for folder in (None, Path("shipped")):
        with pytest.raises(RunError, match="remove another file there"):
            weights.export(trained, folder)


def test_the_command_exports_and_lists(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(paths, "weights", lambda: tmp_path)
    out = ["--out", str(trained.parent.parent)]
    assert cli.main(["weights", "export", str(trained)]) == 0
    assert cli.main(["weights", "list"]) == 0
    assert f"{TITLE}, test accuracy" in capsys.readouterr().out
    for name in ("no-such-run", ""):
        assert cli.main(["weights", "export", name, *out]) == 1
        assert "There are no runs in" in capsys.readouterr().err
    for wrong in (["weights", "export"], ["weights", "list", "x"], ["weights", "lst"]):
        assert cli.main(wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_what_is_shipped_can_be_loaded_and_fits_its_limit() -> None:
    found = views.shipped()
    assert found
    for one in found:
        assert isinstance(weights.load(one.path).network, Network)
        assert one.views()
    assert sum(f.stat().st_size for f in paths.weights().iterdir()) <= weights.LIMIT


# --- exploring -------------------------------------------------------------------------------


def test_a_typed_expression_is_read_like_a_generated_one(exported: Path) -> None:
    (one,) = views.shipped(exported.parent)
    view = explore._looked(one, "[max 4 [MIN 2 7] 0]")
    assert view["tokens"].tolist() == [2, 10, 1, 8, 13, 5, 6, 5]
    assert int(view["label"]) == 4
    assert view["pack"].shape == (2, 4, 4, 9)


def test_a_review_is_its_bytes() -> None:
    ids, label = tasks.encode(config.task_config("text"), "Hé")
    assert ids.tolist() == [ord("H") + 1, 0xC3 + 1, 0xA9 + 1]
    assert label == -1


@pytest.mark.parametrize(
    ("task", "text", "sentence"),
    [
        ("listops", "", "type something|not one complete"),
        ("listops", "[MAX 4 five ]", "'FIVE' is no token"),
        ("listops", "[MAX 4", "closing bracket"),
        ("listops", "4 ]", "closing bracket"),
        ("listops-short", "[MAX " + "4 " * 400 + "]", "shorten it"),
        ("text", "", "type something"),
        ("text", "good \ud83d film", "half of a character"),
        ("listops", "[MAX 4 \udc00 ]", "half of a character"),
        ("image", "a cat", "cannot be typed"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(task: str, text: str, sentence: str) -> None:
    with pytest.raises(MemnbError, match=sentence) as caught:
        tasks.encode(config.task_config(task), text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).encode(), "a browser can be sent it"


def controls(box: object) -> dict[str, object]:
    return {one.description: one for one in box.children if hasattr(one, "description")}  # type: ignore[attr-defined]


def pictures(box: object) -> list[bytes]:
    return [one.value for one in box.children if type(one).__name__ == "Image"]  # type: ignore[attr-defined]


def test_the_picture_follows_the_sliders_and_a_mistake_is_a_sentence(exported: Path) -> None:
    found = views.shipped(exported.parent)
    box = explore.shipped(found)
    before = pictures(box)
    controls(box)["head"].value = 2  # type: ignore[attr-defined]
    assert pictures(box) != before
    without = replace(found[0], path=exported.with_name("none.safetensors"))
    assert not without.views(), "as of a model without a shared memory"
    with pytest.raises(MemnbError, match="No trained weights of Text or ListOps"):
        explore.typed([without])
    box = explore.typed([without, *found])
    before = pictures(box)
    assert len(before) == 2
    controls(box)["input"].value = "[MIN 3 1 ]"  # type: ignore[attr-defined]
    after = pictures(box)
    assert all(a != b for a, b in zip(after, before, strict=True))
    controls(box)["input"].value = "[MIN 3 1"  # type: ignore[attr-defined]
    assert pictures(box) == after
    sentence = next(one for one in box.children if type(one).__name__ == "Label")
    assert "closing bracket" in sentence.value


def test_moving_a_slider_reads_nothing_anew(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = explore.typed(views.shipped(exported.parent))
    before = pictures(box)
    monkeypatch.setattr(explore, "_prepared", None)  # reading would now fail
    controls(box)["head"].value = 2  # type: ignore[attr-defined]
    assert pictures(box)[0] != before[0]
    assert pictures(box)[1] == before[1]


def test_what_is_typed_is_drawn_as_it_is_read(exported: Path) -> None:
    (one,) = views.shipped(exported.parent)
    whole = probes.view(*explore._prepared(one, "[MAX 4 2 ]"))
    parts = explore._looked(one, "[MAX 4 2 ]") | explore._filled(one, "[MAX 4 2 ]")
    assert whole.keys() == parts.keys()
    for name in whole:
        assert np.allclose(whole[name], parts[name], atol=1e-3), name
    assert views.ROWS == attention_maps.ROWS


def test_nothing_to_explore_is_said(tmp_path: Path) -> None:
    for widget in (explore.shipped, explore.typed):
        with pytest.raises(MemnbError, match="memnb weights --help"):
            widget(views.shipped(tmp_path))


def test_the_memory_tests_ask_the_examples_that_were_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(examination, "asked", lambda labels, first, count: np.arange(3))
    train(RUN, tmp_path / RUN.run_id, device="cpu")
    lines = (tmp_path / RUN.run_id / "causal.jsonl").read_text().splitlines()
    assert {json.loads(line)["examples"] for line in lines} == {3}
