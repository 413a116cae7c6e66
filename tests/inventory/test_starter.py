"""What `gridplane init` writes: valid, and with a schema beside it for every file."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from control_plane.cli.init import FILES, command
from control_plane.inventory.load import load


def test_what_init_writes_is_valid_and_names_schemas_that_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    done = CliRunner().invoke(command, [str(folder)])
    assert done.exit_code == 0, done.output
    loaded = load(folder)
    assert loaded.findings == ()
    assert loaded.fleet is not None
    assert set(loaded.files["first-site"]) == set(FILES), "schemas are no part of the declaration"
    for path in FILES:
        first = (folder / path).read_text(encoding="utf-8").partition("\n")[0]
        schema = first.removeprefix("# yaml-language-server: $schema=")
        assert ((folder / path).parent / schema).resolve().is_file(), path
