"""Cached arrays: written whole or not at all, and read with distrust."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import resource
import time
import zipfile
from pathlib import Path

import filelock
import numpy as np
import pytest

from memnb import config, tasks
from memnb.errors import DataError, MemnbError
from memnb.tasks import cache, listops

TASK = config.ListOps(
    name="listops-short", min_length=10, max_length=40, train=60, validation=20, test=20
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "my data"))
    return tmp_path / "my data"


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.npz")
    return path


def rewritten(path: Path, **changes: np.ndarray) -> None:
    with np.load(path) as found:
        arrays = {**found, **changes}
    np.savez(path, **arrays)


@pytest.mark.parametrize("task", ["listops-short", config.Task(name="mine", max_length=8)])
def test_what_has_no_loader_is_refused_in_one_sentence(task: config.Task):
    with pytest.raises(MemnbError, match=r"takes a task such as .*, whose class has a loader"):
        tasks.load(task)


def test_round_trip(tmp_path: Path):
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.zeros(0, np.int64)}
    cache.write(tmp_path / "new" / "x.npz", arrays)
    read = cache.read(tmp_path / "new" / "x.npz", {"a": "uint8", "b": "int64"})
    assert np.array_equal(read["a"], arrays["a"])
    assert read["b"].shape == (0,)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.npz"]


def test_others_may_read_the_file(tmp_path: Path):
    before = os.umask(0o077)
    try:
        cache.write(tmp_path / "x.npz", {"a": np.zeros(1, np.uint8)})
    finally:
        os.umask(before)
    assert (tmp_path / "x.npz").stat().st_mode & 0o777 == 0o644


def test_the_file_is_plain_npz(folder: Path):
    tasks.load(TASK)
    with np.load(only_file(folder), allow_pickle=False) as found:
        assert {name: found[name].dtype.name for name in found} == {
            "bytes": "uint8", "offsets": "int64", "label": "uint8", "split": "uint8",
        }  # fmt: skip
    assert only_file(folder).name == f"listops-short-{TASK.digest}.npz"


def test_compressed_members_are_read_as_well(tmp_path: Path):
    body = io.BytesIO()
    np.save(body, np.arange(5, dtype=np.uint8))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", body.getvalue())
    assert cache.read(tmp_path / "x.npz", {"a": "uint8"})["a"].tolist() == [0, 1, 2, 3, 4]


def test_where_nothing_can_be_locked_it_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def cannot(self):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "_acquire", cannot)
    with pytest.raises(DataError, match=r"cannot lock files.*MEMNB_DATA"):
        tasks.load(TASK)


def damage_by_cutting(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def damage_by_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(bytes(content))


def damage_by_emptying(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_a_lost_array(path: Path) -> None:
    np.savez(path, bytes=np.zeros(3, np.uint8))


def damage_by_offsets(path: Path) -> None:
    with np.load(path) as found:
        offsets = found["offsets"].copy()
    offsets[5] = 10**12
    rewritten(path, offsets=offsets)


def damage_by_a_foreign_token(path: Path) -> None:
    with np.load(path) as found:
        values = found["bytes"].copy()
    values[7] = 99
    rewritten(path, bytes=values)


def damage_by_a_foreign_label(path: Path) -> None:
    with np.load(path) as found:
        label = found["label"].copy()
    label[7] = 10
    rewritten(path, label=label)


def damage_by_another_type(path: Path) -> None:
    rewritten(path, offsets=np.zeros(101, np.float64))


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_cutting,
        damage_by_one_bit,
        damage_by_emptying,
        damage_by_a_lost_array,
        damage_by_offsets,
        damage_by_a_foreign_token,
        damage_by_a_foreign_label,
        damage_by_another_type,
    ],
)
def test_a_damaged_file_is_made_anew_and_says_so(
    folder: Path, damage, caplog: pytest.LogCaptureFixture
):
    good = tasks.load(TASK)
    content = only_file(folder).read_bytes()
    damage(only_file(folder))
    with caplog.at_level(logging.WARNING):
        again = tasks.load(TASK)
    assert "made anew" in caplog.text
    assert np.array_equal(good.train.inputs, again.train.inputs)
    assert only_file(folder).read_bytes() == content


def test_nothing_is_unpickled(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "x.npz", a=trap)
    with pytest.raises(DataError, match="should be uint8"):
        cache.read(tmp_path / "x.npz", {"a": "uint8"})
    assert not (tmp_path / "sprung").exists()


def header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_any_damaged_byte_is_noticed(tmp_path: Path):
    """Every single bit flip ends in the same arrays or in a DataError, never in another error."""
    path = tmp_path / "x.npz"
    arrays = {"a": np.arange(9, dtype=np.uint8), "b": np.arange(3, dtype=np.int64)}
    cache.write(path, arrays)
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        try:
            read = cache.read(path, {"a": "uint8", "b": "int64"})
        except DataError:
            refused += 1
        else:
            assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    assert refused > len(content) / 2


@pytest.mark.parametrize("shape", ["(1000000000000000,)", "(-1,)", "(10**9,)", "(3,"])
def test_absurd_headers_are_refused_before_memory_is_taken(tmp_path: Path, shape: str):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", header(shape) + b"abc")
    with pytest.raises(DataError, match=r"x\.npz is damaged"):
        cache.read(tmp_path / "x.npz", {"a": "uint8"})


def test_a_claim_of_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(10**7, np.uint8))
    monkeypatch.setattr(cache, "MOST_BYTES", 10**6)
    with pytest.raises(DataError, match="claims 10000128 bytes"):
        cache.read(tmp_path / "bomb.npz", {"a": "uint8"})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "x.npz"
    cache.write(path, {"a": np.zeros(3, np.uint8)})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written.*MEMNB_DATA"):
            cache.write(path, {"a": np.ones(10**5, np.uint8)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["x.npz"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"cannot be written.*MEMNB_DATA") as error:
        tasks.load(TASK)
    assert "\n" not in str(error.value)


def test_a_good_file_is_read_without_the_lock(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """So that a filled cache may lie in a folder that cannot be written."""
    tasks.load(TASK)
    monkeypatch.setattr(cache, "locked", lambda path: pytest.fail("asked for the lock"))
    assert len(tasks.load(TASK).train) == 60


def _load_in_a_process(queue: multiprocessing.Queue) -> None:
    made = listops.make
    count = 0

    def counted(task: config.ListOps) -> listops.Examples:
        nonlocal count
        count += 1
        time.sleep(0.3)
        return made(task)

    listops.make = counted
    data = tasks.load(TASK)
    queue.put((count, int(data.train.inputs.sum())))


def test_two_processes_make_it_once(folder: Path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_load_in_a_process, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    (first, total), (second, same) = queue.get(timeout=60), queue.get(timeout=60)
    for process in processes:
        process.join(timeout=60)
    assert sorted((first, second)) == [0, 1]
    assert total == same


def test_loading_the_full_size_takes_under_a_second(folder: Path):
    task = config.task_config("listops", train=8000, validation=1000, test=1000)
    tasks.load(task)
    started = time.perf_counter()
    tasks.load(task)
    assert time.perf_counter() - started < 0.5
