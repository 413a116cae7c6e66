"""`backup` and `restore` of a box: nothing is lost, nothing is written over, nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.engine.backup import RESTORED
from control_plane.engine.store import Store

RESTORED_FIRST = RESTORED.format(site="first-site")
HOLD = ("hold", "r01", "--kind", "safety", "--by", "ann", "--reason", "hands in it")


def test_what_people_said_is_there_again_and_the_site_is_held(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--no-look"]) == Exit.OK
    assert main(HOLD) == Exit.OK
    assert main(["backup", "one.backup"]) == Exit.OK
    assert "1 holds" in capsys.readouterr().out
    assert [p.name for p in home.glob("*.backup*")] == ["one.backup"], "no draft is left"
    assert main(["restore", "one.backup", "--state", "new"]) == Exit.OK
    assert f"gridplane release {RESTORED_FIRST}" in capsys.readouterr().out
    said = {o.id: o for o in Store(home / "new" / "state.sqlite").overlays()}
    assert said.keys() == {"h0001", RESTORED_FIRST}
    assert (said["h0001"].owner, said["h0001"].node) == ("ann", "r01")
    assert (said[RESTORED_FIRST].owner, said[RESTORED_FIRST].node) == ("gridplane", "first-site")
    # The next hold is no second h0001.
    assert main([*HOLD, "--state", "new"]) == Exit.OK
    assert "h0002" in capsys.readouterr().out


def test_a_folder_with_state_and_a_damaged_file_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--no-look"]) == Exit.OK
    assert main(["backup", "one.backup"]) == Exit.OK
    assert main(["restore", "one.backup"]) == Exit.REFUSED
    assert "has state already" in capsys.readouterr().err
    file = home / "one.backup"
    file.write_bytes(file.read_bytes()[:-1])
    assert main(["restore", "one.backup", "--state", "new"]) == Exit.STATE
    assert "its checksum does not fit" in capsys.readouterr().err
    assert not (home / "new").exists()
