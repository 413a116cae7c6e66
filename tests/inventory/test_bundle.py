"""A bundle gives back the very bytes, whatever order they came in, and nothing that is not one."""

from __future__ import annotations

import hashlib
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.core import limits
from control_plane.inventory.bundle import DamagedBundle, pack, render, unpack

FILES = {"fleet.yaml": b"name: x\n", "sites/t/site.yaml": b"\xc3\xa9\r\n"}


@given(st.dictionaries(st.text(max_size=40), st.binary(max_size=200), max_size=20))
def test_what_goes_in_comes_out(files: dict[str, bytes]) -> None:
    assert unpack(pack(files)) == files
    assert pack(dict(reversed(files.items()))) == pack(files)


@given(st.binary(max_size=300))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedBundle):
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pack(FILES)[:-3], id="truncated"),
        pytest.param(pack(FILES) + b"x", id="followed by more"),
        pytest.param(zlib.compress(b"\x81\xa1a\x01"), id="not of files"),
        pytest.param(
            zlib.compress(b"\0" * (limits.INVENTORY_MAX_BYTES + 1)), id="a bomb: 256 MiB of zeros"
        ),
        pytest.param(
            pack({str(n): b"" for n in range(limits.INVENTORY_MAX_FILES + 1)}), id="too many files"
        ),
    ],
)
def test_a_damaged_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedBundle):
        unpack(data)


def test_a_revision_is_named_by_the_bytes_that_it_holds() -> None:
    revision, site = render("t", FILES, namespace="gridplane", commit="abc")
    data = msgspec.convert(revision["spec"]["data"], bytes)
    assert revision["metadata"]["name"] == hashlib.sha256(data).hexdigest()
    assert unpack(data) == FILES
    assert site["spec"] == {"revision": revision["metadata"]["name"], "commit": "abc"}
    assert render("t", FILES, namespace="gridplane", commit="abc") == (revision, site)
