"""A repository to call verbs in, without a process of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main


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
