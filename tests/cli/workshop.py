"""A small site, its simulated devices on loopback, and the command line beside them, in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from control_plane.cli.exits import Exit
from control_plane.core.verify import OPEN_STAGES
from control_plane.engine.audit import AuditFile
from control_plane.engine.store import Store
from control_plane.simulator.control import SOCKET, ControlClient
from tests.inventory.base import ANTMINER_S21

SITE = "mill"
FOREIGN = "stratum+tcp://pool.attacker.example:3333"
SCALE = 1800.0
"""Device and policy seconds per second: a soak takes a third of a second, a boot less."""
ONE_WAVE = ("1000",)
"""Each further wave costs three seconds of the wire: accepts, looks and the gate's own looks."""
TWO_WAVES = ("2",)
WAIT_S = 120.0
"""Wall seconds that anything may take before a test gives up."""
GRIDPLANE = (sys.executable, "-m", "control_plane.cli")

WRITE_OF: Mapping[str, str] = {
    # The device's own name of a write → the kind of change that sends it.
    "set_miner_conf": "set_pools",
    "update_pools": "set_pools",
    "adjust_power_limit": "set_power_limit",
    "power_on": "start_mining",
    "power_off": "stop_mining",
}
REBOOTS = frozenset({"reboot", "adjust_power_limit"})
"""Writes that reboot the device: none is ever sent twice for one intent."""

_FLEET = """\
api_version: gridplane.dev/v1alpha1
name: workshop
budgets: {{in_flight_per_rack: {in_flight}}}
rollout: {{cohorts: {cohorts}}}
"""
_OWNER = """\
name: House
pools:
  main: {{host: {pool}, port: 3333, worker: "house.{{asset}}"}}
  backup: {{host: backup.example.net, port: 3333, worker: "house.{{asset}}"}}
"""
_WHATSMINER = """\
kind: miner
make: MicroBT
model: WhatsMiner M60S
reported_models: [m60s, m60s_vk30]
families: [whatsminer_v2]
boards: 3
chips_per_board: 92
cooling: air
standby_w: 30
modes:
  - {name: low, hashrate_ths: 142, power_w: 2480}
  - {name: normal, hashrate_ths: 186, power_w: 3441}
nominal_mode: normal
source: data sheet
"""
_PROFILE = """\
kind: miner
firmware: {{family: {family}}}
pools: [main, backup]
mining: true
power_mode: normal
{limit}
credentials: {{user: {user}, secret_ref: "env:{secret}"}}
"""
_SITE = """\
name: The mill
tenure: {kind: owned}
location: {country: US, region: Georgia, place: Macon}
time_zone: America/New_York
networks:
  - {name: miners, cidr: 10.0.0.0/22, purpose: miners}
"""
_POWER = """\
nodes:
  - {id: grid, kind: utility, rating_kw: 1000, derate: 1.0}
  - {id: pdu-1, kind: pdu, parent: grid, rating_kw: 500}
  - {id: pdu-2, kind: pdu, parent: grid, rating_kw: 500}
"""
_RACK = """\
racks:
  - id: {rack}
    feed: {feed}
    slots: {slots}
    owner: house
    type: {type}
    profile: {profile}
    addressing: {{static_by_slot: {first}}}
    placement: by_slot
"""


class Running:
    """A verb that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """Everything on stdout and stderr so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def until_said(self, text: str, times: int = 1) -> None:
        wait_for(lambda: self.said.count(text) >= times or self.process.poll() is not None)
        assert text in self.said, f"never said '{text}': {self.said}"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel is done with it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)

    def end(self, code: int) -> str:
        """Wait until it ends by itself; what it said."""
        got = self.process.wait(WAIT_S)
        assert got == code, f"{got} instead of {code}: {self.said}"
        assert "Traceback" not in self.said, self.said
        return self.said


class Workshop:
    """An inventory, its simulated devices, and the verbs."""

    def __init__(self, folder: Path, site: str = SITE) -> None:
        self.folder = folder
        self.site = site
        self.state = folder / ".gridplane" / site
        self.simulation = folder / ".gridplane" / "sim" / site
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GRIDPLANE_")},
            "GRIDPLANE_ANTMINER_PASSWORD": "root",
            "GRIDPLANE_WHATSMINER_PASSWORD": "admin",
            "GRIDPLANE_SITE": site,
        }
        self._logs = 0

    # --- the declaration ---------------------------------------------------------------------------

    def reword(self, path: str, key: str, value: str) -> None:
        """Have a key of an inventory's file say something else, wherever it stands on a line."""
        file = self.folder / "inventory" / path
        lines = [
            f"{line[: line.index(key)]}{key} {value}" if line.strip().startswith(key) else line
            for line in file.read_text().splitlines()
        ]
        file.write_text("\n".join(lines) + "\n")

    def declare(
        self,
        *,
        antminers: int = 6,
        whatsminers: int = 6,
        pool: str = "pool.example.com",
        limit_w: int | None = 3300,
        cohorts: Sequence[str] = ONE_WAVE,
        in_flight: int = 8,
    ) -> None:
        """Write the inventory: a rack of each family, whatever was declared before."""
        limit = f"power_limit_w: {limit_w}" if limit_w is not None else ""
        files = {
            "fleet.yaml": _FLEET.format(cohorts=json.dumps(list(cohorts)), in_flight=in_flight),
            "owners/house.yaml": _OWNER.format(pool=pool),
            "device-types/antminer-s21.yaml": ANTMINER_S21,
            "device-types/whatsminer-m60s.yaml": _WHATSMINER,
            "profiles/antminer.yaml": _PROFILE.format(
                family="antminer_stock", limit="", user="root", secret="GRIDPLANE_ANTMINER_PASSWORD"
            ),
            "profiles/whatsminer.yaml": _PROFILE.format(
                family="whatsminer_v2",
                limit=limit,
                user="admin",
                secret="GRIDPLANE_WHATSMINER_PASSWORD",
            ),
            f"sites/{SITE}/site.yaml": _SITE,
            f"sites/{SITE}/power.yaml": _POWER,
            f"sites/{SITE}/racks/a01.yaml": _RACK.format(
                rack="a01", feed="pdu-1", slots=antminers, type="antminer-s21",
                profile="antminer", first="10.0.0.11",
            ),
            f"sites/{SITE}/racks/w01.yaml": _RACK.format(
                rack="w01", feed="pdu-2", slots=whatsminers, type="whatsminer-m60s",
                profile="whatsminer", first="10.0.1.11",
            ),
        }  # fmt: skip
        for name, text in files.items():
            path = self.folder / "inventory" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    # --- verbs ---------------------------------------------------------------------------------------

    def call(self, *arguments: str, **popen: Any) -> subprocess.CompletedProcess[str]:
        """A verb, to its end, whatever came of it."""
        done = subprocess.run(
            [*GRIDPLANE, *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=2 * WAIT_S,
            check=False,
            **popen,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def run(self, *arguments: str, code: int = Exit.OK) -> str:
        """What a verb prints that ends as it should."""
        done = self.call(*arguments)
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def refused(self, *arguments: str, code: int = Exit.REFUSED) -> str:
        """What a verb says that refuses."""
        done = self.call(*arguments)
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "-o", "json"))

    def start(self, *arguments: str, **popen: Any) -> Running:
        """A verb that goes on."""
        self._logs += 1
        log = self.folder / f"{arguments[0]}-{self._logs}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*GRIDPLANE, *arguments],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                **popen,
            )
        return Running(process, log)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """A verb that goes on until the block is left."""
        process = self.start(*arguments)
        try:
            yield process
        finally:
            process.kill()

    # --- devices -------------------------------------------------------------------------------------

    @contextmanager
    def devices(
        self, *, start: str = "converged", seed: int = 0, scale: float = SCALE
    ) -> Iterator[None]:
        """The declared devices, served until the block is left."""
        arguments = ("--start", start, "--seed", str(seed), "--time-scale", str(scale))
        with self.running("simulate", "serve", *arguments) as server:
            found = self.simulation / "network-map.json"
            wait_for(lambda: found.exists() or server.process.poll() is not None)
            assert found.exists(), server.said
            self.env["GRIDPLANE_NETWORK_MAP"] = str(found)
            yield

    def _ask(self, **request: Any) -> dict[str, Any]:
        return ControlClient(self.simulation / SOCKET).request(request)

    def truth(self) -> dict[str, Any]:
        """What every machine really is, by asset."""
        return {m["asset"]: m for m in self._ask(do="truth")["machines"]}

    def writes(self, *, since_device_s: float | None = None) -> list[dict[str, Any]]:
        """The writes that reached devices, oldest first."""
        found: list[dict[str, Any]] = self._ask(do="ledger", since_device_s=since_device_s)[
            "writes"
        ]
        return found

    def written(self) -> int:
        """How many writes reached devices."""
        return int(self._ask(do="status")["writes"])

    def device_s(self) -> float:
        """Now, by the clock of the devices."""
        return float(self._ask(do="status")["device_s"])

    def fault(self, kind: str, **details: Any) -> list[str]:
        """Let something go wrong; the assets that it hit."""
        hit: list[str] = self._ask(do="fault", kind=kind, **details)["assets"]
        return hit

    def pools(self, rack: str = "") -> set[str]:
        """The first pools of all machines, or of a rack's."""
        return {m["pools"][0][0] for a, m in self.truth().items() if a.startswith(rack)}

    def adopted(self) -> None:
        """Trust who answers, and bring the declaration in force."""
        self.run("trust", self.site, "--yes")
        self.run("apply", "--yes", "--interval", "1")

    # --- what has to hold whatever happened ------------------------------------------------------------

    def store(self) -> Store:
        return Store(self.state / "state.sqlite")

    def open_writes(self) -> list[str]:
        """Devices with a write whose end is not known."""
        with closing(self.store()) as store:
            return [operation.asset for operation in store.open_operations()]

    def intents(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """The intents of the audit file by asset and kind of change, oldest first."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for record in AuditFile(self.state / "audit.jsonl").records():
            if record["kind"] == "intent":
                found[record["asset"], record["change"]["type"]].append(dict(record))
        return found

    def assert_accounted(self) -> None:
        """Every write that reached a device was meant before it was sent, and sent once; all is recorded."""
        intents = self.intents()
        sent: Counter[tuple[str, str]] = Counter()
        for write in self.writes():
            key = (write["asset"], WRITE_OF[write["kind"]])
            sent[key] += 1
            meant = intents.get(key, [])
            assert len(meant) >= sent[key], f"nobody meant this write: {write}"
            at_s = meant[sent[key] - 1]["at_s"]
            assert at_s <= write["wall_s"] + _CLOCKS_S, f"sent before it was meant: {write}"
        records = list(AuditFile(self.state / "audit.jsonl").records())
        void = {record.get("operation") for record in records if record["kind"] == "void"}
        with closing(self.store()) as store:
            known = {operation.id: operation for operation in store.operations(limit=100_000)}
        for record in records:
            if record["kind"] == "intent" and record["operation"] not in void:
                stage = known[record["operation"]].stage
                assert stage not in OPEN_STAGES, f"{record} is still {stage}"
        self.assert_chain()

    def assert_chain(self) -> None:
        """The audit file is whole."""
        assert AuditFile(self.state / "audit.jsonl").verify()[1] is None

    def assert_at_rest(self) -> None:
        """Nothing is open and nothing is left to do, by a second plan from fresh looks."""
        assert self.open_writes() == []
        plan = self.json("plan")
        assert plan["steps"] == []
        assert plan["converged"] == plan["managed"], plan["held"]


_CLOCKS_S = 0.1 * SCALE
"""Device time and policy time are read from two clocks of one host."""


def wait_for(condition: Callable[[], object], *, timeout_s: float = WAIT_S) -> None:
    """Poll a condition; the test fails where it does not come true."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)
