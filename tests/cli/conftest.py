"""A repository to call verbs in without processes of their own, and a workshop with processes and devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from tests.cli.workshop import Workshop


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an inventory and, once planned, a state folder; locks of its own."""
    for name in ("INVENTORY", "SITE", "STATE", "NETWORK_MAP"):
        monkeypatch.delenv(f"GRIDPLANE_{name}", raising=False)
    monkeypatch.setattr("control_plane.cli.workplace.lock_folder", lambda: tmp_path)
    folder = tmp_path / "company"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["init"]) == Exit.OK
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """A declared site; no device answers."""
    shop = Workshop(tmp_path)
    shop.declare()
    return shop


@pytest.fixture
def site(shop: Workshop) -> Iterator[Workshop]:
    """A declared site whose devices answer, adopted and converged."""
    with shop.devices():
        shop.adopted()
        yield shop
