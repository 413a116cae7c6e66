"""The Jobs that install firmware: those that a stack declared for a wave, and those that are made here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from control_plane.core.cluster import Cluster, Exists, Kind, Object
from control_plane.core.digest import digest_of
from control_plane.core.firmware import About, Shard
from control_plane.core.firmware_job import (
    APP,
    BUNDLE_FILE,
    BUNDLE_LABEL,
    HASH_CHARS,
    JOB_FILE,
    NAME_LABEL,
    ROLLOUT_LABEL,
    SITE_LABEL,
    WAVE_LABEL,
    config_map,
    job_of,
    parts,
    reading,
    reads_of,
    shard_files,
)
from control_plane.core.flashing import Purpose
from control_plane.engine.granting import NotGranted, Work
from control_plane.kube.kinds import CONFIG_MAP, JOB
from control_plane.kube.listing import get_or_none, list_all

MANAGER: Final = "gridplane-waves"
"""Who owns the suspension of a Job, from when its wave was opened."""
_ENDS: Final = frozenset({"Complete", "Failed"})
_ENDING: Final = frozenset({"SuccessCriteriaMet", "FailureTarget"})
_SHORT: Final = {Purpose.WAVE: "w", Purpose.SWEEP_UP: "s", Purpose.ROLL_BACK: "r"}


class _Condition(msgspec.Struct):
    type: str
    status: str


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Spec(msgspec.Struct):
    suspend: bool = False
    template: dict[str, Any] = {}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A Job, and which index of it works on whom."""

    name: str
    indexes: Mapping[str, int]
    """Asset → index."""


def is_over(job: Object) -> bool:
    """Whether no pod of a Job will do anything any more."""
    return bool(_conditions(job) & _ENDS)


def is_ending(job: Object) -> bool:
    """Whether a Job begins no pod any more; some may still end."""
    return bool(_conditions(job) & (_ENDS | _ENDING))


def is_suspended(job: Object) -> bool:
    """Whether its pods wait."""
    return msgspec.json.decode(job.spec, type=_Spec).suspend


def _conditions(job: Object) -> set[str]:
    status = msgspec.json.decode(job.status, type=_Status | None)
    found = (status.conditions if status else None) or ()
    return {each.type for each in found if each.status == "True"}


async def suspend(cluster: Cluster, name: str, *, namespace: str, whether: bool) -> None:
    """Open a Job, or give its suspension back once it has ended.

    Raises:
        ClusterError: the API server did not do it, or perhaps did.
    """
    body = {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"suspend": whether},
    }
    await cluster.apply(JOB, body, manager=MANAGER)


class Jobs:
    """Looks for Jobs, and makes them."""

    def __init__(self, cluster: Cluster, *, namespace: str) -> None:
        """Nothing is asked before a method is."""
        self._cluster, self._namespace = cluster, namespace

    async def job_for(self, work: Work) -> Job:
        """The suspended Job that is to do some work: the declared one where it can, else one of its own.

        Raises:
            NotGranted: there is none, and none can be made; who declares the fleet acts.
            ClusterError: the API server did not answer.
        """
        if work.purpose is Purpose.WAVE:
            declared = await self._declared(work)
            if declared is not None:
                return declared
        return await self._made(work)

    # --- declared ------------------------------------------------------------------------------------

    async def _declared(self, work: Work) -> Job | None:
        """The one of the stack; `None` where it has run already.

        Raises:
            NotGranted: it is not there, or somebody else has opened it.
        """
        members = {device.asset for device in work.members}
        seen = 0
        for each in await self._list(JOB, work):
            if each.metadata.labels.get(WAVE_LABEL) != str(work.wave):
                continue
            seen += 1
            job = await self._read(each, work)
            if job.indexes.keys() != members:
                continue
            if is_ending(each):
                return None
            if not is_suspended(each):
                raise NotGranted(
                    f"Job {job.name} was opened by somebody else: it ends without doing anything, "
                    "and what is left is swept up"
                )
            return job
        what = f"wave {work.wave + 1} of {work.bundle.version} for {work.bundle.model}"
        if seen:
            raise NotGranted(
                f"no Job of {what} has these machines: run `pulumi up` of {work.site}.fleet"
            )
        raise NotGranted(f"there is no Job of {what}: run `pulumi up` of {work.site}.fleet")

    async def _list(self, kind: Kind, work: Work) -> list[Object]:
        """What there is of the bundle."""
        selector = ",".join(f"{label}={value}" for label, value in _labels(work).items())
        return await list_all(self._cluster, kind, namespace=self._namespace, selector=selector)

    async def _read(self, job: Object, work: Work) -> Job:
        """Which index works on whom, as its pods will read it.

        Raises:
            NotGranted: what they are to read is not there, or not what it should be.
        """
        name = job.metadata.name
        spec = msgspec.json.decode(job.spec, type=_Spec)
        try:
            reads = reads_of(spec.template)
        except (LookupError, TypeError) as error:
            raise NotGranted(f"Job {name} is none of ours: it reads no ConfigMaps") from error
        files: dict[str, str] = {}
        for part in await asyncio.gather(*(self._files(each, name, work.site) for each in reads)):
            files |= part
        try:
            about = msgspec.json.decode(files.pop(BUNDLE_FILE), type=About)
            shards = {
                int(file.removeprefix("shard-").removesuffix(".json")): msgspec.json.decode(
                    text, type=Shard
                )
                for file, text in files.items()
                if file.startswith("shard-")
            }
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            raise NotGranted(f"what Job {name} reads is damaged: {error}") from error
        if about.digest != work.bundle.digest:
            raise NotGranted(f"Job {name} is about bundle {about.digest[:HASH_CHARS]}")
        return Job(
            name=name,
            indexes={d.asset: index for index, shard in shards.items() for d in shard.devices},
        )

    async def _files(self, name: str, job: str, site: str) -> dict[str, str]:
        found = await get_or_none(self._cluster, CONFIG_MAP, name, namespace=self._namespace)
        if found is None:
            raise NotGranted(
                f"ConfigMap {name}, which Job {job} reads, is gone: run `pulumi up --refresh` of "
                f"{site}.fleet"
            )
        return msgspec.json.decode(found.data, type=dict[str, str])

    # --- made here -----------------------------------------------------------------------------------

    async def _made(self, work: Work) -> Job:
        """One of its own for the machines that are granted.

        Raises:
            NotGranted: nobody declared what it is made from.
        """
        about, template = await self._template(work)
        granted = tuple(d for d in work.members if d.asset in work.granted)
        labels = {**_labels(work), ROLLOUT_LABEL: work.rollout}
        stem = f"fw-{work.rollout}-{_SHORT[work.purpose]}{work.wave}-{work.round}"
        files = shard_files(granted)
        maps = [config_map(stem, self._namespace, labels, part) for part in parts(files)]
        names = [about, *(each["metadata"]["name"] for each in maps)]
        job = job_of(
            f"{stem}-{digest_of(work.site)[:4]}",
            self._namespace,
            labels,
            reading(template, names),
            indexes=len(files),
        )
        for kind, body in (*((CONFIG_MAP, each) for each in maps), (JOB, job)):
            try:
                await self._cluster.create(kind, body)
            except Exists:
                continue  # Named by what it holds: a leader before made the very same.
        name = job["metadata"]["name"]
        return Job(
            name=name,
            indexes={
                device.asset: index
                for index, text in enumerate(files.values())
                for device in msgspec.json.decode(text, type=Shard).devices
            },
        )

    async def _template(self, work: Work) -> tuple[str, dict[str, Any]]:
        """The ConfigMap of the bundle, and the pods of a Job for it.

        Raises:
            NotGranted: no stack declared it here.
        """
        found = await self._list(CONFIG_MAP, work)
        # The newest: another image of ours makes another one beside the old.
        for each in sorted(found, key=lambda o: o.metadata.creation_timestamp, reverse=True):
            data = msgspec.json.decode(each.data, type=dict[str, str])
            if JOB_FILE in data:
                return each.metadata.name, _template_in(data[JOB_FILE])
        raise NotGranted(
            f"nothing here says how {work.bundle.version} for {work.bundle.model} is installed: run "
            f"`pulumi up` of {work.site}.fleet with a revision that declares it"
        )


def _labels(work: Work) -> dict[str, str]:
    """Of everything that is there for its bundle."""
    return {
        NAME_LABEL: APP,
        SITE_LABEL: work.site,
        BUNDLE_LABEL: work.bundle.digest[:HASH_CHARS],
    }


def _template_in(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=_Spec).template
    except msgspec.MsgspecError as error:
        raise NotGranted(f"{JOB_FILE} is damaged: {error}") from error
