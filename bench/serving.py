"""Simulated machines to measure against, and what the clients that others wrote pay to read them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.figures import ROOT, run_python
from control_plane.drivers.net import NetworkMap
from control_plane.lab.api import ApiLab
from control_plane.lab.programs import find
from control_plane.simulator.control import SOCKET, ControlClient
from control_plane.simulator.serve import MAP

CLIENTS = ROOT / ".venv-clients" / "bin" / "python"
_START_S = 60.0
_LOOKS = 60
_PYASIC = """
import asyncio, sys, time, warnings
warnings.filterwarnings("ignore")
import pyasic
async def main():
    miner = await pyasic.get_miner(sys.argv[1])
    await miner.get_data()
    began = time.process_time()
    for _ in range(int(sys.argv[2])):
        await miner.get_data()
    print((time.process_time() - began) / int(sys.argv[2]))
asyncio.run(main())
"""
_PYASIC_RS = """
import asyncio, os, sys, time
from pyasic_rs import MinerFactory
async def main():
    miner = await MinerFactory().get_miner(sys.argv[1])
    await miner.get_data()
    began = time.process_time()
    for _ in range(int(sys.argv[2])):
        await miner.get_data()
    print((time.process_time() - began) / int(sys.argv[2]), flush=True)
    os._exit(0)
asyncio.run(main())
"""
PEERS = {"pyasic": _PYASIC, "pyasic-rs": _PYASIC_RS}


class Serving(NamedTuple):
    """A simulation that runs in a process of its own."""

    map_path: Path
    control: ControlClient
    pid: int

    def loopback(self, declared: str) -> str:
        """Where a declared address answers."""
        return NetworkMap.load(self.map_path).actual(declared, 4028)[0]


@contextlib.contextmanager
def serving(
    inventory: Path, site: str, how: Sequence[str] = ("--true-ports",)
) -> Iterator[Serving]:
    """Simulate a site as it is declared; by default on the devices' own ports: peers know no others."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as name:
        folder = Path(name)
        process = subprocess.Popen(
            [sys.executable, "-m", "control_plane.cli", "simulate", "serve", *how,
             "--inventory", str(inventory), "--site", site, "--simulation", str(folder)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until = time.monotonic() + _START_S
            while not (folder / MAP).exists():
                assert process.poll() is None and time.monotonic() < until, "no simulator"  # noqa: PT018
                time.sleep(0.05)
            yield Serving(folder / MAP, ControlClient(folder / SOCKET), process.pid)
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def api_server(*, namespace: str) -> Iterator[Path]:
    """A real API server that knows our kinds and a namespace; its kubeconfig."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as name:
        lab = ApiLab(Path(name) / "api")
        try:
            lab.up()
            for arguments in (
                ["apply", "--server-side", "-f", str(ROOT / "manifests" / "crds")],
                ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"],
                ["create", "namespace", namespace],
            ):
                kubectl = [str(find("kubectl")), f"--kubeconfig={lab.kubeconfig}"]
                subprocess.run([*kubectl, *arguments], check=True, stdout=subprocess.DEVNULL)
            yield lab.kubeconfig
        finally:
            lab.down()


def peer_us(peer: str, address: str) -> float | None:
    """Microseconds of CPU per `get_data` of a peer; `None` where it is not installed or fails."""
    if not CLIENTS.exists():
        return None
    try:
        said = run_python(["-c", PEERS[peer], address, str(_LOOKS)], python=str(CLIENTS)).stdout
        return float(said.split()[-1]) * 1e6
    except (subprocess.CalledProcessError, ValueError, IndexError):
        return None


def passwords() -> None:
    """Let the child processes know the simulated machines' factory passwords."""
    os.environ.setdefault("GRIDPLANE_ANTMINER_PASSWORD", "root")
    os.environ.setdefault("GRIDPLANE_WHATSMINER_PASSWORD", "admin")
    os.environ.setdefault("GRIDPLANE_VNISH_PASSWORD", "admin")
