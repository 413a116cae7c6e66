"""Malformed, hostile, empty or missing input: findings with their place, or one sentence; never an action."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.core import limits

RACK = "inventory/sites/first-site/racks/r01.yaml"
READERS = (
    ("validate",),
    ("plan",),
    ("plan", "--no-look"),
    ("observe",),
    ("apply", "--yes"),
    ("simulate", "serve"),
)
"""Every verb that reads the inventory before anything was accepted."""

HEAD = "racks:\n  - id: r01\n    feed: pdu-1\n    slots: 8\n    owner: me\n    type: antminer-s21\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{now}: &{now} [{', '.join([f'*{was}'] * 10)}]\n"
    for was, now in zip("abcdefgh", "bcdefghi", strict=True)
)

HOSTILE: Mapping[str, bytes] = {
    "empty": b"",
    "only a comment": b"# nothing\n",
    "an open bracket": b"racks: [\n",
    "a tab": b"racks:\n\t- id: r01\n",
    "a list": b"- racks\n",
    "a number": b"42\n",
    "an anchor bomb": BOMB.encode(),
    "a tag that makes objects": b"racks: !!python/object/apply:os.system ['true']\n",
    "deep nesting": b"racks: " + b"[" * 5_000 + b"]" * 5_000,
    "a key twice": HEAD.encode() + b"    slots: 9\n",
    "an unknown key": HEAD.encode() + b"    slotz: 9\n",
    "two documents": HEAD.encode() + b"---\nracks: []\n",
    "NUL": HEAD.encode() + b"    profile: \x00\n",
    "an escape": HEAD.encode() + b"    profile: \x1b[31mred\n",
    "reordering": HEAD.encode() + "    profile: \u202edradnats\n".encode(),
    "Latin-1": HEAD.encode() + b"    profile: caf\xe9\n",
    "binary": bytes(range(256)) * 64,
    "a negative count": HEAD.replace("slots: 8", "slots: -8").encode(),
    "a count beyond reason": HEAD.replace("slots: 8", "slots: 999999999999").encode(),
    "an unknown owner": HEAD.replace("owner: me", "owner: mee").encode()
    + b"    profile: standard\n    addressing: {static_by_slot: 10.0.0.11}\n    placement: by_slot\n",
}
PLACE = re.compile(r"^inventory/\S+(:\d+:\d+)?: error\[E\d{4}\] \S", re.MULTILINE)


def refused_by_all(code: Exit, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What each reader says; none of them does anything, or leaves anything behind."""
    said = []
    for verb in READERS:
        capsys.readouterr()
        assert main(verb) == code, verb
        told = capsys.readouterr()
        text = told.out + told.err
        assert "Traceback" not in text, verb
        assert "bug of ours" not in text, verb
        assert "\x1b" not in text, verb
        assert len(text) < 20_000, verb
        said.append(text)
    assert not Path(".gridplane").exists(), "nothing was begun"
    return said


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.usefixtures("home")
def test_a_hostile_file_is_a_finding_with_its_place(
    content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(RACK).write_bytes(content)
    for text in refused_by_all(Exit.INVALID, capsys):
        assert PLACE.search(text), text
        assert RACK in text
        assert "fix:" in text


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(limits.YAML_MAX_BYTES + 1)


def _outside(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("make", [_huge, _outside, _pipe], ids=lambda one: one.__name__)
@pytest.mark.usefixtures("home")
def test_what_is_no_plain_file_of_sensible_size_is_never_read(
    make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path(RACK))
    for text in refused_by_all(Exit.INVALID, capsys):
        assert PLACE.search(text), text
        assert "root:" not in text, "what it leads to is not shown"


@pytest.mark.parametrize("left", [None, "a file", "an empty folder"])
@pytest.mark.usefixtures("home")
def test_an_inventory_that_is_not_there(
    left: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDPLANE_SITE", "first-site")
    Path("inventory").rename("elsewhere")
    if left == "an empty folder":
        Path("inventory").mkdir()
    elif left == "a file":
        Path("inventory").write_text("")
    code = Exit.USAGE if left == "a file" else Exit.INVALID
    for text in refused_by_all(code, capsys):
        assert "inventory" in text


@pytest.mark.usefixtures("home")
def test_a_site_that_is_not_there_is_met_with_those_that_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDPLANE_SITE", "frist-site")
    for text in refused_by_all(Exit.USAGE, capsys):
        assert "frist-site" in text
        assert "first-site" in text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"rules": 3}',
        b'{"time_scale": "fast"}',
        b'{"time_scale": 0}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("verb", [("plan",), ("observe",), ("apply", "--yes")], ids=lambda v: v[0])
@pytest.mark.usefixtures("home")
def test_a_garbled_network_map_is_said_in_one_sentence(
    verb: tuple[str, ...], content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("map.json").write_bytes(content)
    capsys.readouterr()
    assert main([*verb, "--network-map", "map.json"]) == Exit.INVALID
    told = capsys.readouterr().err
    assert "map.json" in told
    assert "no network map" in told
    assert "bug of ours" not in told


@pytest.mark.parametrize("verb", [("plan",), ("observe",), ("apply", "--yes")], ids=lambda v: v[0])
@pytest.mark.usefixtures("home")
def test_a_secret_that_is_not_set_is_named_with_its_place(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRIDPLANE_ANTMINER_PASSWORD", raising=False)
    capsys.readouterr()
    assert main(verb) == Exit.OK, "whoever needs no secret is worked with"
    told = capsys.readouterr()
    assert "not asked: secret reference env:GRIDPLANE_ANTMINER_PASSWORD is not set" in told.err
    assert re.search(r"inventory/profiles/standard\.yaml:\d+:\d+", told.err)


@pytest.mark.parametrize(
    "reference", ["no-such-branch", "--output=/tmp/x", "HEAD:/etc", "", "HEAD~99"]
)
@pytest.mark.usefixtures("home")
def test_a_reference_that_git_does_not_know(
    reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["plan", "--against", reference]) == Exit.INVALID
    assert "E0" in capsys.readouterr().err
