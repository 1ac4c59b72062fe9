"""From the publishers' files to padded examples: true formats, and every way to be wrong."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import re
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import made_up_data as made
import numpy as np
import pytest

from memnb import config, tasks
from memnb.errors import DataError, MemnbError
from memnb.tasks import archives, catalogue, image, pathfinder_lra, prepared, retrieval, text
from memnb.tasks.base import Sequences, asked
from memnb.tasks.draws import Draws

TEXT = config.Text(max_length=24)
PATHFINDER = config.Pathfinder(source="lra")
RETRIEVAL = config.Retrieval(max_length=30)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "my data"))
    monkeypatch.setattr(text, "REVIEWS", made.REVIEWS)
    monkeypatch.setattr(image, "PER_BATCH", made.PER_BATCH)
    pairs = {part: len(rows) for part, rows in made.PAIRS.items()}
    monkeypatch.setattr(retrieval, "PAIRS", pairs)
    return tmp_path


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch):
    """Take an archive for the one that its publishers offer."""

    def accept(path: Path) -> Path:
        monkeypatch.setattr(text, "ARCHIVE_MD5", archives.digest(path, "md5"))
        monkeypatch.setattr(image, "BINARY_SHA256", archives.digest(path, "sha256"))
        return path

    return accept


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def refused(name: str, source: Path, says: str) -> None:
    """Importing fails in one sentence, and what was in the cache stays."""
    path = prepared.file(name)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(DataError, match=says) as error:
        catalogue.import_data(name, source)
    assert "\n" not in str(error.value)
    assert (path.read_bytes() if path.exists() else None) == before


# --- text ------------------------------------------------------------------------------------


def test_text_from_archive_to_ids(folder: Path, official):
    catalogue.import_data("text", official(made.tar(folder / "a.tar.gz", made.reviews())))
    data = tasks.load(TEXT)
    assert data.train.inputs.shape == (2 * made.REVIEWS, 24)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    body = "train neg 1 <br />caf\u00e9".encode()[:24]
    assert data.train.inputs[1].tobytes() == bytes(byte + 1 for byte in body).ljust(24, b"\0")
    assert data.train.lengths[1] == len(body)
    shown = tasks.tokens(TEXT, data.test.inputs[0], 24)
    assert "".join(shown).startswith("test neg 0 <br />caf")
    # The paper's protocol: validation on the test set.
    assert data.validation is data.test


def test_a_trained_model_is_asked_about_examples_of_every_label():
    mixed, by_label = np.arange(2000) % 2, np.arange(2000) // 1000
    assert asked(mixed, 500, 800).tolist() == list(range(800))
    some = asked(by_label, 500, 800)
    assert len(set(some.tolist())) == 800
    assert 0.4 < by_label[some[:500]].mean() < 0.6
    # Neighbours, whose memories are exchanged, differ in their labels as well.
    assert 0.4 < (by_label[some[1:]] != by_label[some[:-1]]).mean() < 0.6
    assert np.array_equal(some[:100], asked(by_label, 500, 100))
    # Nothing to mix: one label, or no more examples than asked about.
    assert asked(np.zeros(2000, np.int64), 500, 3).tolist() == [0, 1, 2]
    assert asked(np.array([0, 1]), 500, 5000).tolist() == [0, 1]


def test_text_from_a_folder_and_from_an_archive_are_the_same(folder: Path, official):
    one = text.read(official(made.tar(folder / "a.tar.gz", made.reviews())))
    other = text.read(made.unpacked(folder / "there", made.reviews()))
    inner = text.read(folder / "there" / "aclImdb")
    assert same(one, other)
    assert same(one, inner)


def test_a_holdout_of_everything_leaves_nothing_to_train_on(folder: Path):
    catalogue.import_data("text", made.unpacked(folder / "there", made.reviews()))
    for train in (None, 3):
        task = TEXT.but(validation="holdout", holdout=2 * made.REVIEWS, train=train)
        with pytest.raises(DataError, match="training set has no example left"):
            tasks.load(task)


def test_text_holdout_is_balanced_and_apart(folder: Path):
    catalogue.import_data("text", made.unpacked(folder / "there", made.reviews()))
    data = tasks.load(TEXT.but(validation="holdout", holdout=2))
    assert sorted(data.validation.labels.tolist()) == [0, 1]
    assert len(data.train) == 4
    rows = {row.tobytes() for row in np.concatenate([data.train.inputs, data.validation.inputs])}
    assert len(rows) == 6
    again = tasks.load(TEXT.but(validation="holdout", holdout=2))
    assert np.array_equal(data.validation.inputs, again.validation.inputs)


def test_fewer_reviews_are_drawn_in_equal_shares(folder: Path):
    catalogue.import_data("text", made.unpacked(folder / "there", made.reviews()))
    chosen = {
        tasks.load(TEXT.but(train=2, test=4, seed=s)).train.inputs.tobytes() for s in range(8)
    }
    assert len(chosen) > 1
    assert tasks.load(TEXT.but(test=4)).test.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="ask for fewer"):
        tasks.load(TEXT.but(train=100))


def test_some_of_each_label_are_drawn_and_stay_in_their_order():
    rows, labels = np.arange(100, 150), np.array([0, 1, 2, 2, 2] * 30, np.uint8)
    drawn = [prepared.balanced(rows, labels, 11, Draws(seed, 0), "The set") for seed in (0, 0, 1)]
    for chosen in drawn:
        assert np.bincount(labels[chosen]).tolist() == [4, 4, 3]
        assert set(chosen) < set(rows)
        assert chosen.tolist() == sorted(chosen)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert prepared.balanced(rows, labels, None, Draws(0, 0), "The set") is rows


def test_a_document_may_be_empty():
    values, offsets = np.array([7, 8], np.uint8), np.array([0, 0, 2])
    documents = Sequences.checked(values, offsets, "a file")
    inputs, lengths = documents.padded(np.arange(2), 3)
    assert (inputs.tolist(), lengths.tolist()) == ([[0, 0, 0], [7, 8, 0]], [0, 2])
    with pytest.raises(DataError, match="its offsets do not fit"):
        Sequences.checked(values, np.array([0, 2, 1, 2]), "a file")


def test_the_content_of_a_data_set_is_the_same_in_any_order_of_its_arrays():
    one, other = np.arange(3, dtype=np.uint8), np.zeros(2, np.uint8)
    content = prepared.content({"label": one, "bytes": other})
    assert content == prepared.content({"bytes": other, "label": one})
    assert content != prepared.content({"label": other, "bytes": one})


def test_text_refuses_the_wrong_archive(folder: Path):
    refused("text", made.tar(folder / "a.tar.gz", made.reviews()), "md5 should be .* but is")


def test_text_refuses_an_incomplete_folder(folder: Path):
    files = made.reviews()
    del files["aclImdb/test/pos/1_9.txt"]
    refused("text", made.unpacked(folder / "there", files), "3 reviews in test/pos, but holds 2")


def test_text_refuses_a_huge_review_and_a_byte_that_is_no_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    files = made.reviews()
    files["aclImdb/test/pos/1_9.txt"] = b"caf\xff"
    refused("text", made.unpacked(folder / "odd", files), "byte 255")
    monkeypatch.setattr(text, "MOST_BYTES", 10)
    refused("text", made.unpacked(folder / "large", made.reviews()), "at most 10 bytes")


def test_missing_data_say_what_to_do():
    with pytest.raises(DataError, match="memnb data list"):
        tasks.load(TEXT)


# --- hostile archives ------------------------------------------------------------------------


def hostile(path: Path, member: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member.size = 0 if not member.isfile() else 4
        archive.addfile(member, io.BytesIO(b"evil") if member.isfile() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made_up = tarfile.TarInfo(name)
    made_up.type, made_up.linkname = kind, target
    return made_up


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (member("../../evil.txt"), "leads outside"),
        (member("/etc/evil"), "leads outside"),
        (member("C:\\evil"), "leads outside"),
        (member("aclImdb/train/pos/0_9.txt", tarfile.SYMTYPE, "/etc/passwd"), "link or device"),
        (member("aclImdb/train/pos/0_9.txt", tarfile.LNKTYPE, "aclImdb/x"), "link or device"),
        (member("aclImdb/fifo", tarfile.FIFOTYPE), "link or device"),
    ],
)
def test_archives_that_reach_out_are_refused(folder: Path, official, what, says: str):
    refused("text", official(hostile(folder / "evil.tar.gz", what)), says)
    refused("retrieval", folder / "evil.tar.gz", says)
    assert not (folder / "evil.txt").exists()
    assert not (folder.parent / "evil.txt").exists()


def test_an_archive_of_absurd_size_is_refused(
    folder: Path, official, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archives, "MOST_BYTES", 1000)
    bomb = made.tar(folder / "a.tar.gz", {"aclImdb/README": bytes(10**6)})
    assert bomb.stat().st_size < 5000
    refused("text", official(bomb), "claims to hold over")


def test_a_header_that_would_fill_the_memory_is_refused(folder: Path, official):
    """A few kilobytes of gzip that unpack into a gigabyte of one member's name."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    archive = folder / "bomb.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(32):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        refused("text", official(archive), "a header of 1073741824 bytes")
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_cut_off_archive_is_refused(folder: Path, official, share: float):
    path = made.tar(folder / "a.tar.gz", made.reviews())
    catalogue.import_data("text", made.unpacked(folder / "there", made.reviews()))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused("text", official(path), "cut off, damaged or no tar archive")


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", ""])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_archive_cut_off_within_the_file_that_is_read_is_refused(
    folder: Path, kind: str, share: float
):
    path, body = folder / "cut", random.Random(0).randbytes(300_000)
    with tarfile.open(path, f"w:{kind}") as archive:
        member = tarfile.TarInfo("table.tsv")
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    def read() -> None:
        for _, file in archives.files(path, re.compile("table")):
            while file.read(1000):
                pass

    with pytest.raises(DataError, match="cut off, damaged or no tar archive"):
        read()


def names(path: Path) -> list[str]:
    return [match.string for match, _ in archives.files(path, re.compile("."))]


def test_an_archive_cut_off_between_its_files_is_refused(folder: Path):
    """Every place where a tar that is not compressed can end: no part of it passes for all."""
    files = {"one": b"1" * 512, "two": b"2" * 700, "three": b""}
    whole = made.tar(folder / "whole.tar", files, "w").read_bytes()
    end = 512 * (2 + 3 + 1) + 1024  # headers, blocks of content, two blocks of zeros
    assert not any(whole[end:])
    path = folder / "cut.tar"
    for length in sorted({*range(0, end, 100), *range(0, end, 512), end - 1}):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="cut off, damaged or no tar archive"):
            names(path)
    path.write_bytes(whole[:end])
    assert names(path) == list(files)


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", ""])
def test_a_damaged_header_is_not_taken_for_the_end(folder: Path, kind: str):
    whole = made.tar(folder / "whole.tar", {"one": b"1", "two": b"2"}, "w").read_bytes()
    path = folder / "hurt.tar"
    path.write_bytes(whole[:1030] + b"x" + whole[1031:])
    if kind:
        opened = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}[kind]
        with opened(path, "wb") as file:
            file.write(whole[:1030] + b"x" + whole[1031:])
    with pytest.raises(DataError, match="cut off, damaged or no tar archive"):
        names(path)


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2", ""])
@pytest.mark.parametrize("way", [":", "|"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_whole_archives_of_python_are_read(folder: Path, kind: str, way: str, form: int):
    long = "long/" * 30 + "name"
    path = folder / "whole"
    with tarfile.open(str(path), f"w{way}{kind}", format=form) as archive:
        for name in ("one", long if form != tarfile.USTAR_FORMAT else "two"):
            member = tarfile.TarInfo(name)
            member.size = 600
            archive.addfile(member, io.BytesIO(bytes(600)))
    assert names(path)[0] == "one"
    assert len(names(path)) == 2


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar here")
@pytest.mark.parametrize("packing", ["tar -c -f ../a", "tar -c -z -f ../a", "tar -c -b 1 -f ../a",
                                     "tar -c -f - . | gzip > ../a"])  # fmt: skip
def test_whole_archives_of_tar_are_read(folder: Path, packing: str):
    made.unpacked(folder / "there", {"one": b"", "some/two": b"2" * 5000})
    command = packing if "|" in packing else f"{packing} ."
    subprocess.run(command, shell=True, cwd=folder / "there", check=True)
    assert sorted(names(folder / "a")) == ["./one", "./some/two"]


def test_a_web_page_is_called_one(folder: Path):
    page = folder / "aclImdb_v1.tar.gz"
    page.write_text("<!DOCTYPE html><html>403 Forbidden</html>")
    refused("text", page, "begins like a web page")
    refused("retrieval", page, "begins like a web page")


def test_a_path_that_is_not_there(folder: Path):
    refused("text", folder / "nowhere", "no file or folder")


# --- image -----------------------------------------------------------------------------------


def grey_by_hand(rgb: tuple[int, int, int]) -> int:
    """The same sum in exact arithmetic: right wherever the value is not close to an integer."""
    light = 0.2989 * rgb[0] + 0.5870 * rgb[1] + 0.1140 * rgb[2]
    return int(light / 255 * 255.5)


def test_image_from_both_archives(folder: Path, official):
    catalogue.import_data("image", official(made.tar(folder / "b.tar.gz", made.cifar_binary())))
    data = tasks.load(config.Image())
    assert len(data.train) + len(data.validation) == 25
    assert data.train.inputs.shape[1] == 1024
    assert data.train.labels[:5].tolist() == made.labels(1)
    pixels = made.colours(1)[2, :, 5, 7]
    assert data.train.inputs[2, 5 * 32 + 7] == grey_by_hand(tuple(pixels.tolist()))
    assert data.test.labels.tolist() == made.labels(6)
    binary = prepared.read("image")
    # The last ones are held out, and none is in both sets.
    parts = [data.train.inputs, data.validation.inputs]
    assert len(parts[1]) == 2
    assert np.array_equal(np.concatenate(parts), binary["x_train"].reshape(25, 1024))
    python = image.read(official(made.tar(folder / "p.tar.gz", made.cifar_python())))
    assert same(binary, python)


def test_image_from_a_folder(folder: Path):
    one = image.read(made.unpacked(folder / "b", made.cifar_binary()))
    other = image.read(made.unpacked(folder / "p", made.cifar_python()))
    assert same(one, other)


def test_grey_is_that_of_tensorflow():
    """All 16,777,216 colours: the hash of what ``tf.image.rgb_to_grayscale`` (2.21) gives."""
    green, blue = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    found = hashlib.sha256()
    for red in range(256):
        colours = np.stack([np.full_like(green, red), green, blue], axis=-1).astype(np.uint8)
        found.update(image.grey(colours).tobytes())
    assert found.hexdigest() == ("824a76d81dad2c5a2cf1fa0b2c0a5afe7d871ec2970e4fa2809b53ddbecdca93")
    # One of the 71 colours where a division by 255 instead of a multiplication would differ.
    assert image.grey(np.array([5, 171, 227], np.uint8)) == 128


def test_a_batch_is_never_unpickled(folder: Path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(folder / "sprung"),)

    import pickle

    files = made.cifar_python()
    files["cifar-10-batches-py/data_batch_2"] = pickle.dumps({"labels": Trap()}, protocol=2)
    refused("image", made.unpacked(folder / "p", files), "data_batch_2 should hold 5 images")
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "should have 15365 bytes, but has 0"),
        (bytes(5 * 3073 - 1), "but has 15364"),
        (bytes([10]) + bytes(5 * 3073 - 1), "label 10"),
    ],
    ids=["empty", "short", "label"],
)
def test_image_refuses_a_bad_binary_batch(folder: Path, body: bytes, says: str):
    files = {**made.cifar_binary(), "cifar-10-batches-bin/data_batch_3.bin": body}
    refused("image", made.unpacked(folder / "b", files), says)


@pytest.mark.parametrize(
    "body",
    [b"", b"\x80\x02}q", b"hello", made.python_batch(3)[:-9000]],
    ids=["empty", "begun", "text", "cut off"],
)
def test_image_refuses_a_bad_python_batch(folder: Path, body: bytes):
    files = {**made.cifar_python(), "cifar-10-batches-py/data_batch_3": body}
    refused("image", made.unpacked(folder / "p", files), "data_batch_3 (is damaged|should hold)")


def test_image_refuses_the_wrong_archive_and_a_missing_batch(folder: Path):
    refused("image", made.tar(folder / "b.tar.gz", made.cifar_binary()), "sha256 should be")
    files = made.cifar_binary()
    del files["cifar-10-batches-bin/test_batch.bin"]
    refused("image", made.unpacked(folder / "b", files), "holds no test_batch")


# --- retrieval -------------------------------------------------------------------------------


def test_retrieval_from_the_release(folder: Path):
    catalogue.import_data("retrieval", made.tar(folder / "lra.gz", made.pair_tables()))
    data = tasks.load(RETRIEVAL)
    assert data.train.inputs.shape == (4, 2, 30)
    assert data.train.lengths.shape == (4, 2)
    for split, part in ((data.train, "train"), (data.validation, "eval"), (data.test, "test")):
        assert split.labels.tolist() == [label for label, _, _ in made.PAIRS[part]]
        for row, (_, *pair) in zip(split.inputs, made.PAIRS[part], strict=True):
            for ids, paper in zip(row, pair, strict=True):
                body = made.PAPERS[paper].encode()[:30]
                assert ids.tobytes() == bytes(byte + 1 for byte in body).ljust(30, b"\0")
    # Each paper is stored once, however often it is paired.
    assert len(prepared.read("retrieval")["offsets"]) == len(made.PAPERS) + 1


def test_retrieval_from_a_folder_whatever_the_order(folder: Path):
    tables = made.pair_tables()
    turned = dict(reversed(list(tables.items())))
    one = retrieval.read(made.unpacked(folder / "there", tables))
    other = retrieval.read(made.tar(folder / "turned.tar", turned, "w"))
    assert np.array_equal(one["pair_label"], other["pair_label"])
    assert np.array_equal(one["pair_split"], other["pair_split"])


def test_pairs_are_only_good_if_they_are_as_many_as_lras(folder: Path):
    arrays = retrieval.read(made.unpacked(folder / "there", made.pair_tables()))
    prepared.store("retrieval", arrays)
    assert catalogue.check("retrieval")[0].outcome == "good"
    fewer = {name: rows[1:] if name.startswith("pair_") else rows for name, rows in arrays.items()}
    np.savez(folder / "pairs.npz", **fewer)
    catalogue.import_data("retrieval", folder / "pairs.npz")
    found = catalogue.check("retrieval")[0]
    assert found.outcome == "different"
    assert "its 3 / 2 / 2 pairs are not LRA's 4 / 2 / 2" in found.detail


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"1.0\tP1\tP2\tonly one text\n", "line 1 should have the columns"),
        (b"label\tid1\tid2\ttext1\ttext2\n", "label 'label'"),
        (b"2\tP1\tP2\ta\tb\n", "label '2'"),
        (b"1\tP1\tP2\ta\xff\tb\n", "byte 255"),
        (b"", r"eval.tsv with \d pairs in it, but has 0; get"),
        (b"1\tP1\tP2\ta\tb\n", r"eval.tsv with \d pairs in it, but has 1; get"),
    ],
)
def test_retrieval_refuses_a_bad_table(folder: Path, line: bytes, says: str):
    tables = made.pair_tables()
    tables["lra_release/lra_release/tsv_data/new_aan_pairs.eval.tsv"] = line
    refused("retrieval", made.unpacked(folder / "there", tables), says)


def test_the_substitute_is_called_one():
    assert "substitute" in config.RetrievalACL.title
    assert "substitute" in catalogue.card("retrieval-acl").title


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("text-short", "cut from 'text', so name that"),
        ("listops-short", "made when it is trained, and there is nothing to get"),
        ("recall-8", "there is nothing to get"),
        ("tex", "did you mean 'text'"),
    ],
)
def test_a_task_without_a_data_set_of_its_own_is_told_as_such(task: str, says: str):
    with pytest.raises(MemnbError, match=says):
        catalogue.card(task)


def test_a_task_of_ones_own_needs_no_data_set(monkeypatch: pytest.MonkeyPatch):
    class Parity(config.Task):
        pass

    own = Parity(name="parity", max_length=8)
    monkeypatch.setitem(config.TASKS, "parity", own)
    assert catalogue.data_of(own) is None
    with pytest.raises(MemnbError, match="there is nothing to get"):
        catalogue.get("parity")


# --- pathfinder ------------------------------------------------------------------------------


def test_pathfinder_from_lras_folder(folder: Path):
    files = made.pathfinder_folder()
    assert not prepared.file("pathfinder").exists()
    catalogue.import_data("pathfinder", made.unpacked(folder / "there", files))
    assert prepared.file("pathfinder").exists()
    data = tasks.load(PATHFINDER)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [48, 6, 6]
    assert np.array_equal(data.train.inputs[0], made.drawing(0).ravel())
    # Batches in the order of their numbers: 0, 2, 10.
    assert np.array_equal(data.train.inputs[25], made.drawing(45).ravel())
    assert data.train.labels[:4].tolist() == [0, 1, 0, 1]
    archive = pathfinder_lra.read(made.tar(folder / "p.tar", files, "w"))
    assert same(archive, prepared.read("pathfinder"))


def test_pathfinder_from_tfds(folder: Path):
    files = made.pathfinder_tfds()
    catalogue.import_data("pathfinder", made.unpacked(folder / "there", files))
    data = tasks.load(PATHFINDER)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [24, 3, 3]
    assert np.array_equal(data.test.inputs[2], made.drawing(29).ravel())
    assert data.test.labels.tolist() == [1, 0, 1]


def test_empty_images_are_left_out_and_counted(folder: Path, caplog: pytest.LogCaptureFixture):
    files = made.pathfinder_folder()
    files["pathfinder32/curv_contour_length_14/imgs/0/sample_3.png"] = b""
    found = pathfinder_lra.read(made.unpacked(folder / "there", files))
    assert len(found["label"]) == 59
    assert "1 of 60 images are empty files" in caplog.text
    assert np.bincount(found["split"]).tolist() == [47, 6, 6]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"\x89PNG\r\n\x1a\nnonsense", "another size|no readable PNG"),
        (b"GIF89a", "no readable PNG"),
        (made.png(np.zeros((31, 32), np.uint8)), "another size"),
        (made.png(np.zeros((32, 32, 3), np.uint8)), "mode RGB"),
        (made.png(made.drawing(0))[:-40], "no readable PNG"),
    ],
    ids=["nonsense", "gif", "small", "colour", "cut off"],
)
def test_a_bad_image_is_refused(folder: Path, body: bytes, says: str):
    files = made.pathfinder_folder()
    files["pathfinder32/curv_contour_length_14/imgs/0/sample_3.png"] = body
    refused("pathfinder", made.unpacked(folder / "there", files), says)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"imgs/0 sample_0.png 0 2 1.0\n", "label 0 or 1"),
        (b"imgs/0 sample_0.png\n", "should read"),
        (b"imgs/7 sample_0.png 0 1 1.0\n", "which is not there"),
        (b"\x93NUMPY\x01\x00", "should read"),
    ],
)
def test_bad_metadata_are_refused(folder: Path, line: bytes, says: str):
    files = made.pathfinder_folder()
    files["pathfinder32/curv_contour_length_14/metadata/2.npy"] = line
    refused("pathfinder", made.unpacked(folder / "there", files), says)


def test_bad_records_are_refused(folder: Path):
    name = "pathfinder32/1.0.0/pathfinder32-hard.tfrecord-00001-of-00002"
    good = made.pathfinder_tfds()[name]
    broken = {
        "cut": (good[:-5], "cut off"),
        "length": (bytes([good[0] ^ 1]) + good[1:], "no TFRecord file or damaged"),
        "page": (b"<html>403 Forbidden</html>", "no TFRecord file"),
        "huge": (made.record(bytes(2**20 + 1)), "holds a record of"),
        "other": (made.record(b"hello"), "image and a label"),
        "label": (made.record(made.example(made.png(made.drawing(0)), 7)), "label 0 or 1"),
    }
    for title, (body, says) in broken.items():
        refused(
            "pathfinder",
            made.unpacked(folder / title, {**made.pathfinder_tfds(), name: body}),
            says,
        )
    lost = made.pathfinder_tfds()
    del lost[name]
    refused("pathfinder", made.unpacked(folder / "lost", lost), "1 of 2 files")
    refused("pathfinder", made.unpacked(folder / "none", {"x": b""}), "neither")


# --- listops ---------------------------------------------------------------------------------


def listops_tables(rows: int) -> dict[str, bytes]:
    body = "Source\tTarget\n" + "( ( ( [MAX 4 ) 7 ) ] )\t7\n" * rows
    return {
        f"lra/listops-1000/basic_{part}.tsv": body.encode() for part in ("train", "val", "test")
    }


def test_listops_is_imported_and_old_caches_go(folder: Path, monkeypatch: pytest.MonkeyPatch):
    class Small(config.ListOps):
        train: int = 3
        validation: int = 3
        test: int = 3

    monkeypatch.setattr(catalogue.config, "ListOps", Small)
    task = config.task_config("listops", source="lra", train=3, validation=3, test=3)
    catalogue.import_data("listops", made.tar(folder / "lra.gz", listops_tables(3)))
    assert tasks.load(task).train.labels.tolist() == [7, 7, 7]
    with pytest.raises(DataError, match="ends after 2"):
        catalogue.import_data("listops", made.tar(folder / "short.gz", listops_tables(2)))
    assert len(tasks.load(task).train) == 3
    changed = {
        name: body.replace(b"4", b"9").replace(b"\t7", b"\t9")
        for name, body in listops_tables(3).items()
    }
    catalogue.import_data("listops", made.tar(folder / "new.gz", changed))
    assert tasks.load(task).train.labels.tolist() == [9, 9, 9]


def test_a_bad_import_of_listops_names_what_was_given(folder: Path):
    """Not the folder that the tables were on their way to, and that is gone by then."""
    tables = listops_tables(2)
    refused("listops", made.tar(folder / "a.gz", tables), "a.gz: basic_train.tsv should hold")
    del tables["lra/listops-1000/basic_train.tsv"]
    refused("listops", made.tar(folder / "a.gz", tables), "a.gz holds no listops-1000/basic_train")


# --- prepared files --------------------------------------------------------------------------


def test_a_prepared_file_is_imported(folder: Path):
    arrays = text.read(made.unpacked(folder / "there", made.reviews()))
    np.savez_compressed(folder / "imdb.npz", **arrays, rating=np.zeros(12, np.uint8))
    catalogue.import_data("text", folder / "imdb.npz")
    assert same(prepared.read("text"), arrays)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": np.full(12, 2, np.uint8)}, "labels should be 0 or 1"),
        ({"label": np.zeros(5, np.uint8)}, "differ in length"),
        ({"split": np.zeros(12, np.uint8)}, "split should hold"),
        ({"offsets": np.arange(13)}, "offsets do not fit"),
        ({"bytes": np.zeros(5, np.float32)}, "should be uint8"),
    ],
)
def test_a_prepared_file_that_does_not_fit_is_refused(folder: Path, changes: dict, says: str):
    catalogue.import_data("text", made.unpacked(folder / "there", made.reviews()))
    arrays = {**prepared.read("text"), **changes}
    np.savez(folder / "imdb.npz", **arrays)
    refused("text", folder / "imdb.npz", says)


def test_a_prepared_file_has_an_image_to_hold_out(folder: Path):
    arrays = image.read(made.unpacked(folder / "there", made.cifar_binary()))
    few = {name: array[:9] for name, array in arrays.items()}
    np.savez(folder / "few.npz", **few)
    refused("image", folder / "few.npz", "x_train should hold at least 10 images")


def test_a_prepared_pair_that_leads_nowhere_is_refused(folder: Path):
    arrays = retrieval.read(made.unpacked(folder / "there", made.pair_tables()))
    arrays["pair_doc2"][3] = 99
    np.savez(folder / "pairs.npz", **arrays)
    refused("retrieval-acl", folder / "pairs.npz", "pair_doc2 leads nowhere")


def test_the_substitute_needs_a_prepared_file(folder: Path):
    refused("retrieval-acl", made.unpacked(folder / "there", made.pair_tables()), r"prepared \.npz")


# --- random damage ---------------------------------------------------------------------------


def damaged(body: bytes, chance: random.Random) -> bytes:
    """A byte changed, a few lost, or a few put in between."""
    place = chance.randrange(len(body))
    more = chance.randbytes(4)
    kind = chance.randrange(3)
    if kind == 0:
        return body[:place] + more[:1] + body[place + 1 :]
    return body[:place] + (more + body[place:] if kind == 1 else body[place + 3 :])


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("pathfinder", made.pathfinder_tfds(3, 1)),
        ("pathfinder", made.pathfinder_folder(2, (0,))),
        ("image", made.cifar_python()),
        ("retrieval", made.pair_tables()),
    ],
    ids=["tfds", "png", "python", "pairs"],
)
def test_random_damage_is_read_or_refused_in_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict
):
    chance = random.Random(0)
    refusals: list[str] = []
    for number in range(60):
        chosen = chance.choice(sorted(files))
        # The first kilobyte holds what a parser trips over; the rest are pixels and prose.
        head, rest = files[chosen][:1000], files[chosen][1000:]
        hurt = {**files, chosen: damaged(head, chance) + rest}
        source = made.tar(folder / f"{number}.tar", hurt, "w")
        monkeypatch.setattr(image, "PYTHON_SHA256", archives.digest(source, "sha256"))
        try:
            catalogue.import_data(name, source)
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > 5
    assert not any("\n" in refusal for refusal in refusals)
