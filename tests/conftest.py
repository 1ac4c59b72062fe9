"""What every test can rely on: its own output folder, no network, no window."""

from __future__ import annotations

import functools
import gc
import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest

matplotlib.use("Agg")


def pytest_configure(config: pytest.Config) -> None:
    """nbval starts a kernel as the runner does: again where its ports were taken."""
    if config.pluginmanager.has_plugin("nbval"):
        from nbval import kernel

        from memnb.reproduce.notebooks import started

        kernel.start_new_kernel = functools.partial(started, kernel.start_new_kernel)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """The hundreds of thousands of objects that imports make are no garbage, but each search for
    garbage goes through all of them: a tenth of the time. So there is one at the end, and later
    ones pass over what it has left."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test session, the same for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_checkout(session_folder: Path) -> Iterator[None]:
    """No test writes into the checkout or the user's cache, nor does what a module prepares.

    The data cache is one for the session, so that a data set is generated once.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMNB_OUT", str(session_folder / "memnb output"))
        patch.setenv("MEMNB_DATA", str(session_folder / "memnb data"))
        yield


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the output of another test."""
    monkeypatch.setenv("MEMNB_OUT", str(tmp_path / "memnb output"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that would leave this machine fails at once, and names the address."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        local = self.family == getattr(socket, "AF_UNIX", None) or (
            isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1", "localhost")
        )
        if not local:
            raise AssertionError(f"a test tried to reach {address!r}; tests use no network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _no_own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it, and what others registered is not seen in it."""
    from memnb import config
    from memnb.models import registry

    monkeypatch.setattr(registry, "_OWN", {})
    monkeypatch.setattr(config.names, "_OWN", set())
