"""LRA's own Pathfinder images (32 x 32, hard): its folder of PNGs with metadata, or its TFDS form.

Both are read with a few dozen lines of our own instead of TensorFlow: a TFRecord file is a row of
length-prefixed records, and each record a small protocol buffer with a PNG and a label.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from memnb.errors import DataError
from memnb.tasks import archives, cache
from memnb.tasks.base import Bytes

log = logging.getLogger(__name__)

HARD = "curv_contour_length_14"
_MOST_BYTES = 2**20  # an image of 32 x 32 pixels has under 2,000
_PNG = re.compile(rf"(?:^|/){HARD}/(imgs/\d+/sample_\d+\.png)$")
_METADATA = re.compile(rf"(?:^|/){HARD}/metadata/(\d+)\.npy$")
_EITHER = re.compile(f"{_PNG.pattern}|{_METADATA.pattern}")
_RECORDS = re.compile(r"(?:^|/)pathfinder32-hard\.tfrecord-(\d{5})-of-(\d{5})$")


def read(source: Path) -> cache.Arrays:
    """LRA's hard images, from its folder of PNGs with metadata or from its TFDS form.

    ``source`` is a folder or a tar archive. A few images of LRA's copy are empty files; LRA leaves
    them out, and so do we, after the split: first 80 %, next 10 %, last 10 %.

    Raises:
        DataError: no images, or a damaged one.
    """
    examples = _png_folder(source) or _tfds(source)
    if not examples:
        raise DataError(
            f"{source} holds neither {HARD}/metadata/*.npy with its images nor "
            "pathfinder32-hard.tfrecord-* files; get LRA's folder pathfinder32 or its TFDS form."
        )
    split = np.digitize(np.arange(len(examples)), np.array([0.8, 0.9]) * len(examples))
    kept = [number for number, (_, body, _) in enumerate(examples) if body]
    if len(kept) < len(examples):
        log.warning("%d of %d images are empty files.", len(examples) - len(kept), len(examples))
    return {
        "images": np.array([_pixels(examples[number][1], examples[number][0]) for number in kept]),
        "label": np.array([examples[number][2] for number in kept], np.uint8),
        "split": split[kept].astype(np.uint8),
    }


_Example = tuple[str, bytes, int]


def _png_folder(source: Path) -> list[_Example]:
    images: dict[str, bytes] = {}
    tables: dict[int, bytes] = {}
    for match, file in archives.files(source, _EITHER):
        where = f"{source}: {match[0].strip('/')}"
        if match[1]:
            images[match[1]] = archives.whole(file, _MOST_BYTES, where)
        else:
            tables[int(match[2])] = archives.whole(file, 2**26, where)
    examples = []
    for batch in sorted(tables):
        for place, line in enumerate(tables[batch].decode(errors="replace").splitlines(), 1):
            where = f"{source}: {HARD}/metadata/{batch}.npy, line {place}"
            cells = line.split(" ")
            if len(cells) < 4 or cells[3] not in ("0", "1"):
                raise DataError(
                    f"{where} should read 'folder file number label ...' with a label 0 or 1, but "
                    f"reads {line[:60]!r}; get LRA's file again."
                )
            name = f"{cells[0]}/{cells[1]}"
            if name not in images:
                raise DataError(f"{where} names {name[:80]}, which is not there; get it again.")
            examples.append((f"{source}: {name}", images[name], int(cells[3])))
    return examples


def _pixels(body: bytes, where: str) -> Bytes:
    # Only needed here, and generated images need no Pillow.
    from PIL import Image

    # The size stands at a fixed place, and is looked at before anything is unpacked.
    if body[:8] == b"\x89PNG\r\n\x1a\n" and body[16:24] != b"\0\0\0\x20" * 2:
        raise DataError(f"{where} should be an image of 32 x 32 pixels, but has another size.")
    try:
        with Image.open(io.BytesIO(body), formats=["PNG"]) as image:
            if image.mode != "L":
                raise DataError(f"{where} should be grey, but has the mode {image.mode}.")
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where} is no readable PNG ({error}); get it again.") from None


def _tfds(source: Path) -> list[_Example]:
    shards: dict[int, list[_Example]] = {}
    count = 0
    for match, file in archives.files(source, _RECORDS):
        where = f"{source}: {match[0].strip('/')}"
        count = int(match[2])
        shards[int(match[1])] = [
            (f"{where}, record {number}", *_fields(record, f"{where}, record {number}"))
            for number, record in enumerate(_records(file, where), 1)
        ]
    if set(shards) != set(range(count)):
        raise DataError(f"{source} holds {len(shards)} of {count} files; get the others too.")
    return [example for shard in sorted(shards) for example in shards[shard]]


def _records(file: IO[bytes], where: str) -> Iterator[bytes]:
    """The records of a TFRecord file: length (8 bytes), its checksum, content, its checksum.

    The checksum of the length is compared here; a damaged content does not survive the checksums
    that a PNG carries itself.
    """
    while header := file.read(12):
        length = int.from_bytes(header[:8], "little")
        if len(header) < 12 or _masked_crc(header[:8]) != int.from_bytes(header[8:], "little"):
            raise DataError(f"{where} is no TFRecord file or damaged; get it again.")
        if length > _MOST_BYTES:
            raise DataError(f"{where} holds a record of {length} bytes; get it again.")
        record = file.read(length + 4)
        if len(record) < length + 4:
            raise DataError(f"{where} is cut off; get it again.")
        yield record[:length]


def _masked_crc(body: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TensorFlow does before it stores one."""
    crc = 0xFFFFFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _fields(record: bytes, where: str) -> tuple[bytes, int]:
    """Image and label of a serialised tf.train.Example.

    Example { Features { map<name, Feature { bytes_list | float_list | int64_list } > } }: every
    level is field 1, except that a map entry's value is field 2 and an int64_list field 3.
    """
    found: dict[bytes, bytes | int] = {}
    try:
        for features in _protobuf(record)[1]:
            for entry in _protobuf(_bytes(features))[1]:
                pair = _protobuf(_bytes(entry))
                feature = _protobuf(_bytes(pair[2][0]))
                (kind,) = feature
                values = _protobuf(_bytes(feature[kind][0]))[1]
                value = values[0]
                if kind == 3 and isinstance(value, bytes):  # packed
                    value = _varint(value, 0)[0]
                found[_bytes(pair[1][0])] = value
        image, label = _bytes(found[b"image"]), found[b"label"]
    except (KeyError, IndexError, ValueError, TypeError):
        image, label = b"", -1
    if label not in (0, 1):
        raise DataError(f"{where} should hold an image and a label 0 or 1; get the file again.")
    return image, int(label)


def _bytes(value: bytes | int) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a number where a message should be")
    return value


def _protobuf(message: bytes) -> dict[int, list[bytes | int]]:
    """The fields of a message: number -> values (varints as int, the rest as bytes)."""
    fields: dict[int, list[bytes | int]] = {}
    place = 0
    value: bytes | int
    while place < len(message):
        tag, place = _varint(message, place)
        if tag & 7 == 0:
            value, place = _varint(message, place)
        elif tag & 7 == 2:
            length, place = _varint(message, place)
            if length > len(message) - place:
                raise ValueError("cut off")
            value = message[place : place + length]
            place += length
        else:
            raise ValueError("a field of another kind")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
