"""Images put into a release as it is written: nothing of its author's is touched."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane.inventory.catalogue_text import NotExtended, new_release, with_images
from control_plane.inventory.problems import Problems
from control_plane.inventory.text import read_yaml


def read(text: str) -> dict[str, Any]:
    """As the inventory reads it: `no` is a word."""
    problems = Problems()
    document = read_yaml("x.yaml", text.encode(), problems)
    assert document is not None, problems.found()
    return dict(document.value)


SHA = "3" * 64
"""Reads as a number without quotes."""
IMAGE = {"file": "b.bin", "size_bytes": 7, "sha256": SHA, "control_boards": ("H616", "no")}

BLOCK = """\
# Ours.
family: luxos   # by name
version: "1.0"
device_types: [s21]
images:
  # The first.
  - file: a.bin
    size_bytes: 5   # five
    sha256: {sha}
    control_boards:
      - H6
      - H3 # the last
  # Said of what follows.
can_roll_back: false
voids_warranty: true
"""
FLOW = """\
family: luxos
images: [{{file: a.bin, size_bytes: 5, sha256: {sha}}}] # one
can_roll_back: false
"""
INDENTED = "images:\n- file: a.bin\n  sha256: {sha}"


@pytest.mark.parametrize("form", [BLOCK, FLOW, INDENTED], ids=["block", "flow", "at the end"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_images_come_to_the_end_of_the_list_and_nothing_else_moves(form: str, ending: str) -> None:
    before = form.format(sha="a" * 64).replace("\n", ending)
    after = with_images("firmware/x.yaml", before, [IMAGE, {**IMAGE, "file": "c.bin"}])
    plain = {**IMAGE, "control_boards": ["H616", "no"]}
    want = read(before)
    want["images"] += [plain, {**plain, "file": "c.bin"}]
    assert read(after) == want
    left = after
    for line in before.splitlines():
        if line.strip().startswith(("#", "can", "voids", "- H", "family", "version")):
            assert line in left.splitlines()
    assert ("\r\n" in after) == (ending == "\r\n")
    assert after.count("\n") == after.count(ending)


def test_comments_stay_where_they_were() -> None:
    before = BLOCK.format(sha="a" * 64)
    after = with_images("x.yaml", before, [IMAGE])
    put_in = (
        '  - file: b.bin\n    size_bytes: 7\n    sha256: "' + SHA + '"\n'
        "    control_boards: [H616, no]\n"
    )
    assert after == before.replace("      - H3 # the last\n", f"      - H3 # the last\n{put_in}")


@pytest.mark.parametrize(
    "text",
    [
        "family: luxos\nimages: []\n",
        "family: luxos\n",
        "images: &all\n  - file: |\n      a.bin\n    note: &n x\n  - file: >\n      b\n",
    ],
    ids=["empty", "none", "a block of text last"],
)
def test_a_form_that_nothing_is_put_into_is_left_to_a_person(text: str) -> None:
    with pytest.raises(NotExtended, match=r"put it into `images`:\n  - file: b.bin"):
        with_images("firmware/x.yaml", text, [IMAGE])


def test_a_new_release_reads_as_it_was_meant() -> None:
    fields = {
        "family": "antminer_stock",
        "version": "Mon Dec 30 10:00:00 CST 2024",
        "device_types": ("s21", "s21-pro"),
        "min_from_version": "1.0",
        "can_roll_back": False,
        "voids_warranty": True,
        "note": 'says: "no" # really',
    }
    made = read(new_release(fields, [IMAGE], schema="s.json"))
    assert made == {
        **fields,
        "device_types": ["s21", "s21-pro"],
        "images": [{**IMAGE, "control_boards": ["H616", "no"]}],
    }
