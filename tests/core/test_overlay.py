"""Overlays lower, and nothing else; a hold covers what is below its node."""

from __future__ import annotations

import pytest

from control_plane.core.observation import Settings
from control_plane.core.overlay import Overlay, OverlayKind, hold_on, resolve
from tests.core.builders import NOW_S, device, intent


def overlay(kind: OverlayKind = OverlayKind.GUARD, **fields: object) -> Overlay:
    return Overlay(
        id="o1", kind=kind, node="d1", owner="guard", reason="cap", since_s=NOW_S,
        expires_s=NOW_S + 60, fields=Settings(**fields),  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "overlays", "mode"),
    [
        ("normal", [overlay(power_mode="low")], "low"),
        ("normal", [overlay(power_mode="high")], "normal"),
        ("low", [overlay(power_mode="normal")], "low"),
        (None, [overlay(power_mode="high")], None),
        (None, [overlay(power_mode="low")], "low"),
        ("high", [overlay(power_mode="low"), overlay(power_mode="normal")], "low"),
        ("normal", [overlay(power_mode="turbo")], "normal"),
    ],
)
def test_an_overlay_never_raises_a_mode(
    declared: str | None, overlays: list[Overlay], mode: str | None
) -> None:
    one = device(intent=intent(power_mode=declared))
    assert resolve(one, overlays, NOW_S).power_mode == mode


def test_an_overlay_never_raises_a_limit_and_never_starts() -> None:
    one = device(intent=intent(mining=False, power_limit_w=3_000))
    raised = resolve(one, [overlay(power_limit_w=4_000, mining=True)], NOW_S)
    assert (raised.power_limit_w, raised.mining) == (3_000, False)
    assert resolve(one, [overlay(power_limit_w=2_000)], NOW_S).power_limit_w == 2_000


@pytest.mark.parametrize(
    ("limit_w", "then_w"),
    [(3_300, None), (2_600, None), (2_000, 2_000), (None, None)],
)
def test_a_limit_of_the_mode_above_is_no_limit_of_the_mode_below(
    limit_w: int | None, then_w: int | None
) -> None:
    one = device(intent=intent(power_mode="normal", power_limit_w=limit_w))
    assert one.type.mode("low") is not None
    assert resolve(one, [overlay(power_mode="low")], NOW_S).power_limit_w == then_w


def test_an_overlay_ends_with_its_time_but_a_hold_does_not() -> None:
    one = device()
    assert resolve(one, [overlay(power_mode="low")], NOW_S + 61) == one.desired()
    held = overlay(OverlayKind.MAINTENANCE_HOLD)
    assert held.is_expired(NOW_S + 61)
    assert hold_on([held]) is held
