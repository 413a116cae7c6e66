"""Two declarations compared, as text."""

from __future__ import annotations

from control_plane.core.against import compare
from control_plane.core.fleet import Device
from control_plane.views.comparison import render_comparison
from tests.core.builders import device, intent, site


def miners(count: int, mode: str = "normal") -> tuple[Device, ...]:
    return tuple(device(f"d{n:05}", slot=n, intent=intent(power_mode=mode)) for n in range(count))


def test_fourteen_thousand_equal_changes_are_one_line() -> None:
    text = render_comparison(
        compare(site(miners(14_000)), site(miners(14_000, "low"))), reference="main"
    )
    assert "  14,000  power_mode: normal -> low" in text
    assert len(text.splitlines()) <= 40
    assert "no device was asked" in text


def test_what_differs_per_device_is_counted() -> None:
    after = tuple(device(f"d{n:05}", slot=n, address=f"10.0.1.{n}") for n in range(50))
    text = render_comparison(compare(site(miners(50)), site(after)), reference="main")
    assert len(text.splitlines()) <= 40


def test_a_new_site_has_nothing_before() -> None:
    text = render_comparison(compare(None, site(miners(3))), reference="main")
    assert "Power       - -> 10.5 kW declared" in text
    assert "Devices     0 -> 3; 3 added, 0 removed" in text
