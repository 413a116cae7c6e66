"""One firmware bundle as objects: what it is, which machines are in which wave, and a Job for each wave.

A Job says what may be done, never when: it is made suspended, and who un-suspends it owns that field from
then on. Each object is named by the hash of what it holds, so that nothing is ever changed in place: another
membership, image or version makes another one beside the old.

Facts about Jobs (Kubernetes 1.36) that the form below is made of:

* A suspended Job has no start time: its deadline runs from when it is un-suspended.
* One with a time to live vanishes, is missed by whoever declares it, is made again, and runs again.
* `podReplacementPolicy: Failed` starts no second pod for a shard while the first one still ends.
* With `backoffLimitPerIndex` each index has retries of its own, and `maxFailedIndexes` stops all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import msgspec

from control_plane.core import limits
from control_plane.core.digest import digest_of
from control_plane.core.firmware import About, Bundle, Shard, ShardDevice, Wave, shard_file
from control_plane.core.fleet import Device
from control_plane.provision.manifests import Manifest
from control_plane.provision.runner import APP, pod_template

_HASH_CHARS = 10
_SLUG_CHARS = 24
"""A Job's name and the number of an index are a pod's host name together: 63 characters at most."""


class FirmwareWave(msgspec.Struct, frozen=True, kw_only=True):
    """A Job and what it reads."""

    shards: tuple[Manifest, ...]
    """ConfigMaps."""
    job: Manifest


class FirmwareBundle(msgspec.Struct, frozen=True, kw_only=True):
    """One bundle with its waves."""

    name: str
    """From the bundle alone: it is the same whatever profiles, types and racks are called."""
    about: Manifest
    """A ConfigMap; `job.json` in it is what a Job for other machines is made from."""
    waves: tuple[FirmwareWave, ...]

    @property
    def objects(self) -> tuple[Manifest, ...]:
        """All of it, a Job after what it reads."""
        return (self.about, *(thing for wave in self.waves for thing in (*wave.shards, wave.job)))


def firmware_bundle(
    bundle: Bundle, waves: Iterable[Wave], *, site: str, namespace: str, image: str, store: str
) -> FirmwareBundle:
    """The objects of a bundle.

    Args:
        bundle: what is written.
        waves: its own, in order.
        site: whose machines.
        namespace: where they go.
        image: what the Jobs run.
        store: where they find the firmware's images.
    """
    labels = {
        "app.kubernetes.io/name": APP,
        "gridplane.dev/site": site,
        "gridplane.dev/bundle": bundle.digest[:_HASH_CHARS],
    }
    slug = _slug(bundle.model)
    stem = f"fw-{slug}"
    about = _config_map(
        stem, namespace, labels,
        {
            "bundle.json": _json(About(digest=bundle.digest, bundle=bundle)),
            "job.json": _json(_job_spec(pod_template(bundle, image, labels, (), store), indexes=1)),
        },
    )  # fmt: skip
    name = f"{slug}-{_slug(bundle.version)}-{bundle.digest[:_HASH_CHARS]}"
    made = []
    for wave in waves:
        of_wave = {**labels, "gridplane.dev/wave": str(wave.number)}
        files = _shard_files(wave.devices)
        shards = tuple(
            _config_map(f"{stem}-w{wave.number}", namespace, of_wave, part)
            for part in _parts(files)
        )
        reads = [thing["metadata"]["name"] for thing in (about, *shards)]
        template = pod_template(bundle, image, of_wave, reads, store)
        spec = _job_spec(template, indexes=len(files))
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": _metadata(f"{stem}-w{wave.number}", namespace, of_wave, spec),
            "spec": spec,
        }
        made.append(FirmwareWave(shards=shards, job=job))
    return FirmwareBundle(name=name, about=about, waves=tuple(made))


def _job_spec(template: Manifest, *, indexes: int) -> Manifest:
    rounds = math.ceil(indexes / limits.FIRMWARE_SHARDS_AT_ONCE)
    return {
        # First, and ours only while the Job is made: whoever opens the wave owns it from then on.
        "suspend": True,
        "completionMode": "Indexed",
        "completions": indexes,
        "parallelism": min(indexes, limits.FIRMWARE_SHARDS_AT_ONCE),
        "backoffLimitPerIndex": limits.FIRMWARE_RETRIES,
        "maxFailedIndexes": math.floor(indexes * limits.FIRMWARE_FAILED_SHARE),
        "activeDeadlineSeconds": rounds * limits.FIRMWARE_SHARD_S,
        "podReplacementPolicy": "Failed",
        # A drained host is no failure of the firmware: its pod is made anew, and goes on where it was.
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "Ignore",
                    "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                }
            ]
        },
        "template": template,
    }


def _shard_files(devices: tuple[Device, ...]) -> dict[str, str]:
    size = limits.FIRMWARE_SHARD_DEVICES
    return {
        shard_file(index): _json(Shard(devices=tuple(map(_shard_device, devices[begin:][:size]))))
        for index, begin in enumerate(range(0, len(devices), size))
    }


def _shard_device(device: Device) -> ShardDevice:
    return ShardDevice(
        asset=device.asset, address=device.address, mac=device.mac, serial=device.serial
    )


def _parts(files: Mapping[str, str]) -> Iterable[dict[str, str]]:
    """The files, as few ConfigMaps at a time as hold them."""
    part: dict[str, str] = {}
    size = 0
    for name, text in files.items():
        if part and size + len(text) > limits.SHARDS_MAX_BYTES:
            yield part
            part, size = {}, 0
        part[name] = text
        size += len(text)
    yield part


def _config_map(
    stem: str, namespace: str, labels: Mapping[str, str], data: dict[str, str]
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(stem, namespace, labels, data),
        "immutable": True,
        "data": data,
    }


def _metadata(stem: str, namespace: str, labels: Mapping[str, str], content: object) -> Manifest:
    return {
        "name": f"{stem}-{digest_of(labels, content)[:_HASH_CHARS]}",
        "namespace": namespace,
        "labels": dict(labels),
    }


def _slug(text: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words[:_SLUG_CHARS].strip("-") or "any"


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()
