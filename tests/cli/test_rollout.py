"""`rollout show`: all of a site, or one; an id that is none is refused."""

from __future__ import annotations

import json

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.engine.store import Store
from tests.cli.test_release import store

__all__ = ["store"]

ROLLOUT = FirmwareRollout(
    id="f0001", bundle="b", members="m", model="S21", version="2", waves=(1, 11)
)
ENTRY = FlashEntry(asset="r01-s1", step=FlashStep.DONE, attempt=1, before="1", after="2")


@pytest.fixture
def rollout(store: Store) -> FirmwareRollout:
    store.put_firmware(ROLLOUT)
    store.put_grant(
        Grant(
            operation="f0001-wave-0-0", rollout="f0001", digest="b", fence=1,
            entries={"r01-s1": ENTRY}, at_once=1, deadline_s=9.0,
        )
    )  # fmt: skip
    return ROLLOUT


@pytest.mark.usefixtures("rollout")
def test_all_are_listed_by_name_and_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["rollout", "show", "-o", "name"]) == Exit.OK
    assert capsys.readouterr().out.split() == ["f0001"]
    assert main(["rollout", "show", "-o", "json"]) == Exit.OK
    (line,) = json.loads(capsys.readouterr().out)
    assert (line["id"], line["state"], line["waves"], line["gates"]) == ("f0001", "waiting", 2, 0)


@pytest.mark.usefixtures("rollout")
def test_one_has_its_machines(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["rollout", "show", "f0001", "-o", "json"]) == Exit.OK
    (machine,) = json.loads(capsys.readouterr().out)["machines"]
    assert (machine["operation"], machine["entry"]["step"]) == ("f0001-wave-0-0", "done")
    assert main(["rollout", "show", "f0001"]) == Exit.OK
    assert "r01-s1" in capsys.readouterr().out


@pytest.mark.usefixtures("rollout")
def test_another_id_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "show", "f0009"]) == Exit.USAGE
    assert "has no rollout 'f0009'" in capsys.readouterr().err
