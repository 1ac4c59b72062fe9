"""Downloads against a local server that misbehaves in every way a real one was seen to."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up_data as made
import pytest

from memnb import paths, tasks
from memnb.config import Text
from memnb.errors import DataError, MemnbError
from memnb.tasks import catalogue, download, prepared, text

BODY = bytes(range(256)) * 4000  # 1 MB


class Server(http.server.ThreadingHTTPServer):
    """Serves BODY in the manner that the path names, and keeps a list of requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.seen: list[tuple[str, str]] = []

    def handle_error(self, *given: Any) -> None:
        """A client that hangs up, as those do that refuse an answer, is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*given)

    def url(self, manner: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        manner = self.path.strip("/")
        asked = sum(path == manner for path, _ in self.server.seen)
        self.server.seen.append((manner, wanted))
        body = self.server.body
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if manner in ("403", "404", "503"):
            self.answer(int(manner), b"no")
        elif manner == "busy" and asked < 2:
            self.answer(503, b"later")
        elif manner == "page":
            self.answer(200, b"<html>Sign in</html>", kind="text/html; charset=utf-8")
        elif manner == "wrong":
            self.answer(200, body[::-1])
        elif manner == "endless":
            self.answer(200, body * 3)
        elif manner == "stubborn":  # knows no ranges
            self.answer(200, body, cut=len(body) // 2 if not asked else None)
        elif manner == "breaks" and asked < 2:
            self.answer(206 if start else 200, body[start:], cut=len(body) // 3)
        elif manner == "round":
            self.redirect("round")
        elif manner == "moved":
            self.redirect("good")
        elif manner == "cut":  # always, and knows no ranges
            self.answer(200, body, cut=len(body) // 3)
        elif manner == "disguised":  # a page that calls itself an archive
            self.answer(200, b"<html>Sign in</html>")
        elif manner == "slow":
            self.answer(200, body, pause=0.1)
        else:
            self.answer(206 if start else 200, body[start:])

    def redirect(self, manner: str) -> None:
        self.send_response(302)
        self.send_header("Location", self.server.url(manner))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(
        self,
        status: int,
        body: bytes,
        kind: str = "application/gzip",
        cut: int | None = None,
        pause: float = 0,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if pause:
                for place in range(0, len(body), 50):
                    self.wfile.write(body[place : place + 50])
                    time.sleep(pause)
            self.wfile.write(body[:cut])
        except OSError:
            pass
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "my data"))
    monkeypatch.setattr(download, "WAIT", 0.01)


def source(server: Server, *manners: str) -> download.Source:
    digest = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    addresses = tuple(server.url(manner) for manner in manners)
    return download.Source("a.tar.gz", len(server.body), f"md5:{digest}", addresses)


def test_a_file_is_fetched_once(server: Server, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    path = download.fetch(source(server, "good"), tmp_path, lambda *done: seen.append(done))
    assert path == tmp_path / "a.tar.gz"
    assert path.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    download.fetch(source(server, "good"), tmp_path)
    assert len(server.seen) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_broken_transfer_goes_on_where_it_was(server: Server, tmp_path: Path):
    download.fetch(source(server, "breaks"), tmp_path)
    assert (tmp_path / "a.tar.gz").read_bytes() == BODY
    ranges = [wanted for _, wanted in server.seen]
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert ranges[2] > ranges[1]


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(DataError, match="broke off"):
        download.fetch(source(server, "breaks"), tmp_path)
    assert (tmp_path / ".a.tar.gz.part").stat().st_size > 0
    download.fetch(source(server, "good"), tmp_path)
    assert server.seen[-1][1].startswith("bytes=")
    assert (tmp_path / "a.tar.gz").read_bytes() == BODY


def test_a_server_without_ranges_begins_again(server: Server, tmp_path: Path):
    download.fetch(source(server, "stubborn"), tmp_path)
    assert (tmp_path / "a.tar.gz").read_bytes() == BODY


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path):
    download.fetch(source(server, "busy"), tmp_path)
    assert [path for path, _ in server.seen] == ["busy"] * 3


@pytest.mark.parametrize(
    ("manner", "says", "requests"),
    [
        ("403", "answered with status 403", 1),
        ("404", "answered with status 404", 1),
        ("503", "answered with status 503", 3),
        ("page", "answered with a web page", 1),
        ("wrong", "gave a file with another md5", 1),
        ("endless", "sent more bytes than the file has", 1),
        ("cut", "broke off after 333|broke off .*Error", 3),
        ("disguised", "broke off after 20 of", 3),
        ("round", "redirects without end", 31),
    ],
)
def test_a_bad_answer_is_one_sentence(
    server: Server, tmp_path: Path, manner: str, says: str, requests: int
):
    with pytest.raises(DataError, match=says) as error:
        download.fetch(source(server, manner), tmp_path)
    assert "memnb data import" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.seen) == requests
    assert not (tmp_path / "a.tar.gz").exists()


def test_a_redirect_is_followed(server: Server, tmp_path: Path):
    assert download.fetch(source(server, "moved"), tmp_path).read_bytes() == BODY


def test_what_is_left_of_another_file_is_not_gone_on_with(server: Server, tmp_path: Path):
    (tmp_path / ".a.tar.gz.part").write_bytes(BODY + b"more")
    assert download.fetch(source(server, "good"), tmp_path).read_bytes() == BODY
    (tmp_path / "a.tar.gz").unlink()
    (tmp_path / ".a.tar.gz.part").write_bytes(b"wrong" * 10)
    with pytest.raises(DataError, match="gave a file with another md5"):
        download.fetch(source(server, "good"), tmp_path)
    assert not (tmp_path / "a.tar.gz").exists()
    # The wrong beginning is gone: the next call begins anew.
    assert download.fetch(source(server, "good"), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("manner", ["403", "503", "page", "wrong", "endless", "round", "cut"])
def test_the_next_address_is_tried(server: Server, tmp_path: Path, manner: str):
    download.fetch(source(server, manner, "good"), tmp_path)
    assert (tmp_path / "a.tar.gz").read_bytes() == BODY


def test_a_slow_server_is_left(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    monkeypatch.setattr(download, "_BLOCK", 100)
    with pytest.raises(DataError, match="is too slow"):
        download.fetch(source(server, "slow"), tmp_path)


def test_no_server_at_all(tmp_path: Path):
    nowhere = download.Source("a", 10, "md5:" + "0" * 32, ("http://127.0.0.1:9/a",))
    with pytest.raises(DataError, match="broke off \\(ConnectionError\\)"):
        download.fetch(nowhere, tmp_path)


def test_the_disk_is_looked_at_first(server: Server, tmp_path: Path):
    large = download.Source("a", 10**18, "md5:" + "0" * 32, (server.url("good"),))
    with pytest.raises(DataError, match="MB are free; make room"):
        download.fetch(large, tmp_path)
    assert not server.seen


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written .*; free some space or .* MEMNB_DATA"):
        download.fetch(source(server, "good"), tmp_path / "file" / "cache")


# --- memnb data get --------------------------------------------------------------------------


@pytest.fixture
def imdb(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The local server offers a tiny IMDb archive."""
    archive = made.tar(tmp_path / "aclImdb_v1.tar.gz", made.reviews())
    server.body = archive.read_bytes()
    offered = source(server, "403", "good")
    monkeypatch.setattr(text, "REVIEWS", made.REVIEWS)
    monkeypatch.setattr(text, "ARCHIVE_MD5", offered.digest.removeprefix("md5:"))
    monkeypatch.setitem(catalogue.SOURCES, "text", offered)
    return server


def test_get_downloads_and_prepares(imdb: Server):
    assert not catalogue.status("text").ready
    path = catalogue.get("text")
    assert path == prepared.file("text")
    assert catalogue.status("text").ready
    assert len(tasks.load(Text(max_length=24)).train) == 6
    catalogue.get("text")
    assert [one for one, _ in imdb.seen] == ["403", "good"]


def test_two_at_once_download_once(imdb: Server):
    calls = [threading.Thread(target=catalogue.get, args=("text",)) for _ in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert [one for one, _ in imdb.seen] == ["403", "good"]
    assert len(tasks.load(Text(max_length=24)).train) == 6


def test_what_has_arrived_needs_no_room_again(imdb: Server, monkeypatch: pytest.MonkeyPatch):
    wanted, folder = catalogue.SOURCES["text"], paths.data_cache() / "downloads"
    folder.mkdir(parents=True)
    (folder / f".{wanted.name}.part").write_bytes(imdb.body[:-50])
    free = catalogue.CARDS["text"].disk + 50
    monkeypatch.setattr(catalogue.shutil, "disk_usage", lambda _: type("Tight", (), {"free": free}))
    catalogue.get("text")
    (folder / wanted.name).unlink()
    prepared.file("text").unlink()
    with pytest.raises(DataError, match=r"'text' needs .* MB in .*; make room"):
        catalogue.get("text")


def test_a_failed_get_leaves_the_old_data(imdb: Server, monkeypatch: pytest.MonkeyPatch):
    catalogue.get("text")
    before = prepared.file("text").read_bytes()
    monkeypatch.setitem(catalogue.SOURCES, "text", source(imdb, "page"))
    assert catalogue.get("text").read_bytes() == before  # it is here: nothing is asked
    prepared.file("text").rename(prepared.file("text").with_suffix(".old"))
    (paths.data_cache() / "downloads" / "a.tar.gz").unlink()
    with pytest.raises(DataError, match="web page"):
        catalogue.get("text")
    assert not prepared.file("text").exists()


def test_what_cannot_be_downloaded_says_so():
    with pytest.raises(DataError, match=r"lra_release.*memnb data import retrieval"):
        catalogue.get("retrieval")
    with pytest.raises(MemnbError, match="did you mean 'retrieval'"):
        catalogue.get("retreival")


def test_room_is_looked_at_before_anything_is_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalogue.shutil, "disk_usage", lambda _: type("Full", (), {"free": 10}))
    with pytest.raises(DataError, match="'pathfinder' needs 205 MB"):
        catalogue.get("pathfinder")


# --- memnb data list and check ---------------------------------------------------------------


def test_the_list_names_every_task_of_lra_with_licence_and_next_step():
    listed = catalogue.list_data()
    names = [status.card.name for status in listed]
    assert set(names) == {"listops", "text", "retrieval", "retrieval-acl", "image", "pathfinder"}
    for status in listed:
        card = status.card
        assert not status.ready
        assert status.size == 0
        assert card.licence
        assert card.citation
        assert card.disk > 10**7
        assert card.next_step


def test_check_tells_good_missing_damaged_and_different_apart(tmp_path: Path, imdb: Server):
    assert catalogue.check("text")[0].outcome == "missing"
    path = catalogue.get("text")
    assert catalogue.check("text")[0].outcome == "different"  # three reviews are not IMDb
    catalogue.OFFICIAL["text"], known = (
        prepared.content(prepared.read("text")),
        catalogue.OFFICIAL["text"],
    )
    try:
        assert catalogue.check("text")[0].outcome == "good"
    finally:
        catalogue.OFFICIAL["text"] = known
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(bytes(content))
    (verdict,) = catalogue.check("text")
    assert verdict.outcome == "damaged"
    assert "\n" not in verdict.detail
    assert len(catalogue.check()) == 6
