"""Whoever runs Jobs in a cluster, in virtual time: its pods are the runner that a real one starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from control_plane.core.cluster import ClusterError, NotFound, Object
from control_plane.core.firmware import About, Shard, shard_file
from control_plane.core.firmware_job import BUNDLE_FILE, reads_of
from control_plane.core.ports import Clock, Driver, Secrets
from control_plane.engine.flash import Flasher
from control_plane.engine.images import ImageFolder
from control_plane.kube.firmware_jobs import is_over, is_suspended
from control_plane.kube.firmware_runner import Index, run_index
from control_plane.kube.grants import operation_of
from control_plane.kube.kinds import CONFIG_MAP, JOB
from control_plane.kube.listing import list_all
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer

LOOK_S = 0.5


class Pods:
    """A Job controller and a kubelet: an index of an open Job has a pod, and another where that failed."""

    def __init__(
        self,
        server: ApiServer,
        *,
        namespace: str,
        clock: Clock,
        drivers: Callable[[], dict[str, Driver]],
        secrets: Secrets,
        images: Path,
    ) -> None:
        self.line = ApiClient(server, clock, manager="kubelet")
        """Of the Job controller and of all pods."""
        self.said: list[dict[str, Any]] = []
        self.begun: list[str] = []
        """Names of Jobs, as their pods began."""
        self.is_paused = False
        """Whether no pod begins: no host has room."""
        self._namespace, self._clock = namespace, clock
        self._drivers, self._secrets, self._images = drivers, secrets, images
        self._running: dict[str, asyncio.Task[None]] = {}
        self._flashers: dict[str, list[Flasher]] = {}

    async def run(self) -> None:
        """Look for Jobs, for ever."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    jobs = await list_all(self.line, JOB, namespace=self._namespace)
                except ClusterError:
                    continue
                self._look({job.metadata.name: job for job in jobs})
        finally:
            for task in self._running.values():
                task.cancel()

    def _look(self, jobs: dict[str, Object]) -> None:
        for name, job in jobs.items():
            waits = self.is_paused or is_suspended(job) or is_over(job)
            if name not in self._running and not waits:
                self.begun.append(name)
                self._running[name] = asyncio.ensure_future(self._job(name, job))
        for name in self._running.keys() - jobs.keys():
            # The pods of a Job that is gone are told to end, and have their grace.
            for flasher in self._flashers.get(name, ()):
                flasher.stop()

    async def _job(self, name: str, job: Object) -> None:
        spec = msgspec.json.decode(job.spec)
        ended = [await self._index(name, spec, index) for index in range(spec["completions"])]
        body = {
            "apiVersion": JOB.api_version, "kind": JOB.kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "status": {
                "conditions": [{"type": "Complete" if all(ended) else "Failed", "status": "True"}]
            },
        }  # fmt: skip
        while True:
            try:
                await self.line.apply(JOB, body, manager="kubelet", subresource="status")
            except NotFound:
                return
            except ClusterError:
                await asyncio.sleep(LOOK_S)
            else:
                return

    async def _index(self, name: str, spec: dict[str, Any], number: int) -> bool:
        for _ in range(1 + spec["backoffLimitPerIndex"]):
            if await self._pod(name, spec, number):
                return True
        return False

    async def _pod(self, name: str, spec: dict[str, Any], number: int) -> bool:
        files: dict[str, str] = {}
        for each in reads_of(spec["template"]):
            found = await self.line.get(CONFIG_MAP, each, namespace=self._namespace)
            files |= msgspec.json.decode(found.data)
        index = Index(
            operation=operation_of(name, number),
            namespace=self._namespace,
            about=msgspec.json.decode(files[BUNDLE_FILE], type=About),
            shard=msgspec.json.decode(files[shard_file(number)], type=Shard),
        )
        try:
            return await run_index(
                index,
                self.line,
                clock=self._clock,
                drivers=self._drivers(),
                images=ImageFolder(self._images),
                secrets=self._secrets,
                tell=self._tell,
                began=self._flashers.setdefault(name, []).append,
            )
        except ClusterError:
            return False

    def _tell(self, line: object) -> None:
        self.said.append(msgspec.to_builtins(line))
