"""`plan --against REF -o github`: a pull request as CI shows it, from data alone."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from tests.cli.test_against import PROFILE, git

RACK = Path("inventory/sites/first-site/racks/r01.yaml")


@pytest.fixture
def base(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose inventory is in a folder, with one commit, and no way out of this process."""
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "base")

    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return home


class Told:
    """What one run says."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        capsys.readouterr()
        self.code = main(["plan", "--against", "HEAD", "-o", "github", *arguments])
        said = capsys.readouterr()
        self.comment, self.notes = said.out, said.err.splitlines()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.usefixtures("base")
def test_a_change_is_a_comment_and_a_note_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    edit(PROFILE, "power_mode: normal", "power_mode: low")
    line = 1 + PROFILE.read_text().splitlines().index("power_mode: low")
    told = Told(capsys)
    assert told.code == Exit.OK
    assert told.comment.startswith("<!-- gridplane-plan -->\n")
    assert "| `first-site` | 28.0 kW -> 20.5 kW |" in told.comment
    assert "8  power_mode: normal -> low" in told.comment
    assert "Stacks to bring up: `first-site.fleet`" in told.comment
    (note,) = told.notes
    assert note == (
        f"::warning file=inventory/profiles/standard.yaml,line={line},col=13,title=first-site%3A power_mode"
        "::8 devices: normal -> low; danger D3 (a large share of the site's power)"
    )
    assert not Path(".gridplane").exists(), "nothing is kept"


@pytest.mark.usefixtures("base")
def test_another_firmware_family_is_a_work_order_and_no_wave_of_firmware(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind = Path("inventory/device-types/antminer-s21.yaml")
    edit(kind, "[antminer_stock]", "[antminer_stock, luxos]")
    edit(PROFILE, "{family: antminer_stock}", "{family: luxos}")
    told = Told(capsys)
    assert told.code == Exit.OK, told.notes
    assert "Work order  8 machines from antminer_stock to luxos, by a person" in told.comment
    assert "where r01 1-8" in told.comment
    assert "D4 (firmware)" in told.comment
    (note,) = [each for each in told.notes if "family" in each]
    assert note.startswith("::warning file=inventory/profiles/standard.yaml")


@pytest.mark.usefixtures("base")
def test_a_rack_that_picks_another_profile_is_the_line_to_look_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = PROFILE.with_name("saving.yaml")
    other.write_text(PROFILE.read_text().replace("power_mode: normal", "power_mode: low"))
    git("add", ".")
    git("commit", "-q", "-m", "a profile that nobody uses")
    edit(RACK, "profile: standard", "profile: saving")
    told = Told(capsys)
    (note,) = [each for each in told.notes if "power_mode" in each]
    line = 1 + next(n for n, text in enumerate(RACK.read_text().splitlines()) if "saving" in text)
    assert f"file={RACK},line={line}," in note


@pytest.mark.usefixtures("base")
def test_an_owner_that_changes_a_pool_is_the_line_to_look_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (owner,) = Path("inventory/owners").glob("*.yaml")
    edit(owner, "port: 3333", "port: 3334")
    told = Told(capsys)
    assert told.code == Exit.OK
    (note,) = told.notes
    assert note.startswith(f"::warning file={owner},line=")
    assert "8 devices: differs per device; danger D2 (pools)" in note


@pytest.mark.usefixtures("base")
def test_what_is_wrong_is_an_error_on_its_line_and_nothing_is_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(PROFILE, "power_mode: normal", "power_mode: loud")
    told = Told(capsys)
    assert told.code == Exit.INVALID
    assert "**Not valid**: 1 error. Nothing was compared." in told.comment
    assert "has no mode" in told.comment or "loud" in told.comment
    (note,) = told.notes
    assert note.startswith("::error file=inventory/profiles/standard.yaml,line=")
    assert "Fix: " in note


@pytest.mark.usefixtures("base")
def test_a_site_that_shrinks_is_refused_until_somebody_says_how_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(RACK, "slots: 8", "slots: 6")
    told = Told(capsys)
    assert told.code == Exit.REFUSED
    assert "**Refused**: 2 devices would be managed no more" in told.comment
    assert any(n.startswith("::error ") and "mass removal" in n for n in told.notes)
    assert Told(capsys, "--acknowledge-removals", "3").code == Exit.REFUSED
    meant = Told(capsys, "--acknowledge-removals", "2")
    assert meant.code == Exit.OK
    assert not any(note.startswith("::error") for note in meant.notes)


@pytest.mark.usefixtures("base")
def test_a_site_that_is_gone_is_refused_too(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("inventory/sites/first-site", "inventory/sites/second-site")
    for path in Path("inventory/sites/second-site").rglob("*.yaml"):
        path.write_text(path.read_text().replace("r01", "r02").replace("10.0.0.", "10.0.7."))
    git("add", ".")
    git("commit", "-q", "-m", "two sites")
    shutil.rmtree("inventory/sites/second-site")
    told = Told(capsys)
    assert told.code == Exit.REFUSED
    assert "No longer declared: `second-site`" in told.comment
    assert "1 other site: no change of meaning." in told.comment


@pytest.mark.usefixtures("base")
def test_a_comment_alone_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    PROFILE.write_text(PROFILE.read_text() + "# a remark\n")
    told = Told(capsys)
    assert (told.code, told.notes) == (Exit.OK, [])
    assert "every site means the same as before" in told.comment


@pytest.mark.usefixtures("base")
def test_a_base_that_does_not_load_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    good = PROFILE.read_text()
    PROFILE.write_text("kind: [\n")
    git("commit", "-q", "-am", "broken")
    PROFILE.write_text(good)
    told = Told(capsys)
    assert (told.code, told.notes) == (Exit.OK, [])
    assert "does not load: there is nothing to compare with" in told.comment


@pytest.mark.usefixtures("base")
def test_paths_are_from_the_top_of_the_repository(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pull request lies in a folder beside the tool, as CI checks it out."""
    edit(PROFILE, "power_mode: normal", "power_mode: low")
    here = Path.cwd()
    monkeypatch.chdir("/")
    told = Told(capsys, "--inventory", str(here / "inventory"))
    assert told.notes[0].startswith("::warning file=inventory/profiles/standard.yaml,")


@pytest.mark.usefixtures("base")
def test_the_stacks_that_a_change_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    def stacks() -> list[str]:
        capsys.readouterr()
        assert main(["plan", "--against", "HEAD", "-o", "stacks"]) == Exit.OK
        return capsys.readouterr().out.split()

    assert stacks() == []
    edit(PROFILE, "power_mode: normal", "power_mode: low")
    assert stacks() == ["first-site.fleet"]
    site = Path("inventory/sites/first-site/site.yaml")
    site.write_text(site.read_text() + "# moved\n")
    assert stacks() == ["first-site.cluster", "first-site.platform", "first-site.fleet"]


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("form", ["github", "stacks"])
def test_without_a_commit_to_compare_with_there_is_nothing_to_say(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-o", form]) == Exit.USAGE
    assert "say --against REF" in capsys.readouterr().err
