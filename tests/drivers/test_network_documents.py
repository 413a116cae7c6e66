"""What is a family's own when it is told to stand elsewhere: documents, names, sessions and boots."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from control_plane.core.change import Applied, Failed, InProgress, RefusedByDevice
from control_plane.core.errors import UnexpectedReply
from control_plane.drivers import luxos_network, vnish_network
from control_plane.drivers.antminer_conf import Unwritable
from control_plane.drivers.antminer_network import document
from control_plane.drivers.luxos_power import Command
from control_plane.drivers.whatsminer_reads import network_arguments
from control_plane.simulator import antminer_dashboard
from control_plane.simulator.antminer_unit import Unit
from control_plane.simulator.faults import FaultKind
from control_plane.simulator.http_in import Request
from control_plane.simulator.vnish_web import WRITES, WebSession
from control_plane.simulator.wire import Reply
from tests.drivers.making import Bench
from tests.drivers.moving import BOOTING_VNISH, NEW, change, hit, on, settle, unit_of, where

# -- stock Antminer ---------------------------------------------------------------------------------------


def test_an_antminer_of_the_old_pages_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    today = antminer_dashboard.system_info

    def of_2017(unit: Unit) -> dict[str, Any]:
        return {key: value for key, value in today(unit).items() if key != "firmware_type"}

    monkeypatch.setattr(antminer_dashboard, "system_info", of_2017)

    async def play(bench: Bench) -> None:
        outcome = await change(bench)
        assert isinstance(outcome, Failed)
        assert not outcome.retryable
        assert "before 2020" in outcome.reason
        assert not bench.writes()

    on("antminer_stock", play)


TODAY = {"firmware_type": "Release"}


def test_the_document_of_an_antminer() -> None:
    assert document(TODAY, {"conf_hostname": "rig-7"}, NEW) == (
        b'{"ipHost":"rig-7","ipPro":2,"ipAddress":"10.99.0.7","ipSub":"255.255.255.0",'
        b'"ipGateway":"10.99.0.1","ipDns":"10.99.0.2"}'
    )
    with pytest.raises(Unwritable):
        document({"ant_hwv": "26.0.1.3"}, {"conf_hostname": "rig-7"}, NEW)


@pytest.mark.parametrize("told", [{}, {"conf_hostname": None}, {"conf_hostname": 7}])
def test_an_antminer_whose_name_is_not_known_gets_no_document(told: dict[str, Any]) -> None:
    with pytest.raises(UnexpectedReply):
        document(TODAY, told, NEW)


# -- WhatsMiner -------------------------------------------------------------------------------------------


def test_a_whatsminer_whose_write_interface_is_off_stays() -> None:
    async def play(bench: Bench) -> None:
        hit(bench, FaultKind.WRITES_OFF)
        outcome = await change(bench)
        assert isinstance(outcome, Failed)
        assert "switched off" in outcome.reason
        assert await where(bench) == [bench.target.address]

    on("whatsminer_v2", play)


def test_the_arguments_of_a_whatsminer() -> None:
    assert network_arguments({"hostname": ""}, NEW) == {
        "ip": "10.99.0.7",
        "mask": "255.255.255.0",
        "gate": "10.99.0.1",
        "dns": "10.99.0.2 10.99.0.3",
        "host": "",
    }
    with pytest.raises(UnexpectedReply):
        network_arguments({"hostname": None}, NEW)


# -- LuxOS ------------------------------------------------------------------------------------------------


def test_whoever_stands_at_the_old_address_by_then_is_not_logged_off() -> None:
    async def play(bench: Bench) -> None:
        assert isinstance(await change(bench), Applied)
        # Its name, a session, its identity, and the command.
        assert bench.line.connections == bench.line.requests == 4
        assert unit_of(bench).session_now()
        await asyncio.sleep(61.0)
        assert not unit_of(bench).session_now()

    on("luxos", play)


def test_a_session_that_was_refused_something_is_given_back() -> None:
    async def play(bench: Bench) -> None:
        odd = msgspec.structs.replace(NEW, gateway="none")
        assert isinstance(await change(bench, odd), RefusedByDevice)
        assert isinstance(await change(bench), Applied)

    on("luxos", play)


def test_a_session_of_somebody_else_is_waited_for() -> None:
    async def play(bench: Bench) -> None:
        assert unit_of(bench).logon()
        outcome = await change(bench)
        assert isinstance(outcome, Failed)
        assert outcome.retryable
        assert not bench.writes()

    on("luxos", play)


def test_the_command_of_a_luxos() -> None:
    values = (
        "dhcp=false",
        "ip=10.99.0.7",
        "mask=255.255.255.0",
        "gateway=10.99.0.1",
        "dns=10.99.0.2 10.99.0.3",
    )
    named = luxos_network.to_static(NEW, "rig-7")
    assert named == [Command("netset", (*values, "hostname=rig-7"))]
    assert luxos_network.to_static(NEW, "") == [Command("netset", values)]
    odd = luxos_network.to_static(NEW, "rig,dhcp=true")
    assert isinstance(odd, Failed)
    assert not odd.retryable


STATUS = b'"STATUS":[{"STATUS":"S","Code":33,"Msg":"","Description":"LUXminer 1"}]'


@pytest.mark.parametrize(
    "reply",
    [
        b"{" + STATUS + b"}",
        b'{"CONFIG":[],' + STATUS + b"}",
        b'{"CONFIG":[{}],' + STATUS + b"}",
        b'{"CONFIG":[{"Hostname":7}],' + STATUS + b"}",
        b'{"CONFIG":[{"Hostname":"rig-7"}],"STATUS":[{"STATUS":"S","Description":"other"}]}',
    ],
)
def test_a_luxos_whose_name_is_not_known_gets_no_command(reply: bytes) -> None:
    with pytest.raises(UnexpectedReply):
        luxos_network.read_hostname(reply, "config")


# -- VNish ------------------------------------------------------------------------------------------------


def test_a_vnish_that_lost_the_answer_waits_for_its_boot_and_is_told_again() -> None:
    async def play(bench: Bench) -> None:
        unit_of(bench).machine.loses_network_answer = True
        assert isinstance(await change(bench), InProgress)
        await settle(bench)
        assert await where(bench) == [bench.target.address]
        unit_of(bench).machine.loses_network_answer = False
        assert isinstance(await change(bench), InProgress)
        await settle(bench)
        assert await where(bench) == [NEW.address]

    on(BOOTING_VNISH, play)


def test_a_boot_that_is_not_permitted_any_more_leaves_it_half_done() -> None:
    async def play(bench: Bench) -> None:
        answers = iter([None, "it is held"])
        assert await change(bench, permit=lambda: next(answers)) == InProgress(10.0, "it is held")
        assert [write.kind for write in bench.writes()] == ["settings"]
        assert await where(bench) == [bench.target.address]

    on(BOOTING_VNISH, play)


def test_whoever_takes_its_place_before_the_boot_is_not_booted() -> None:
    async def count(bench: Bench) -> int:
        await change(bench)
        return bench.line.requests

    last = on(BOOTING_VNISH, count)

    async def play(bench: Bench) -> None:
        bench.line.happening = lambda: hit(bench, FaultKind.WRONG_IDENTITY)
        bench.line.before_request = last - 1
        outcome = await change(bench)
        assert isinstance(outcome, InProgress)
        assert "is pinned" in outcome.detail
        assert [write.kind for write in bench.writes()] == ["settings"]

    on(BOOTING_VNISH, play)


def test_a_boot_that_is_refused_is_told_with_what_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(web: WebSession, request: Request) -> tuple[Reply, ...]:
        return web.err(request, 400, "not now")

    monkeypatch.setitem(WRITES, "system/reboot", refuse)

    async def play(bench: Bench) -> None:
        outcome = await change(bench)
        assert outcome == InProgress(60.0, "it is stored, and waits for a boot: not now")
        assert await where(bench) == [bench.target.address]

    on(BOOTING_VNISH, play)


def test_the_document_of_a_vnish() -> None:
    assert vnish_network.with_static(NEW, "rig-7") == (
        b'{"network":{"hostname":"rig-7","dhcp":false,"ipaddress":"10.99.0.7",'
        b'"netmask":"255.255.255.0","gateway":"10.99.0.1","dnsservers":["10.99.0.2","10.99.0.3"]}}'
    )


@pytest.mark.parametrize(
    "told", [{}, {"network": []}, {"network": {}}, {"network": {"hostname": 7}}]
)
def test_a_vnish_whose_name_is_not_known_gets_no_document(told: dict[str, Any]) -> None:
    with pytest.raises(UnexpectedReply):
        vnish_network.read_hostname(told)
