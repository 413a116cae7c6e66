"""Which program is run: a fitting one of this machine, else the one that was built, else a way forward."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main
from control_plane.lab import pulumi
from control_plane.lab.api import ApiLab
from control_plane.lab.programs import (
    BY_NAME,
    PROGRAMS,
    Program,
    ProgramMissing,
    built,
    find,
    find_all,
    keep,
)
from tools import build


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has nothing but a shell."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("GRIDPLANE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "GO_PLACES", str(tmp_path / "bin"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def put(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_fitting_program_of_this_machine_goes_first(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(built(BY_NAME["etcd"]), "etcd Version: 3.6.14")
    on_path = put(bare / "bin" / "etcd", "etcd Version: 3.6.2")
    assert find("etcd") == on_path
    assets = put(bare / "assets" / "etcd", "etcd Version: 3.6.9")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(bare / "assets"))
    assert find("etcd") == assets


@pytest.mark.parametrize("says", ["etcd Version: 3.4.23", "something else", ""])
def test_one_that_does_not_fit_is_passed_over_and_named(bare: Path, says: str) -> None:
    on_path = put(bare / "bin" / "etcd", says)
    with pytest.raises(ProgramMissing, match=str(on_path)):
        find("etcd")
    place = put(built(BY_NAME["etcd"]), "etcd Version: 3.6.14")
    assert find("etcd") == place


def test_what_is_missing_is_said_at_once_with_what_works_without() -> None:
    with pytest.raises(ProgramMissing) as missing:
        find_all(["etcd", "kwok"])
    text = str(missing.value)
    assert "make tools" in text
    assert "kwok" in text
    assert "Everything but `gridplane lab` works" in text


def test_without_go_the_way_forward_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["etcd"]) == 1
    said = capsys.readouterr().err
    assert "there is no Go on this machine" in said
    assert "make test-fast" in said


def test_an_old_go_is_named(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(bare / "bin" / "go", "go1.21.5")
    assert build.main(["etcd"]) == 1
    assert "is go1.21.5" in capsys.readouterr().err


def test_a_build_that_breaks_off_leaves_nothing_half_made(
    bare: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FREE_BYTES", 0)
    go = bare / "bin" / "go"
    go.write_text(
        '#!/bin/sh\nif [ "$1" = env ]; then echo go1.26.8; exit; fi\n'
        'while [ "$1" != -o ]; do shift; done; echo half > "$2"; echo killed >&2; exit 137\n'
    )
    go.chmod(0o755)
    assert build.main(["etcd"]) == 1
    assert "Its last words:\n  killed" in capsys.readouterr().err
    assert not built(BY_NAME["etcd"]).exists()
    assert list((bare / "cache" / "tools").iterdir()) == []


def test_what_a_killed_build_left_is_cleared_away(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FREE_BYTES", 0)
    left = put(bare / "cache" / "tools" / ".etcd-killed" / "place" / "etcd", "half")
    go = bare / "bin" / "go"
    go.write_text(
        '#!/bin/sh\nif [ "$1" = env ]; then echo go1.26.8; exit; fi\n'
        'while [ "$1" != -o ]; do shift; done; echo whole > "$2"\n'
    )
    go.chmod(0o755)
    assert build.main(["etcd"]) == 0
    assert not left.exists()
    assert build.is_built(BY_NAME["etcd"])
    assert list((bare / "cache" / "tools").iterdir()) == [built(BY_NAME["etcd"]).parent]


def test_what_two_make_at_once_is_kept_once_and_what_cannot_be_kept_is_told(bare: Path) -> None:
    place = bare / "cache" / "made"
    place.parent.mkdir()
    for content in ("first", "second"):
        fresh = bare / content
        fresh.mkdir()
        (fresh / "file").write_text(content)
        keep(fresh, place)
    assert (place / "file").read_text() == "first"
    with pytest.raises(FileNotFoundError):
        keep(bare / "second", bare / "nowhere" / "made")


def test_a_second_build_waits_and_builds_nothing_twice(bare: Path) -> None:
    etcd = BY_NAME["etcd"]
    (bare / "cache" / "tools").mkdir(parents=True)
    put(bare / "bin" / "go", "go1.26.8")
    with (bare / "cache" / "tools.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-m", "tools.build", "etcd"],
            cwd=build.WRAPPERS.parent, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with second:
            assert second.stderr is not None
            assert any("another build is under way" in line for line in second.stderr)
            put(built(etcd), "of the first")
            built(etcd).with_name("wrapper.sha256").write_text(build.digest(etcd))
            fcntl.flock(lock, fcntl.LOCK_UN)
    assert second.returncode == 0
    assert "of the first" in built(etcd).read_text()


def test_a_program_is_built_anew_when_its_pins_change(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = BY_NAME["etcd"]
    put(built(etcd), "etcd Version: 3.6.14")
    assert not build.is_built(etcd), "nothing says from which pins it was made"
    built(etcd).with_name("wrapper.sha256").write_text(build.digest(etcd))
    assert build.is_built(etcd)
    wrappers = bare / "tools"
    shutil.copytree(build.WRAPPERS / "etcd", wrappers / "etcd")
    monkeypatch.setattr(build, "WRAPPERS", wrappers)
    assert build.is_built(etcd)
    with (wrappers / "etcd" / "go.sum").open("a") as pins:
        pins.write("example.com/x v1.0.0 h1:x=\n")
    assert not build.is_built(etcd)


def test_no_room_is_said_before_anything_is_built(
    bare: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FREE_BYTES", 10**18)
    put(bare / "bin" / "go", "go1.26.8")
    assert build.main(["etcd"]) == 1
    assert "make room" in capsys.readouterr().err


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_every_program_has_its_pins(program: Program) -> None:
    folder = build.WRAPPERS / program.family
    assert (folder / "go.mod").is_file()
    if "require" in (folder / "go.mod").read_text():
        assert (folder / "go.sum").stat().st_size > 1_000


def test_an_engine_that_is_missing_is_named_with_all_that_it_needs(bare: Path) -> None:
    with pytest.raises(ProgramMissing) as missing:
        pulumi.environment(bare / "stacks", {})
    for name in pulumi.PROGRAMS:
        assert name in str(missing.value)
    assert not (bare / "stacks").exists()


def test_a_release_of_pulumi_brings_its_own_language_host(bare: Path) -> None:
    released = put(bare / "bin" / "pulumi", "v3.259.1")
    provider = put(built(BY_NAME["pulumi-resource-kubernetes"]), "")
    with pytest.raises(ProgramMissing, match=f"{pulumi.LANGUAGE_HOST} "):
        pulumi.programs()
    put(bare / "bin" / pulumi.LANGUAGE_HOST, "")
    found = {"pulumi": released, "pulumi-resource-kubernetes": provider}
    assert pulumi.programs() == found
    path = pulumi.environment(bare / "stacks", {"PATH": str(bare / "bin")})["PATH"]
    assert path == f"{provider.parent}{os.pathsep}{bare / 'bin'}"


def test_nothing_of_the_callers_own_pulumi_reaches_the_lab(bare: Path) -> None:
    for name in pulumi.PROGRAMS:
        put(built(BY_NAME[name]), "")
    own = {"PULUMI_ACCESS_TOKEN": "t", "PULUMI_CONFIG_PASSPHRASE": "p", "KUBECONFIG": "k"}
    made = pulumi.environment(bare / "stacks", own)
    assert made["KUBECONFIG"] == "k"
    assert "PULUMI_ACCESS_TOKEN" not in made
    assert made["PULUMI_CONFIG_PASSPHRASE"] == pulumi.PASSPHRASE
    assert made["PULUMI_BACKEND_URL"] == f"file://{bare / 'stacks' / 'state'}"
    assert stat.S_IMODE((bare / "stacks").stat().st_mode) == 0o700
    assert pulumi.environment(bare / "stacks", own) == made


def test_exec_asks_for_pulumi_only_where_it_is_called(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(bare))
    put(built(BY_NAME["kubectl"]), "v1.36.3")
    ApiLab(bare / "gridplane" / "lab" / "lab")._make(None)
    assert main(["lab", "exec", "--", "kubectl", "version"]) == Exit.OK
    assert "v1.36.3" in capfd.readouterr().out
    assert main(["lab", "exec", "--", "pulumi", "up"]) == Exit.REFUSED
    assert "pulumi 3.259.0 is not on this machine" in capfd.readouterr().err
