"""A name that covers nothing is refused: a hold on it would protect nobody."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.cli.exits import Stop
from control_plane.cli.nodes import check_node, names_below
from control_plane.core.fleet import Host
from tests.core.builders import HERE, device, site

HOST = Host(
    name="mgmt1",
    role="management",
    address="10.0.9.1",
    feed="pdu",
    power_w=200.0,
    bmc=None,
    host_key=None,
    where=HERE,
)
SITE = msgspec.structs.replace(site((device(),)), hosts=(HOST,))


@pytest.mark.parametrize("name", ["d1", "r1", "pdu", "t"])
def test_devices_racks_feed_nodes_and_the_site_are_nodes(name: str) -> None:
    check_node(SITE, name)


def test_a_host_is_none_and_is_told_so() -> None:
    with pytest.raises(Stop, match=r"mgmt1 is a host.*covers no device"):
        check_node(SITE, "mgmt1")


def test_a_typing_error_is_met_with_the_nearest_names() -> None:
    with pytest.raises(Stop, match="Did you mean pdu"):
        check_node(SITE, "pud")


def test_below_a_node_are_its_devices_and_the_nodes_between() -> None:
    one, other = device("d1", rack="r1"), device("d2", rack="r2", feed="pdu2")
    both = site((one, other))
    assert names_below(both, "d1") == {"d1"}
    assert names_below(both, "r1") == {"d1", "r1"}
    assert names_below(both, "pdu") == {"d1", "r1", "pdu"}
    assert names_below(both, "pad") == {"d1", "r1", "pdu", "d2", "r2", "pdu2", "pad"}
    assert names_below(both, "t") >= {"d1", "r2", "grid", "t"}
