"""What the first bytes of a firmware image tell: that it is no image, or in what it is packed. Pure.

Makers publish no description of their images: which model, board and version one is for is told by its
name and its web page, to people. So nothing here says what an image is for; it catches what is none.
"""

from __future__ import annotations

import re
from typing import Final

HEAD_BYTES: Final = 512
"""As many as are looked at: one block of a tar."""

_TAR_AT: Final = 257
"""Where `ustar` stands in the first block of a tar: POSIX.1-2017, pax, "ustar Interchange Format"."""
_PACKED: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x1f\x8b", "gzip"),  # RFC 1952, 2.3.1
    (b"PK\x03\x04", "zip"),  # APPNOTE.TXT 6.3.10, 4.3.7
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"hsqs", "squashfs"),  # Linux, fs/squashfs/squashfs_fs.h: SQUASHFS_MAGIC
    (b"\x27\x05\x19\x56", "uImage"),  # U-Boot, include/image.h: IH_MAGIC
    (b"\xd0\x0d\xfe\xed", "device tree or FIT"),  # Devicetree specification 0.4, 5.2
)
_TEXT: Final = re.compile(
    rb"\s*(<!doctype|<html|<\?xml|\{|\[|version https://git-lfs)", re.IGNORECASE
)
_NUMBERS: Final = re.compile(r"[0-9]{4,}")


def why_no_image(head: bytes) -> str | None:
    """Why these first bytes are of no image, in words; `None` where they may be of one."""
    if not head:
        return "it is empty"
    if not head.strip(b"\0\xff"):
        return (
            "it begins with nothing but padding: a download that was broken off, or an erased flash"
        )
    if _TEXT.match(head):
        return "it is text: what a web server or a large-file store said instead of the image"
    return None


def packed_as(head: bytes) -> str | None:
    """In what it is packed; `None` where the form is its maker's own."""
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "tar"
    return next((form for magic, form in _PACKED if head.startswith(magic)), None)


def doubts(file: str, version: str) -> tuple[str, ...]:
    """What a person should look at again, from the name alone.

    >>> doubts("whatsminer-h616-20240924.14.bin", "20230803.11.REL")
    ('20230803 of the version is not in its name',)
    >>> doubts("Antminer-S19-merge-release-20211216091201-8IN1.bmu", "Thu Dec 16 09:12:01 CST 2021")
    ('it is named as several images in one: tools of the maker cut it, a machine takes its own part',)
    """
    found = []
    if "merge" in file.casefold():
        # BitmainFirmwareUnpacker, README: a merged file holds one image for each control board, and its
        # web page or tool sends a machine only the part that is for it.
        found.append(
            "it is named as several images in one: tools of the maker cut it, a machine takes its own part"
        )
    numbers = _NUMBERS.findall(version)
    if " " not in version and numbers and numbers[0] not in file:
        found.append(f"{numbers[0]} of the version is not in its name")
    return tuple(found)
