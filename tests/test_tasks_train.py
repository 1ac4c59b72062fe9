"""Every kind of data, from its publishers' file to a finished run: two steps of a tiny model."""

from __future__ import annotations

from pathlib import Path

import made_up_data as made
import pytest

from memnb import config
from memnb.tasks import catalogue, image, retrieval, text
from memnb.train.loop import train

CHANGES: dict[str, dict[str, object]] = {
    "text": {"max_length": 24},
    "retrieval": {"max_length": 30},
    "image": {},
    "pathfinder": {"source": "lra"},
}


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "my data"))
    monkeypatch.setattr(text, "REVIEWS", made.REVIEWS)
    monkeypatch.setattr(image, "PER_BATCH", made.PER_BATCH)
    pairs = {part: len(rows) for part, rows in made.PAIRS.items()}
    monkeypatch.setattr(retrieval, "PAIRS", pairs)


@pytest.mark.parametrize("model", ["transformer", "convluna-2"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_run_on_imported_data_finishes(tmp_path: Path, name: str, model: str):
    files = {
        "text": made.reviews,
        "retrieval": made.pair_tables,
        "image": made.cifar_binary,
        "pathfinder": made.pathfinder_folder,
    }[name]()
    catalogue.import_data(name, made.unpacked(tmp_path / "there", files))
    run = config.run_config(
        model,
        name,
        task_changes=CHANGES[name],
        model_changes={"blocks": 1, "width": 8, "heads": 2, "mlp": 8},
        training_changes={"steps": 2, "batch": 2, "evaluate_every": 1},
    )
    record = train(run, tmp_path / "run", device="cpu")
    assert record["outcome"] == "finished", record["reason"]
    assert record["step"] == 2
    assert 0 <= record["test_accuracy"] <= 1
