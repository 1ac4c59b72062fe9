"""Image: CIFAR-10 in grey (Krizhevsky, 2009), one pixel after the other.

Grey is what TensorFlow's ``rgb_to_grayscale`` makes of 8-bit images, to the bit.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from memnb import config
from memnb.errors import DataError
from memnb.tasks import archives, cache, prepared
from memnb.tasks.base import Bytes, Dataset, Ints, Split, images_of
from memnb.tasks.draws import Draws

PYTHON_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
BINARY_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
PER_BATCH = 10_000
MOST_BYTES = 2**25  # a batch has 31 MB
VALIDATION = 5_000
_COLOURS, _PIXELS = 3, 1024
_BATCH = re.compile(r"(?:^|/)(data_batch_[1-5]|test_batch)(\.bin)?$")
_NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def load(task: config.Image) -> Dataset:
    """The three splits, from the imported or downloaded images.

    Raises:
        DataError: the images are not here or damaged, or fewer than the task asks for.
    """
    found = prepared.read("image")
    held = held_out(len(found["y_train"]))
    rows = np.arange(len(found["y_train"]))

    def split(part: str, rows: Ints, count: int | None, number: int, what: str) -> Split:
        labels = found[f"y_{part}"]
        chosen = prepared.balanced(rows, labels, count, Draws(task.seed, number), what)
        return images_of(found[f"x_{part}"].reshape(len(labels), -1), labels, chosen)

    return Dataset(
        split("train", rows[:-held], task.train, 1, "The training set"),
        split("train", rows[-held:], task.validation, 2, "The validation set"),
        split("test", np.arange(len(found["y_test"])), task.test, 3, "The test set"),
    )


def held_out(trained: int) -> int:
    """How many of the training images, the last ones, are the validation set."""
    return min(VALIDATION, trained // 10)


def grey(rgb: Bytes) -> Bytes:
    """Colours (..., 3) of 0..255 in grey (...,), as ``tf.image.rgb_to_grayscale`` rounds it."""
    # In single precision, in this order and without a division: every last bit counts.
    red, green, blue = np.moveaxis(rgb.astype(np.float32) * np.float32(1 / 255), -1, 0)
    light = red * np.float32(0.2989) + green * np.float32(0.5870) + blue * np.float32(0.1140)
    return np.minimum(light * np.float32(255.5), np.float32(255)).astype(np.uint8)


def read(source: Path) -> cache.Arrays:
    """The images of an official archive, binary or python (its sha256 is checked), or its folder.

    Raises:
        DataError: another, cut off or incomplete file.
    """
    if source.is_file():
        archives.verified(source, "sha256", BINARY_SHA256, PYTHON_SHA256)
    batches: dict[str, tuple[Bytes, Bytes]] = {}
    for match, file in archives.files(source, _BATCH):
        where = f"{source}: {match[0].strip('/')}"
        body = archives.whole(file, MOST_BYTES, where)
        batches[match[1]] = (_binary if match[2] else _python)(body, where)
    for name in _NAMES:
        if name not in batches:
            raise DataError(f"{source} holds no {name}; unpack the whole archive.")
    images, labels = zip(*(batches[name] for name in _NAMES), strict=True)
    return {
        "x_train": np.concatenate(images[:5]),
        "y_train": np.concatenate(labels[:5]),
        "x_test": images[5],
        "y_test": labels[5],
    }


def _batch(planes: Bytes, labels: Bytes, where: str) -> tuple[Bytes, Bytes]:
    """Planes (N, 3 * 1024), red first, as grey images (N, 32, 32)."""
    if labels.max() > 9:
        raise DataError(f"{where} has the label {labels.max()}, but labels are 0..9.")
    rgb = planes.reshape(-1, _COLOURS, _PIXELS).swapaxes(1, 2)
    return grey(rgb).reshape(-1, 32, 32), labels


def _binary(body: bytes, where: str) -> tuple[Bytes, Bytes]:
    row = 1 + _COLOURS * _PIXELS
    if len(body) != PER_BATCH * row:
        raise DataError(
            f"{where} should have {PER_BATCH * row} bytes, but has {len(body)}; get it again."
        )
    table = np.frombuffer(body, np.uint8).reshape(PER_BATCH, row)
    return _batch(table[:, 1:], table[:, 0].copy(), where)


def _python(body: bytes, where: str) -> tuple[Bytes, Bytes]:
    """Read a pickled batch without unpickling it: nothing in it is ever called.

    A batch is a dictionary whose ``labels`` are a list of small integers and whose ``data`` is one
    array; so the integers behind the word ``labels`` and the one long string are all there is.
    """
    labels, planes = [], b""
    key = ""
    try:
        for name, argument in _operations(body):
            if name == "text" and len(argument) < 100:
                key = argument if argument in ("labels", "data", "filenames") else ""
            elif name == "text" and len(argument) == PER_BATCH * _COLOURS * _PIXELS:
                planes = argument.encode("latin-1")
            elif name == "number" and key == "labels":
                labels.append(argument)
    except (ValueError, UnicodeError) as error:
        raise DataError(f"{where} is damaged or no batch of CIFAR-10 ({error}).") from None
    fits = len(labels) == PER_BATCH and all(0 <= label <= 9 for label in labels)
    if not (planes and fits):
        raise DataError(
            f"{where} should hold {PER_BATCH} images and as many labels 0..9, but holds "
            f"{len(planes) // (_COLOURS * _PIXELS)} and {len(labels)}; get it again."
        )
    table = np.frombuffer(planes, np.uint8).reshape(PER_BATCH, -1)
    return _batch(table, np.array(labels, np.uint8), where)


def _operations(body: bytes) -> Iterator[tuple[str, Any]]:
    for operation, argument, _ in pickletools.genops(body):
        if isinstance(argument, bytes):
            yield "text", argument.decode("latin-1")
        elif isinstance(argument, str) and "GLOBAL" not in operation.name:
            yield "text", argument
        elif isinstance(argument, int) and operation.name.startswith(("BININT", "INT", "LONG")):
            yield "number", argument
