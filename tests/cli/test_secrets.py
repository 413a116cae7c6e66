"""A password that is not there: named with the line that asks for it, and the rest goes on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from control_plane.cli.exits import Exit
from control_plane.cli.main import main

NAME = "GRIDPLANE_ANTMINER_PASSWORD"


@pytest.fixture
def told(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The reference and its place, as every verb names them."""
    monkeypatch.delenv(NAME, raising=False)
    [profile] = (home / "inventory" / "profiles").glob("*.yaml")
    lines = profile.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 2) if text.startswith("credentials:"))
    return f"secret reference env:{NAME} is not set (inventory/profiles/{profile.name}:{line}:3)"


def test_validate_names_it_and_is_content(
    told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    assert main(["validate"]) == Exit.OK
    assert f"on this host, {told}" in capsys.readouterr().out
    assert main(["validate", "-o", "json"]) == Exit.OK
    assert msgspec.json.decode(capsys.readouterr().out)["missing_secrets"] == [told]
    monkeypatch.setenv(NAME, "x")
    assert main(["validate"]) == Exit.OK
    assert "secret" not in capsys.readouterr().out


def test_plan_names_it_and_holds_who_cannot_be_asked(
    told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["plan"]) == Exit.OK
    seen = capsys.readouterr()
    assert f"not asked: {told}" in seen.err
    assert "secret_missing" in seen.out
    assert main(["observe"]) == Exit.OK
    assert "secret_missing" in capsys.readouterr().out
