"""Documents → site: what a device is, where each field comes from, and what a digest depends on."""

from __future__ import annotations

import pytest

from control_plane.core.fleet import (
    Device,
    DeviceKind,
    FeedKind,
    GpuIntent,
    GpuModel,
    Site,
    SlotState,
)
from control_plane.core.gpu import GpuSettings
from control_plane.core.observation import PoolSetting
from control_plane.inventory.canonical import digest_of_site
from control_plane.inventory.load import load_files, slice_of
from tests.inventory.base import FILES, edited, files, loaded
from tests.inventory.cases import OWNER, PLACEMENT, POWER, PROFILE, RACKS, SITE, TYPE


def site(tree: dict[str, bytes] | None = None) -> Site:
    result = load_files(tree or files())
    assert result.fleet is not None, result.findings
    return result.fleet.sites["lab"]


def device(asset: str, tree: dict[str, bytes] | None = None) -> Device:
    return next(d for d in site(tree).devices if d.asset == asset)


def test_every_slot_is_a_device_sorted_by_asset() -> None:
    assets = [d.asset for d in site().devices]
    assert assets == sorted(assets)
    assert assets == [
        "g1-n1", "g1-n2", "m-0001", "m-0002", "m-0003", "m-0005", "m-0006", "m-0007",
        "r1-s4", "r3-s1", "r3-s2",
    ]  # fmt: skip


def test_a_recorded_device() -> None:
    one = device("m-0002")
    assert (one.rack, one.slot, one.feed, one.address) == ("r1", 2, "box-1-p1", "10.8.0.12")
    assert (one.mac, one.serial, one.bin_ths) == ("02:00:00:00:00:02", "SN2", 195.0)
    assert (one.state, one.missing_boards, one.ticket) == (SlotState.DEGRADED, 1, "T-1")
    assert str(one.where) == "inventory/sites/lab/placement/box-1.csv:3:1"


def test_pools_are_rendered_per_device_in_canonical_form() -> None:
    assert device("m-0002").desired().pools == (
        PoolSetting(url="stratum+tcp://pool.example.com:3333", worker="acme.m-0002"),
        PoolSetting(url="stratum+ssl://backup.example.net:443", worker="acme.r1-2"),
    )


def test_a_device_on_dhcp_has_a_network_and_no_address() -> None:
    one = device("m-0005")
    assert (one.address, one.subnet) == (None, "10.8.1.0/24")
    assert one.desired().addressing == "dhcp"


@pytest.mark.parametrize(
    ("previous", "address", "subnet"),
    [("dhcp: 10.7.0.0/24", None, "10.7.0.0/24"), ("static_by_slot: 10.7.0.1", "10.7.0.2", None)],
)
def test_a_device_that_moves_knows_where_it_may_be_and_what_it_is_told(
    previous: str, address: str | None, subnet: str | None
) -> None:
    given = "{static_by_slot: 10.8.0.11"
    tree = edited(RACKS, f"{given}}}", f"{given}, previous: {{{previous}}}}}")
    miners = b"purpose: miners}"
    tree[SITE] = tree[SITE].replace(miners, b"purpose: miners, gateway: 10.8.0.1}")
    one = device("m-0002", tree)
    moves = one.renumbering
    assert moves is not None
    assert (moves.address, moves.subnet, moves.to) == (address, subnet, "10.8.0.0/22")
    assert (one.address, one.searched) == ("10.8.0.12", subnet)
    told = moves.network
    assert (told.address, told.netmask) == ("10.8.0.12", "255.255.252.0")
    assert (told.gateway, told.dns) == ("10.8.0.1", ("10.8.0.1",))
    assert device("r3-s1", tree).renumbering is None
    assert digest_of_site(site(tree)) != digest_of_site(site())


def test_unrecorded_slots_and_gpu_nodes_are_named_by_their_place() -> None:
    assert device("r3-s2").address == "10.8.2.2"
    node = device("g1-n2")
    assert node.type.kind is DeviceKind.GPU_NODE
    assert node.address == "10.10.0.12"
    assert node.desired().pools is None
    assert node.bmc == "10.11.0.22"


def test_what_a_profile_says_of_gpus_is_their_nodes_intent() -> None:
    node = device("g1-n1")
    assert node.type.gpu == GpuModel(
        model="NVIDIA H100 80GB HBM3", memory_gib=80, min_limit_w=200, max_limit_w=700
    )
    assert node.intent.gpu == GpuIntent(
        settings=GpuSettings(power_limit_w=600, mig=False), mig="all-disabled"
    )
    assert device("m-0001").intent.gpu is None
    capped = edited("profiles/gpu.yaml", "power_limit_w: 600", "power_limit_w: 500")
    assert digest_of_site(site(capped)) != digest_of_site(site())


def test_remedies_of_a_profile_tell_until_it_says_that_they_act() -> None:
    def remedied(word: str) -> Site:
        return site(
            edited("profiles/gpu.yaml", "power_limit_w", f"remedies: {word}, power_limit_w")
        )

    acting = remedied("act")
    assert {d.asset for d in acting.devices if d.intent.gpu and d.intent.gpu.acts} == {
        "g1-n1", "g1-n2",
    }  # fmt: skip
    assert not any(d.intent.gpu.acts for d in site().devices if d.intent.gpu)
    assert digest_of_site(acting) != digest_of_site(site())
    assert digest_of_site(remedied("tell")) == digest_of_site(site()), "what was meant before"


def test_pdus_are_expanded_below_their_node() -> None:
    feeds = site().feeds
    assert [f for f in feeds if f.startswith("box-1-p")] == ["box-1-p1", "box-1-p2"]
    assert feeds["box-1-p2"].kind is FeedKind.PDU
    assert [n.id for n in site().path("box-1-p2")] == ["box-1-p2", "box-1", "pad-1", "grid"]
    assert feeds["box-1"].usable_w == pytest.approx(150_000 * 0.8 - 5_000)


def test_devices_of_a_rack_share_their_intent() -> None:
    assert device("m-0001").intent is not None
    one = site()
    intents = {id(d.intent) for d in one.devices if d.rack == "r1"}
    assert len(intents) == 1


def test_each_field_knows_the_line_that_set_it() -> None:
    tree = edited(
        RACKS, "    placement: by_slot",
        "    placement: by_slot\n    overrides: [{slots: '2', owner: acme}]",
    )  # fmt: skip
    plain, overridden = device("r3-s1", tree).intent.origins, device("r3-s2", tree).intent.origins
    assert str(plain["pools"]) == "inventory/profiles/standard.yaml:3:8"
    assert str(plain["owner"]) == "inventory/sites/lab/racks/box-1.yaml:19:12"
    assert str(overridden["owner"]) == "inventory/sites/lab/racks/box-1.yaml:24:37"
    assert "power_limit_w" not in plain


def test_an_override_changes_its_slots_alone() -> None:
    tree = edited(
        RACKS, "    placement: by_slot",
        "    placement: by_slot\n    overrides: [{slots: '2', profile: asleep}]",
    )  # fmt: skip
    asleep = FILES[PROFILE].replace("pools: [main, backup]\npower_mode: normal", "mining: false")
    tree["profiles/asleep.yaml"] = asleep.encode()
    assert device("r3-s1", tree).desired().mining is True
    assert device("r3-s2", tree).desired().mining is False


def digest(tree: dict[str, bytes]) -> str:
    result = load_files(tree)
    assert result.fleet is not None, result.findings
    return result.digests["lab"]


SAME_MEANING = {
    "comments and blank lines": edited(RACKS, "racks:\n", "# ours\n\nracks:\n"),
    "order of racks": files() | {RACKS: b"racks:\n" + b"".join(
        b"  - id: " + part.encode() for part in reversed(FILES[RACKS].split("  - id: ")[1:])
    )},
    "order of rows": files() | {PLACEMENT: "\n".join(
        [FILES[PLACEMENT].splitlines()[0], *reversed(FILES[PLACEMENT].splitlines()[1:]), ""]
    ).encode()},
    "another name of a file": {p.replace("box-1.yaml", "hall-9.yaml"): d for p, d in files().items()},
    "capitals in a host name": edited(OWNER, "pool.example.com", "Pool.Example.com"),
    "a profile that nobody uses": files() | {"profiles/more.yaml": FILES[PROFILE].encode()},
    "the wording of a source": edited(TYPE, "source: data sheet", "source: data sheet of 2026"),
    "a type that nobody uses": files() | {"device-types/more.yaml": FILES[TYPE].encode()},
}  # fmt: skip

OTHER_MEANING = {
    "a pool": edited(OWNER, "port: 3333", "port: 3334"),
    "a rating": edited(POWER, "rating_kw: 150", "rating_kw: 151"),
    "a state": edited(PLACEMENT, "degraded", "out_of_service"),
    "a mode": edited(PROFILE, "power_mode: normal", "power_mode: low"),
    "a ladder": edited(TYPE, "power_w: 2560", "power_w: 2570"),
}


@pytest.mark.parametrize("name", SAME_MEANING)
def test_equal_meaning_has_an_equal_digest(name: str) -> None:
    assert digest(SAME_MEANING[name]) == digest(files())


@pytest.mark.parametrize("name", OTHER_MEANING)
def test_other_meaning_has_another_digest(name: str) -> None:
    assert digest(OTHER_MEANING[name]) != digest(files())


def test_the_slice_of_a_site_is_enough_to_load_it_again() -> None:
    tree = files() | {"sites/other/readme.md": b"x", "sites/other/site.yaml": b"broken: ["}
    kept = slice_of(tree, "lab")
    assert not any(path.startswith("sites/other") for path in kept)
    again = load_files(kept, sites={"lab"})
    assert again.digests == loaded().digests
