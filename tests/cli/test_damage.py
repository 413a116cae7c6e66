"""A full disk, a damaged Store or audit file, a folder that takes no writes: nothing is done to devices.

Exit code 6, what is wrong, how to recover, and no traceback.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from tests.cli.workshop import Workshop

HOLD = ("hold", "r01", "--kind", "safety", "--by", "ann", "--reason", "hands in the rack")
ACTING = (("apply", "--yes"), ("run",))
VERBS = (
    ("plan", "--no-look"),
    ("observe",),
    *ACTING,
    ("status",),
    ("get", "devices"),
    ("explain", "r01-s1"),
    ("trust", "r01", "--yes"),
    HOLD,
    ("release", "h0001"),
    ("freeze", "--reason", "x"),
)


def _head(data: bytes) -> bytes:
    return b"garbled!" * 12 + data[96:]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeros(data: bytes) -> bytes:
    return data[:4096] + bytes(len(data) - 4096)


@pytest.fixture
def planned(home: Path) -> Path:
    """The state folder of a site that was planned and is held; nobody has it open."""
    assert main(["plan", "--no-look"]) == Exit.OK
    assert main(HOLD) == Exit.OK
    gc.collect()
    return home / ".gridplane" / "first-site"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
@pytest.mark.parametrize("damage", [_head, _half, _zeros], ids=lambda one: one.__name__)
def test_no_verb_trusts_a_damaged_store(
    planned: Path,
    damage: Callable[[bytes], bytes],
    verb: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = planned / "state.sqlite"
    assert not list(planned.glob("state.sqlite-*")), "the last one to close it left one file"
    path.write_bytes(damage(path.read_bytes()))
    garbled = path.read_bytes()
    capsys.readouterr()
    assert main(verb) == Exit.STATE
    told = capsys.readouterr()
    assert f"{path} is damaged" in told.err
    assert "Nothing is written to devices. Move it aside and restore a backup" in told.err
    assert "bug" not in told.err
    assert "in force" not in told.out
    assert path.read_bytes() == garbled, "the evidence stays"


def test_a_site_goes_on_from_an_empty_store_as_its_words_say(site: Workshop) -> None:
    """Move the damaged file aside, pin again, apply: machines that are as declared are not touched."""
    path = site.state / "state.sqlite"
    path.write_bytes(_head(path.read_bytes()))
    site.refused("apply", "--yes", code=Exit.STATE)
    path.rename(path.with_suffix(".damaged"))
    before = site.written()
    assert site.json("plan")["steps"] == [], "nothing is written to machines that nobody trusts"
    site.adopted()
    assert site.written() == before
    site.assert_at_rest()
    site.assert_chain()


DAMAGES: Mapping[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "edited": lambda data: data.replace(b"a01", b"a02"),
    "zeros": lambda data: bytes(len(data)),
}


def test_who_acts_does_not_trust_a_damaged_audit_file(site: Workshop) -> None:
    audit = site.state / "audit.jsonl"
    whole = audit.read_bytes()
    site.declare(pool="new.example.com")
    before = site.written()
    for name, damage in DAMAGES.items():
        audit.write_bytes(damage(whole))
        for verb in ACTING:
            said = site.refused(*verb, code=Exit.STATE)
            assert f"{audit} is not as it was left" in said, name
            assert f"mv {audit} {audit}.damaged" in said, name
    assert site.written() == before
    assert site.json("status")["accepted"]["seq"] == 1, "nothing was accepted either"
    site.run("hold", "a01", "--kind", "safety", "--by", "ann", "--reason", "a hold always works")

    audit.rename(audit.with_suffix(".damaged"))
    site.run("apply", "--yes", "--interval", "1")
    site.assert_chain()
    assert site.pools("w01") == {"stratum+tcp://new.example.com:3333"}
    assert site.pools("a01") != site.pools("w01"), "the hold holds"


def _limit(size: int) -> Callable[[], None]:
    """No file of the process may grow beyond so many bytes: what a full disk looks like to one."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_disk_that_fills_up_at_any_moment_stops_the_writes(site: Workshop) -> None:
    site.declare(pool="new.example.com", limit_w=3000)
    biggest = max(path.stat().st_size for path in site.state.iterdir())
    codes = []
    for room in (0, 4_096, 65_536, 180_000):
        done = site.call("apply", "--yes", "--interval", "1", preexec_fn=_limit(biggest + room))
        codes.append(done.returncode)
        if done.returncode != Exit.OK:
            assert done.returncode == Exit.STATE, done.stderr
            assert "othing is" in done.stderr, done.stderr
            assert "bug" not in done.stderr, done.stderr
    assert codes[0] == Exit.STATE
    site.run("apply", "--yes", "--interval", "1")
    site.assert_accounted()
    site.assert_at_rest()


def test_a_hold_that_cannot_be_kept_is_not_in_force(shop: Workshop) -> None:
    shop.run("plan", "--no-look")
    biggest = max(path.stat().st_size for path in shop.state.iterdir())
    words = ("hold", "a01", "--kind", "safety", "--by", "ann", "--reason", "x" * 2000)
    done = shop.call(*words, preexec_fn=_limit(min(biggest, 1024)))
    assert done.returncode == Exit.STATE
    assert "in force" not in done.stdout
    assert shop.json("get", "holds") == []


def _as_any_user() -> None:
    """Root may write where nobody may; without this capability it is a user like others."""
    libc = ctypes.CDLL(None)
    pr_capbset_drop, cap_dac_override = 24, 1
    libc.prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)


def test_a_folder_that_takes_no_writes(site: Workshop) -> None:
    site.declare(pool="new.example.com")
    before = site.written()
    for path in site.state.iterdir():
        path.chmod(0o400)
    site.state.chmod(0o500)
    try:
        for verb in (("apply", "--yes"), ("run",), ("status",), ("plan", "--no-look")):
            done = site.call(*verb, preexec_fn=_as_any_user)
            assert done.returncode == Exit.STATE, (verb, done.stderr)
            assert str(site.state) in done.stderr
            assert "bug" not in done.stderr
    finally:
        site.state.chmod(0o700)
    assert site.written() == before


def test_a_file_where_the_state_folder_should_be(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / ".gridplane").write_text("")
    assert main(["plan", "--no-look"]) == Exit.STATE
    assert str(home / ".gridplane") in capsys.readouterr().err
