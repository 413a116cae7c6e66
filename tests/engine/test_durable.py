"""Files that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.core.errors import StoreError
from control_plane.engine.durable import replace_file


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_file_holds_the_new_or_the_old_and_its_folder_is_made(
    tmp_path: Path, is_durable: bool
) -> None:
    path = tmp_path / "folder" / "kept.json"
    replace_file(path, b"one", is_durable=is_durable)
    replace_file(path, b"two", is_durable=is_durable)
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["kept.json"]


def test_what_the_disk_does_not_take_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    replace_file(path, b"one")
    path.with_suffix(".new").mkdir()
    with pytest.raises(StoreError, match=r"kept\.json: Is a directory"):
        replace_file(path, b"two")
    assert path.read_bytes() == b"one"
