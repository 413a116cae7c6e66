"""What scripts and terminals get: four forms, data apart from progress, no surprises from devices."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from control_plane.cli.exits import Exit
from control_plane.cli.get import _KINDS
from control_plane.cli.main import VERBS, main
from tests.cli.workshop import GRIDPLANE, Workshop

BASH = shutil.which("bash") or "bash"
REASON = ("--reason", "filter change")
EVIL_URL = "stratum+tcp://evil\x1b]0;owned\x07\x1b[2J.example:3333"
EVIL_WORKER = "a\x1b[31mb\r\nHeld        nothing\u202ec"
CODES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")

FORMED = (
    ("validate",),
    ("plan", "--no-look"),
    ("status",),
    ("explain", "a01-s1"),
    ("observe", "a01"),
    ("posture", "--all"),
    ("workorder",),
    ("firmware", "list"),
    ("simulate", "status"),
    ("simulate", "truth"),
    *(("get", kind) for kind in _KINDS),
)
"""Every verb that has -o."""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A site on which something of everything stands: holds, a thief with odd words, operations, events."""
    shop = Workshop(tmp_path_factory.mktemp("standing"))
    shop.declare()
    with shop.devices():
        shop.adopted()
        shop.run("hold", "a01", "--kind", "safety", "--by", "ann", *REASON)
        shop.fault("hijack", target={"asset": "w01-s2"})
        shop.run("apply", "--yes", "--interval", "1")
        shop.fault("hijack", target={"rack": "a01"}, url=EVIL_URL, worker=EVIL_WORKER)
        shop.run("observe")
        yield shop


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(
    standing: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ask:
    """A verb on the standing site, in this process: exit code, stdout and stderr."""
    monkeypatch.chdir(standing.folder)
    for name, value in standing.env.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.mark.parametrize("verb", FORMED, ids="-".join)
def test_the_four_forms_say_the_same(ask: Ask, verb: tuple[str, ...]) -> None:
    code, as_json, _ = ask(*verb, "-o", "json")
    assert code == Exit.OK
    data, again = json.loads(as_json), yaml.safe_load(ask(*verb, "-o", "yaml")[1])
    if verb[0] == "get":
        assert again == data
        assert ask(*verb, "-o", "json")[1] == as_json, "stable"
    else:
        # These tell the time, or machines that move on.
        assert _keys(again) == _keys(data)
    names, text = ask(*verb, "-o", "name")[1], ask(*verb)[1]
    for form in (names, text):
        assert not CODES.search(form.replace("\n", "")), form
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def _keys(data: object) -> object:
    if isinstance(data, dict):
        return sorted(data)
    return sorted({key for one in data for key in one}) if isinstance(data, list) else None


def test_the_names_of_a_list_are_what_other_verbs_take(ask: Ask) -> None:
    names = ask("get", "devices", "-o", "name")[1].split()
    assert len(names) == 12
    assert json.loads(ask("explain", names[0], "-o", "json")[1])["device"]["asset"] == names[0]
    assert ask("get", "holds", "-o", "name")[1] == "h0001\n"


def test_what_a_device_says_cannot_move_a_cursor_or_forge_a_line(
    ask: Ask, standing: Workshop
) -> None:
    assert standing.truth()["a01-s1"]["pools"][0] == [EVIL_URL, EVIL_WORKER]
    for verb in (("explain", "a01-s1"), ("observe", "a01"), ("plan", "--no-look"), ("status",)):
        text = ask(*verb)[1]
        assert not re.search("^Held        nothing", text, re.MULTILINE)
        _, terminal = _on_terminal(standing, *verb)
        assert not re.search("\x1b|\x07|\u202e", terminal), verb
    assert "evil" in ask("explain", "a01-s1")[1]


def test_progress_is_on_stderr_with_count_rate_and_time_left(ask: Ask, standing: Workshop) -> None:
    _, out, err = ask("observe", "-o", "json")
    assert json.loads(out)
    assert re.search(r"looking at mill: 12 of 12 \(100%\), [\d,]+/s, done", err)
    terminal_code, terminal = _on_terminal(standing, "observe")
    assert terminal_code == Exit.OK
    assert "\rlooking at mill: " in terminal, "one line, rewritten in place"


@pytest.mark.parametrize("no_color", [False, True], ids=["coloured", "NO_COLOR"])
def test_colours_are_for_terminals_that_want_them(shop: Workshop, *, no_color: bool) -> None:
    rack = shop.folder / "inventory/sites/mill/racks/a01.yaml"
    rack.write_text(rack.read_text().replace("owner: house", "owner: mouse"))
    piped = shop.call("validate")
    assert piped.returncode == Exit.INVALID
    assert "\x1b" not in piped.stdout
    assert "error[E" in piped.stdout
    if no_color:
        shop.env["NO_COLOR"] = "1"
    code, terminal = _on_terminal(shop, "validate")
    assert code == Exit.INVALID
    assert ("\x1b[1;31m" in terminal) is not no_color


def _on_terminal(shop: Workshop, *arguments: str) -> tuple[int, str]:
    """A verb with its output on a terminal: exit code and what the terminal got."""
    ours, theirs = pty.openpty()
    env = {key: value for key, value in shop.env.items() if key != "NO_COLOR" or key in shop.env}
    process = subprocess.Popen(
        [*GRIDPLANE, *arguments], cwd=shop.folder, env={**env, "TERM": "xterm"},
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    pieces = []
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(ours)
    return process.wait(60), b"".join(pieces).decode()


def test_a_reader_that_goes_away_is_no_error(standing: Workshop) -> None:
    line = f"{' '.join(GRIDPLANE)} get devices -o json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        [BASH, "-c", line], cwd=standing.folder, env=standing.env,
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "[0\n"
    assert done.stderr == ""


# --- exit codes -------------------------------------------------------------------------------------


def test_plan_tells_by_its_exit_code_whether_there_is_something_to_do(
    ask: Ask, standing: Workshop
) -> None:
    assert ask("plan", "--exit-code")[0] == Exit.OK, "what is held is not to be done"
    standing.fault("hijack", target={"asset": "w01-s1"})
    assert ask("plan")[0] == Exit.OK
    assert ask("plan", "--exit-code")[0] == Exit.ACTIONABLE


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--nope"),
        ("get", "nothing"),
        ("explain",),
        ("hold", "a01"),
        ("aply",),
        ("explain", "x"),
    ],
    ids=" ".join,
)
def test_what_a_verb_does_not_know_is_a_usage_error(ask: Ask, words: tuple[str, ...]) -> None:
    code, out, err = ask(*words)
    assert (code, out) == (Exit.USAGE, "")
    assert err


# --- completion ---------------------------------------------------------------------------------------


def _completed(shop: Workshop, shell: str, line: str) -> list[str]:
    """What the command offers for a line, by the protocol of a shell's script."""
    words = line.split(" ")
    done = subprocess.run(
        [*GRIDPLANE], cwd=shop.folder, text=True, capture_output=True, check=False, timeout=60,
        env={
            **shop.env,
            "_GRIDPLANE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
        },
    )  # fmt: skip
    rows = done.stdout.split("\n")
    if shell == "zsh":
        return rows[1::3]
    return [row.split(",", 1)[1].split("\t")[0] for row in rows if row]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_verbs_sites_and_choices(shop: Workshop, shell: str) -> None:
    script = shop.run("completion", shell)
    assert "gridplane" in script
    assert f"{shell}_complete" in script
    assert set(_completed(shop, shell, "gridplane ")) == set(VERBS)
    assert _completed(shop, shell, "gridplane plan --site mi") == ["mill"]
    assert "rollouts" in _completed(shop, shell, "gridplane get ro")


def test_the_script_completes_in_a_real_bash(shop: Workshop, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "gridplane"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(GRIDPLANE)} "$@"\n')
    program.chmod(0o755)
    ask = (
        'eval "$(gridplane completion bash)"; '
        "COMP_WORDS=(gridplane val); COMP_CWORD=1; "
        '"$(complete -p gridplane | sed "s/.*-F \\([^ ]*\\).*/\\1/")" gridplane val gridplane; '
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [BASH, "--norc", "-c", ask], cwd=shop.folder, capture_output=True, text=True, check=False,
        env={**shop.env, "PATH": f"{program.parent}:{shop.env['PATH']}"}, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["validate"], done.stderr
