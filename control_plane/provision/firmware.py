"""One firmware bundle as objects: what it is, which machines are in which wave, and a Job for each wave.

A Job says what may be done, never when: it is made suspended, and who un-suspends it owns that field from
then on. Each object is named by the hash of what it holds, so that nothing is ever changed in place: another
membership, image or version makes another one beside the old.

The form of a Job is in `core.firmware_job`: what the controller makes itself has it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from control_plane.core.firmware import About, Bundle, Wave
from control_plane.core.firmware_job import (
    APP,
    BUNDLE_FILE,
    BUNDLE_LABEL,
    HASH_CHARS,
    JOB_FILE,
    NAME_LABEL,
    SITE_LABEL,
    WAVE_LABEL,
    as_json,
    config_map,
    job_of,
    job_spec,
    parts,
    shard_files,
)
from control_plane.provision.manifests import Manifest
from control_plane.provision.runner import pod_template

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
    bundle: Bundle,
    waves: Iterable[Wave],
    *,
    site: str,
    namespace: str,
    image: str,
    store: str,
    pace: str | None,
) -> FirmwareBundle:
    """The objects of a bundle.

    Args:
        bundle: what is written.
        waves: its own, in order.
        site: whose machines.
        namespace: where they go.
        image: what the Jobs run.
        store: where they find the firmware's images.
        pace: ConfigMap with the network map of simulated devices.
    """
    labels = {
        NAME_LABEL: APP,
        SITE_LABEL: site,
        BUNDLE_LABEL: bundle.digest[:HASH_CHARS],
    }
    slug = _slug(bundle.model)
    stem = f"fw-{slug}"
    about = config_map(
        stem, namespace, labels,
        {
            BUNDLE_FILE: as_json(About(digest=bundle.digest, bundle=bundle)),
            JOB_FILE: as_json(
                job_spec(pod_template(bundle, image, labels, (), store=store, pace=pace), indexes=1)
            ),
        },
    )  # fmt: skip
    name = f"{slug}-{_slug(bundle.version)}-{bundle.digest[:HASH_CHARS]}"
    made = []
    for wave in waves:
        of_wave = {**labels, WAVE_LABEL: str(wave.number)}
        files = shard_files(wave.devices)
        shards = tuple(
            config_map(f"{stem}-w{wave.number}", namespace, of_wave, part) for part in parts(files)
        )
        reads = [thing["metadata"]["name"] for thing in (about, *shards)]
        template = pod_template(bundle, image, of_wave, reads, store=store, pace=pace)
        job = job_of(f"{stem}-w{wave.number}", namespace, of_wave, template, indexes=len(files))
        made.append(FirmwareWave(shards=shards, job=job))
    return FirmwareBundle(name=name, about=about, waves=tuple(made))


def _slug(text: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words[:_SLUG_CHARS].strip("-") or "any"
