"""What the first bytes and the name of an image tell: tables."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from control_plane.core.image_head import HEAD_BYTES, doubts, packed_as, why_no_image


def a_tar() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("sysupgrade/kernel"))
    return made.getvalue()[:HEAD_BYTES]


def a_zip() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("a", "b")
    return made.getvalue()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "empty"),
        (b"\0" * 512, "padding"),
        (b"\xff" * 512, "padding"),
        (b"<!DOCTYPE html><title>Sign in", "text"),
        (b"\n<html>", "text"),
        (b'{"error": "not found"}', "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "text"),
    ],
)
def test_what_is_no_image_is_said(head: bytes, said: str) -> None:
    assert said in (why_no_image(head) or "")


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (gzip.compress(b"x", mtime=0), "gzip"),
        (a_tar(), "tar"),
        (a_zip(), "zip"),
        (bytes.fromhex("27051956") + b"\1" * 60, "uImage"),
        (bytes.fromhex("d00dfeed") + b"\1" * 60, "device tree or FIT"),
        (b"hsqs" + b"\1" * 60, "squashfs"),
        (b"\xab\xabmaker's own", None),
    ],
    ids=["gzip", "tar", "zip", "uImage", "FIT", "squashfs", "of a maker"],
)
def test_how_an_image_is_packed(head: bytes, form: str | None) -> None:
    assert why_no_image(head) is None
    assert packed_as(head) == form


@pytest.mark.parametrize(
    ("file", "version", "number"),
    [
        ("whatsminer-h616-20240924.14.bin", "20240924.14.Rel", 0),
        ("whatsminer-h616-20240924.14.bin", "20230803.11.REL", 1),
        ("vnish-1.2.6.tar.gz", "1.2.6", 0),
        ("antminer.bmu", "Mon Dec 30 10:00:00 CST 2024", 0),
        ("S19-merge-release-8IN1.bmu", "Mon Dec 30 10:00:00 CST 2024", 1),
    ],
)
def test_doubts_from_a_name(file: str, version: str, number: int) -> None:
    assert len(doubts(file, version)) == number
