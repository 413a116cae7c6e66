"""The form of a firmware Job, of the files beside it, and of their names. Pure.

The stack declares one for each wave; the controller makes one for what is swept up or taken back. Each object
is named by the hash of what it holds, so that nothing is ever changed in place.

Facts about Jobs (Kubernetes 1.36) that the form is made of:

* A suspended Job has no start time: its deadline runs from when it is un-suspended.
* One with a time to live vanishes, is missed by whoever declares it, is made again, and runs again.
* `podReplacementPolicy: Failed` starts no second pod for a shard while the first one still ends.
* With `backoffLimitPerIndex` each index has retries of its own, and `maxFailedIndexes` stops all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from control_plane.core import limits
from control_plane.core.digest import digest_of
from control_plane.core.firmware import Shard, ShardDevice, shard_file
from control_plane.core.fleet import Device

Manifest = dict[str, Any]

APP: Final = "gridplane-firmware"
"""Name of the pods' account, its role, their priority class, and the value of NAME_LABEL."""
NAME_LABEL: Final = "app.kubernetes.io/name"
SITE_LABEL: Final = "gridplane.dev/site"
BUNDLE_LABEL: Final = "gridplane.dev/bundle"
"""The first HASH_CHARS of the bundle's digest."""
WAVE_LABEL: Final = "gridplane.dev/wave"
"""Of what the stack declared for a wave, and of nothing else."""
ROLLOUT_LABEL: Final = "gridplane.dev/rollout"
"""Of what the controller made: the rollout that it is for."""
HASH_CHARS: Final = 10
WORK_VOLUME: Final = "work"
"""Of a pod: its bundle and its shards, from ConfigMaps."""
BUNDLE_FILE: Final = "bundle.json"
JOB_FILE: Final = "job.json"
"""Beside the bundle: the spec of a Job for other machines, to which shards are to be added."""


def as_json(value: object) -> str:
    """As a file of a ConfigMap; the same value has the same text."""
    return msgspec.json.encode(value, order="deterministic").decode()


def shard_files(devices: Sequence[Device]) -> dict[str, str]:
    """What each index of a Job works on: file → text."""
    size = limits.FIRMWARE_SHARD_DEVICES
    return {
        shard_file(index): as_json(Shard(devices=tuple(map(_shard_device, devices[begin:][:size]))))
        for index, begin in enumerate(range(0, len(devices), size))
    }


def _shard_device(device: Device) -> ShardDevice:
    return ShardDevice(
        asset=device.asset, address=device.address, mac=device.mac, serial=device.serial
    )


def parts(files: Mapping[str, str]) -> Iterator[dict[str, str]]:
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


def config_map(
    stem: str, namespace: str, labels: Mapping[str, str], data: dict[str, str]
) -> Manifest:
    """An immutable ConfigMap, named by what it holds."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(stem, namespace, labels, data),
        "immutable": True,
        "data": data,
    }


def job_of(
    stem: str, namespace: str, labels: Mapping[str, str], template: Manifest, *, indexes: int
) -> Manifest:
    """A suspended Job, named by what it is.

    Args:
        stem: its name begins so.
        namespace: where it goes.
        labels: of the Job.
        template: of its pods.
        indexes: how many of them.
    """
    spec = job_spec(template, indexes=indexes)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(stem, namespace, labels, spec),
        "spec": spec,
    }


def job_spec(template: Manifest, *, indexes: int) -> Manifest:
    """What a Job is, for that many pods."""
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


def reads_of(template: Mapping[str, Any]) -> tuple[str, ...]:
    """The ConfigMaps that a pod reads, as its template names them.

    Raises:
        LookupError: it is no template of ours.
    """
    volumes = template["spec"]["volumes"]
    work = next((each for each in volumes if each["name"] == WORK_VOLUME), None)
    if work is None:
        raise LookupError(WORK_VOLUME)
    return tuple(source["configMap"]["name"] for source in work["projected"]["sources"])


def reading(template: Mapping[str, Any], names: Iterable[str]) -> Manifest:
    """A template whose pods read these ConfigMaps."""
    spec = dict(template["spec"])
    spec["volumes"] = [
        {
            "name": WORK_VOLUME,
            "projected": {"sources": [{"configMap": {"name": name}} for name in names]},
        }
        if each["name"] == WORK_VOLUME
        else each
        for each in spec["volumes"]
    ]
    return {**template, "spec": spec}


def _metadata(stem: str, namespace: str, labels: Mapping[str, str], content: object) -> Manifest:
    return {
        "name": f"{stem}-{digest_of(labels, content)[:HASH_CHARS]}",
        "namespace": namespace,
        "labels": dict(labels),
    }
