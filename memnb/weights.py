"""Weights of trained models as files that may be passed on: safetensors, half precision, no code.

A file ``<run id>.safetensors`` holds the tensors of a run's best network, and in its metadata the
whole config of the run and what it reached. Beside it stands ``<run id>.npz``: views of a few
inputs (:mod:`memnb.evidence.views`), so that pages can show the model without PyTorch.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from memnb import paths, tasks
from memnb.config import BUILT_IN, Own, Run
from memnb.errors import DataError, MemnbError, RunError, unknown
from memnb.evidence import rows, views
from memnb.files import replacing
from memnb.models.network import Network
from memnb.models.out_of_memory import out_of_memory
from memnb.probes.views import view
from memnb.tasks import shown

LIMIT = 20_000_000
"""Bytes that the shipped folder may hold."""
EXAMPLES = 2
LONGEST = 600
"""Tokens of an example that is shown; a longer one cannot be read on a page."""
_BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class Trained:
    """A trained network and what is known of it.

    Attributes:
        run: its config.
        network: in single precision and evaluation mode, on the CPU. It was trained on inputs
            padded with 0 to ``run.task.max_length``; as coded padding is not masked, so without it
            the answer may be another.
        facts: see :class:`memnb.evidence.views.Shipped`.
    """

    run: Run
    network: Network
    facts: dict[str, Any]


def export(run_folder: Path, destination: Path | None = None) -> Path:
    """Write a finished run's best weights, and views of two inputs.

    Those are the first two validation examples of at most 600 tokens (the two shortest where there
    are none), none picked by hand; of a data set that may not be passed on, inputs made for this
    package (:mod:`memnb.tasks.shown`).

    Args:
        run_folder: a run folder with ``best.pt``.
        destination: by default the folder that is shipped, ``data/weights``.

    Returns:
        The ``.safetensors`` file. An older export of the same run is replaced.

    Raises:
        DataError: the run folder is damaged, or the data cache cannot be written.
        RunError: the run has not finished, its weights are gone, the files cannot be written, or
            the shipped folder would grow beyond 20 MB.
        MemnbError: a run on data of one's own, and no ``destination``.
    """
    record, run = rows.read_run(run_folder)
    if destination is None and isinstance(run.task, Own):
        raise MemnbError(
            f"With the weights of {record.run_id} go two examples of your own data, and what lies "
            "in data/weights is passed on with memnb; name another folder with --to."
        )
    if record.outcome != "finished":
        raise RunError(
            f"{record.run_id} is {record.outcome}: only a finished run has weights to export; let "
            "it finish first."
        )
    network = best_network(run_folder, run)
    halved = {name: _half(value) for name, value in network.state_dict().items()}
    content = save(halved, views.describe(run, record.model_dump()))
    # What is shown is what is shipped: the views are made with the halved weights.
    network.load_state_dict({name: value.float() for name, value in halved.items()})
    seen = views.to_bytes(_views(network.eval(), run))
    folder = destination or paths.weights()
    path = folder / f"{run.run_id}.safetensors"
    _refuse_too_much(folder, path, len(content) + len(seen))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, whole in ((path, content), (path.with_suffix(".npz"), seen)):
            with replacing(file) as opened:
                opened.write(whole)
    except OSError as error:
        raise RunError(
            f"The weights of {run.run_id} could not be written to {folder} "
            f"({error.strerror or error}); choose another folder with --to."
        ) from None
    return path


def best_network(folder: Path, run: Run) -> Network:
    """The network of a run with its best weights, on the CPU.

    Raises:
        RunError: the folder holds none.
        DataError: they cannot be read, are damaged, or are those of another model.
        MemnbError: they were read, but the run is of a block that is not here.
    """
    path = folder / "best.pt"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RunError(
            f"{folder} holds no best.pt: committed rows come without weights; train the run again."
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes fail in pickle, zipfile, struct or PyTorch
        if out_of_memory(error):  # says nothing of the file
            raise
        raise DataError(
            f"{path} is damaged, or holds more than weights; train the run again."
        ) from None
    network = Network(run.model, run.task)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        raise DataError(
            f"{path} holds the weights of another model; train the run again."
        ) from None
    return network


def load(path: str | Path) -> Trained:
    """A trained network from a file written by :func:`export`; nothing in it is executed.

    Raises:
        DataError: the file is missing, damaged, no export of memnb, made by a newer memnb, or its
            tensors do not fit its config.
    """
    path = Path(path)
    said = views.read(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); export it again.") from None
    try:
        _refuse_another_size(said.run, tensors)
        network = Network(said.run.model, said.run.task)
        network.load_state_dict({name: _single(value) for name, value in tensors.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"The tensors in {path} do not fit its config ({reason}); export it again."
        ) from None
    return Trained(said.run, network.eval(), said.facts)


def _refuse_another_size(run: Run, tensors: Mapping[str, Tensor]) -> None:
    """Hold the sizes of a config against tensors before anything of those sizes is made: a config
    in a file may ask for more memory than there is, or for blocks without end.

    Raises:
        RuntimeError: they do not fit, as where PyTorch itself finds that out.
    """
    if run.model.kind not in BUILT_IN:  # a user's block need not know of tensors without content
        return
    found = {match[1] for name in tensors if (match := _BLOCK.match(name))}
    if len(found) != run.model.blocks:
        raise RuntimeError(f"tensors of {len(found)} blocks, not of {run.model.blocks}")
    with torch.device("meta"):
        empty = Network(run.model, run.task)
    empty.load_state_dict({name: value.to("meta") for name, value in tensors.items()})


def named(name: str, folder: Path | None = None) -> Trained:
    """The shipped weights of one run, by its id or by how the id begins.

    Raises:
        MemnbError: no file or more than one has this name.
        DataError: see :func:`load`.
    """
    folder = folder or paths.weights()
    files = sorted(folder.glob("*.safetensors"))
    found = [file for file in files if file.stem.startswith(name)]
    if len(found) > 1:
        raise MemnbError(
            f"{len(found)} files of weights begin with '{name}': "
            f"{', '.join(file.stem for file in found)}; give more of the name."
        )
    if not found:
        raise unknown("weights", name, [file.stem for file in files] or ["(none)"])
    return load(found[0])


def _half(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).contiguous().clone()


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _views(network: Network, run: Run) -> list[dict[str, Any]]:
    split = shown.own(run.task) or tasks.load(run.task).validation
    first = torch.from_numpy(split.lengths).view(len(split), -1)[:, 0]
    short = (first <= LONGEST).nonzero().flatten()
    chosen = short if len(short) >= EXAMPLES else first.argsort(stable=True)
    found = []
    for index in chosen[:EXAMPLES].tolist():
        inputs = torch.from_numpy(split.inputs[index])
        length = torch.as_tensor(split.lengths[index])
        found.append(view(network, inputs, length, torch.tensor(int(split.labels[index]))))
    return [one for one in found if one]


def _refuse_too_much(folder: Path, path: Path, size: int) -> None:
    if folder.resolve() != paths.weights().resolve():
        return
    replaced = {path.name, path.with_suffix(".npz").name}
    others = [file for file in folder.glob("*.*") if file.name not in replaced]
    total = size + sum(file.stat().st_size for file in others)
    if total > LIMIT:
        raise RunError(
            f"{folder} may hold {LIMIT / 1e6:.0f} MB, but with {path.stem} it would hold "
            f"{total / 1e6:.1f} MB; remove another file there, or export to another folder with "
            "--to."
        )
