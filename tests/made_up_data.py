"""Tiny data sets in the true on-disk formats of their publishers."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

REVIEWS = 3  # of each label in each part, instead of 12,500
PER_BATCH = 5  # images, instead of 10,000


def tar(path: Path, files: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    """A tar archive of the given files, in the given order."""
    with tarfile.open(path, mode) as archive:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return path


def unpacked(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The same files in a folder."""
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return folder


def reviews() -> dict[str, bytes]:
    """aclImdb: reviews, and the files beside them that are no reviews."""
    files = {"aclImdb/README": b"Large Movie Review Dataset v1.0", "aclImdb/imdb.vocab": b"the\n"}
    for part in ("test", "train"):
        for mood, stars in (("neg", 2), ("pos", 9)):
            files[f"aclImdb/{part}/urls_{mood}.txt"] = b"http://example.org\n"
            for number in reversed(range(REVIEWS)):
                text = f"{part} {mood} {number} <br />caf\u00e9"
                files[f"aclImdb/{part}/{mood}/{number}_{stars}.txt"] = text.encode()
    files["aclImdb/train/unsup/0_0.txt"] = b"never to be seen"
    return files


def colours(batch: int) -> np.ndarray:
    """Images (PER_BATCH, 3, 32, 32) of one batch, red plane first."""
    noise = np.random.default_rng(batch)
    return noise.integers(0, 256, (PER_BATCH, 3, 32, 32)).astype(np.uint8)


def labels(batch: int) -> list[int]:
    return [(batch + place) % 10 for place in range(PER_BATCH)]


def cifar_binary() -> dict[str, bytes]:
    files = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n"}
    for batch in range(1, 7):
        name = f"data_batch_{batch}.bin" if batch < 6 else "test_batch.bin"
        rows = zip(labels(batch), colours(batch), strict=True)
        body = b"".join(bytes([label]) + image.tobytes() for label, image in rows)
        files[f"cifar-10-batches-bin/{name}"] = body
    return files


def cifar_python() -> dict[str, bytes]:
    files = {"cifar-10-batches-py/readme.html": b"<html>"}
    for batch in range(1, 7):
        name = f"data_batch_{batch}" if batch < 6 else "test_batch"
        files[f"cifar-10-batches-py/{name}"] = python_batch(batch)
    return files


def python_batch(batch: int) -> bytes:
    """A batch as Python 2 pickled it (protocol 2), written opcode by opcode.

    Python 3 cannot write this form: its strings would be pickled as another type.
    """

    def word(text: str) -> bytes:
        return b"U" + bytes([len(text)]) + text.encode()

    body = colours(batch).tobytes()
    size = (len(body) // PER_BATCH).to_bytes(2, "little")
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + b"K" + bytes([PER_BATCH]) + b"M" + size + b"\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89T" + len(body).to_bytes(4, "little") + body + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels(batch)) + b"e"
    names = b"](" + b"".join(word(f"photo_s_{place:06}.png") for place in range(PER_BATCH)) + b"e"
    return (
        b"\x80\x02}("
        + word("batch_label") + word(f"training batch {batch} of 5")
        + word("labels") + numbers
        + word("data") + array
        + word("filenames") + names
        + b"u."
    )  # fmt: skip


PAPERS = [f"Paper {number}. " + "We show \u00e9. " * (number + 1) for number in range(4)]
PAIRS = {
    "train": [(1, 0, 1), (0, 0, 2), (1, 3, 1), (0, 2, 1)],
    "eval": [(0, 1, 2), (1, 2, 3)],
    "test": [(1, 3, 0), (0, 0, 3)],
}


def pair_tables() -> dict[str, bytes]:
    """LRA's tables: no header, the label as TensorFlow would read it."""
    return {
        f"lra_release/lra_release/tsv_data/new_aan_pairs.{part}.tsv": "".join(
            f"{float(label)}\tP{one:02}\tP{two:02}\t{PAPERS[one]}\t{PAPERS[two]}\n"
            for label, one, two in rows
        ).encode()
        for part, rows in PAIRS.items()
    }


def png(pixels: np.ndarray) -> bytes:
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()


def drawing(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (32, 32)).astype(np.uint8)


def pathfinder_folder(count: int = 20, batches: Iterable[int] = (0, 2, 10)) -> dict[str, bytes]:
    """LRA's folder: per batch a text file (called .npy) with one line per image."""
    root = "pathfinder32/curv_contour_length_14"
    files = {"pathfinder32/curv_baseline/imgs/0/sample_0.png": png(drawing(99))}
    for batch in batches:
        lines = []
        for place in range(count):
            number = batch * count + place
            files[f"{root}/imgs/{batch}/sample_{place}.png"] = png(drawing(number))
            lines.append(f"imgs/{batch} sample_{place}.png {place} {number % 2} 1.0 14 4 2 0.5 1 1")
        files[f"{root}/metadata/{batch}.npy"] = ("\n".join(lines) + "\n").encode()
    return files


def record(body: bytes) -> bytes:
    """One TFRecord; its checksums are made by a table, unlike those of the reader."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 * (value & 1))
        table.append(value)

    def checksum(part: bytes) -> bytes:
        crc = 0xFFFFFFFF
        for byte in part:
            crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
        crc ^= 0xFFFFFFFF
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)

    length = struct.pack("<Q", len(body))
    return length + checksum(length) + body + checksum(body)


def example(image: bytes, label: int) -> bytes:
    """A serialised tf.train.Example with the features image and label."""

    def field(number: int, body: bytes) -> bytes:
        size, length = len(body), b""
        while size >= 128:
            length += bytes([size % 128 + 128])
            size //= 128
        return bytes([number * 8 + 2]) + length + bytes([size]) + body

    def entry(name: str, feature: bytes) -> bytes:
        return field(1, field(1, name.encode()) + field(2, feature))

    features = entry("image", field(1, field(1, image)))
    features += entry("label", field(3, field(1, bytes([label]))))
    return field(1, features)


def pathfinder_tfds(count: int = 15, shards: int = 2) -> dict[str, bytes]:
    return {
        f"pathfinder32/1.0.0/pathfinder32-hard.tfrecord-{shard:05}-of-{shards:05}": b"".join(
            record(example(png(drawing(number)), number % 2))
            for number in range(shard * count, (shard + 1) * count)
        )
        for shard in range(shards)
    }
