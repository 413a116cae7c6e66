"""Which image a machine may be given: tables."""

from __future__ import annotations

import pytest

from control_plane.core.catalogue import Facts, Image, Unfit, image_for, version_key

ZYNQ = Image(file="zynq.bmu", sha256="a" * 64, size_bytes=1, control_boards=("zynq7007",))
AML = Image(
    file="aml.bmu", sha256="b" * 64, size_bytes=1, control_boards=("amlctrl",),
    hardware_revisions=("2", "3"),
)  # fmt: skip
AML_1, AML_3 = (
    Facts(version="1", model="S21", control_board="AMLCtrl", hardware_revision=revision)
    for revision in ("1", "3")
)
ANY = Image(file="any.bin", sha256="c" * 64, size_bytes=1)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("20220912.13.REL", "20231103.18.REL"),
        ("20231103.9.REL", "20231103.18.REL"),
        ("Fri Aug 25 17:28:38 CST 2023", "Thu Jan  4 09:00:00 CST 2024"),
        ("Wed Dec 31 23:59:59 UTC 2025", "Thu Jan  1 00:00:00 UTC 2026"),
        ("1.2.6", "1.10.0"),
        ("2023.6", "2023.6.1"),
    ],
)
def test_versions_of_a_family_are_in_order(older: str, newer: str) -> None:
    one, other = version_key(older), version_key(newer)
    assert one is not None
    assert other is not None
    assert one < other


@pytest.mark.parametrize("version", ["", "unknown", "-"])
def test_a_version_without_numbers_has_no_order(version: str) -> None:
    assert version_key(version) is None


@pytest.mark.parametrize(
    ("images", "facts", "found"),
    [
        ((ZYNQ, AML), Facts(version="1", model="S21", control_board="Zynq7007"), ZYNQ),
        ((ZYNQ, AML), AML_3, AML),
        ((ANY,), Facts(version="1", model="s21"), ANY),
        ((ZYNQ, AML), AML_1, "no image"),
        # What a machine does not tell is not guessed.
        ((ZYNQ, AML), Facts(version="1", model="S21"), "no image"),
        ((ANY, ZYNQ), Facts(version="1", model="S21", control_board="Zynq7007"), "several images"),
        ((ANY,), Facts(version="1", model="S19"), "it says S19"),
        ((ANY,), Facts(version="1", model=None), "it says no model"),
    ],
)  # fmt: skip
def test_a_machine_is_given_the_one_image_that_fits(
    images: tuple[Image, ...], facts: Facts, found: Image | str
) -> None:
    told = image_for(images, facts, models=("s21",), min_from_version=None)
    if isinstance(found, str):
        assert isinstance(told, Unfit)
        assert told.reason.startswith(found)
    else:
        assert told == found


@pytest.mark.parametrize(
    ("runs", "fits"),
    [
        ("20230101.1", True),
        ("20221231.9", False),
        ("20230102", True),
        (None, False),
        ("beta", False),
    ],
)
def test_an_image_is_not_put_over_what_is_too_old(runs: str | None, fits: bool) -> None:
    facts = Facts(version=runs, model="S21")
    told = image_for((ANY,), facts, models=(), min_from_version="20230101.1")
    assert (told == ANY) is fits
