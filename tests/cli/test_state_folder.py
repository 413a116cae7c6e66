"""A word about a site reaches the process that acts on it, or is refused: never lost in another folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.cli.workplace import Workplace
from control_plane.engine.fence import ActsElsewhere

SITE = "first-site"
HOLD = ("hold", "r01", "--kind", "safety", "--by", "ann", "--reason", "hands in the rack")


def plan() -> None:
    assert main(["plan", "--no-look"]) == Exit.OK


@pytest.mark.parametrize(
    "words",
    [
        HOLD,
        ("freeze", "--reason", "x"),
        ("release", "h0001"),
        ("get", "holds"),
        ("status",),
        ("explain", "r01-s01"),
    ],
    ids=lambda words: words[0],
)
def test_who_says_or_asks_makes_no_state(
    home: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == Exit.REFUSED
    told = capsys.readouterr()
    assert "in force" not in told.out
    assert str(home / ".gridplane" / SITE) in told.err
    assert "--state" in told.err
    assert not (home / ".gridplane").exists()


def test_who_plans_makes_the_state_and_says_so_once(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan()
    assert str(home / ".gridplane" / SITE) in capsys.readouterr().err
    plan()
    assert str(home / ".gridplane" / SITE) not in capsys.readouterr().err


def test_a_hold_from_any_folder_is_the_same_hold(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan()
    for folder in (home / "inventory", home.parent):
        monkeypatch.chdir(folder)
        assert main([*HOLD, "--inventory", str(home / "inventory")]) == Exit.OK
    assert len(Workplace(site=SITE, state=home / ".gridplane" / SITE).store.overlays()) == 2
    assert "in force now" in capsys.readouterr().out
    assert not (home.parent / ".gridplane").exists()


def test_two_state_folders_of_one_site_do_not_both_act(home: Path) -> None:
    one = Workplace(site=SITE, state=home / "one", creates=True)
    two = Workplace(site=SITE, state=home / "two", creates=True)
    first = one.fence()
    assert first is not None
    with pytest.raises(ActsElsewhere, match=str(home / "one")):
        two.fence()
    assert one.fence() is None, "in the same folder it is another process, to be followed"
    first.release()
    second = two.fence()
    assert second is not None
    second.release()


def test_a_hold_in_a_folder_that_the_acting_process_does_not_read_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan()
    acting = Workplace(site=SITE, state=home / "elsewhere", creates=True)
    fence = acting.fence()
    assert fence is not None
    assert main(HOLD) == Exit.REFUSED
    assert f"--state {home / 'elsewhere'}" in capsys.readouterr().err
    assert main([*HOLD, "--state", str(home / "elsewhere")]) == Exit.OK
    fence.release()


def test_two_simulations_of_one_site_are_two_worlds(home: Path) -> None:
    places = []
    for name in ("one", "two"):
        folder = home / name
        folder.mkdir()
        (folder / "map.json").write_text("{}")
        places.append(
            Workplace(site=SITE, state=folder, network_map=folder / "map.json", creates=True)
        )
    fences = [place.fence() for place in places]
    assert all(fences)
    for fence in fences:
        assert fence is not None
        fence.release()
