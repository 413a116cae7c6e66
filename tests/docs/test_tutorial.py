"""The pages that people follow step by step do what they show."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.walk import Shell, clean_env, commands_of, unseen

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    one = Shell(tmp_path, clean_env(Path(sys.executable).parent))
    yield one
    one.close()


def test_the_readme_declares_a_rack(shell: Shell) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Declare your own rack\n")[2].partition("\n## ")[0]
    assert shell.walk(section, "README.md") == 4


@pytest.mark.slow
def test_the_first_site(shell: Shell) -> None:
    page = ROOT / "docs/tutorials/first-site.md"
    assert shell.walk(page.read_text(encoding="utf-8"), page.name) == 30


@pytest.mark.parametrize(
    ("shown", "printed", "missing"),
    [
        (("a", "b"), "a\nb\n", None),
        (("a",), "a\nb\n", "nothing more, but there is"),
        (("a", "..."), "a\nb\n", None),
        (("...", "b"), "x\nb\na\nb\n", None),
        (("b",), "a\nb\n", "b"),
        (("...", "b", "a", "..."), "a\nb\n", "a"),
        (("took 3 s",), "took 41 s\n", None),
        (("8 of 8",), "7 of 8\n", "8 of 8"),
        ((), "anything\n", None),
    ],
)
def test_a_page_that_shows_something_else_is_found(
    shown: tuple[str, ...], printed: str, missing: str | None
) -> None:
    assert unseen(shown, printed) == missing


def test_commands_and_their_exits_are_read_from_a_page() -> None:
    page = "x\n```console\n$ one  # exit 3\nout\n$ two &\n```\n```sh\n$ not\n```\n"
    assert list(commands_of(page)) == [(3, "one", 3, ("out",)), (5, "two &", 0, ())]
