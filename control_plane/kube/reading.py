"""A copy of the Store that a controller works on.

From the pod that leads, through the API server; or from the process itself, which answers when that is away.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
import msgspec

from control_plane.api.objects import SiteStatus
from control_plane.core.cluster import (
    ClusterAway,
    ClusterError,
    NotFound,
    Object,
    Rejected,
    Unauthorized,
)
from control_plane.core.errors import ControlPlaneError
from control_plane.kube.client import Client
from control_plane.kube.kinds import SITE
from control_plane.kube.lease import LEASE, lease_name, spec_of
from control_plane.kube.serving import LEADS_HEADER, SITE_HEADER

_DEADLINE_S = 120.0
"""Wire seconds for a whole copy: the process makes it first."""
_CONNECT_S = 5.0
_WORDS_MAX = 300
"""Characters that are shown of what somebody said instead of a copy."""
_PORT = 8080


class NotRead(ControlPlaneError):
    """There is no copy to be had now. The operator does what the sentence says."""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a site."""

    site: str
    leads: bool
    """Whether who gave it leads the site; what another one has may be old."""
    of: str
    """Who gave it, for people."""
    store: bytes
    """An SQLite file, gzipped."""


async def from_process(url: str) -> Copy:
    """From the process that listens at a URL, as `--listen` of `gridplane controller` has it.

    Raises:
        NotRead: it is no such process, does not answer or has nothing.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotRead(f"{url!r} is no URL of a controller, such as http://10.128.0.7:{_PORT}")
    timeout = aiohttp.ClientTimeout(total=_DEADLINE_S, sock_connect=_CONNECT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(f"{url.rstrip('/')}/store", allow_redirects=False) as answer,
        ):
            said, status, headers = await answer.read(), answer.status, answer.headers
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        words = str(error) or "no answer in time"
        raise NotRead(
            f"no controller answers at {url}: {words}. It listens where its --listen says; a pod's own "
            "address is in `crictl inspectp` on its host"
        ) from error
    if status != HTTPStatus.OK:
        raise NotRead(f"{url} has no copy: {status} {_words(said)}")
    return _copy(said, headers, url)


async def from_leader(client: Client, namespace: str, site: str | None) -> Copy:
    """From the leader's pod, through the API server.

    Args:
        client: the API server.
        namespace: of the site.
        site: its id; may be left out where the namespace has only one.

    Raises:
        NotRead: with the cause, and with what the cluster itself knows of the site.
    """
    try:
        name = site or await _only_site(client, namespace)
    except ClusterError as error:
        raise _no_server(error, namespace) from error
    try:
        lease = await client.get(LEASE, lease_name(name), namespace=namespace)
    except NotFound:
        why = f"no controller of {name} ever led in namespace {namespace}"
        raise await _nobody(client, namespace, name, why) from None
    except ClusterError as error:
        raise _no_server(error, namespace) from error
    spec = spec_of(lease)
    # An identity is the host name of the pod, and something of the very process.
    pod = (spec.holder_identity or "").rpartition("-")[0]
    if not pod:
        raise await _nobody(client, namespace, name, f"nobody leads {name} at this moment")
    try:
        said, headers = await client.of_pod(namespace, pod, "/store")
    except ClusterError as error:
        why = f"the leader of {name}, {pod}, gives no copy: {error}"
        if spec.renew_time:
            why += f"; it was last heard at {spec.renew_time}"
        if isinstance(error, Rejected):
            why += ". Who reads needs the role gridplane-reader (manifests/controller/rbac.yaml)"
        raise await _nobody(client, namespace, name, why) from error
    return _copy(said, headers, pod)


async def _only_site(client: Client, namespace: str) -> str:
    page = await client.list_page(SITE, namespace=namespace)
    names = sorted(each.metadata.name for each in page.items)
    if len(names) == 1:
        return names[0]
    raise NotRead(
        f"say which site: --site NAME (namespace {namespace} has: {', '.join(names) or 'none'})"
    )


async def _nobody(client: Client, namespace: str, site: str, why: str) -> NotRead:
    """Why there is no copy, with what the cluster knows."""
    try:
        about = await client.get(SITE, site, namespace=namespace)
    except NotFound:
        return NotRead(f"{why}. There is no Site {site} in namespace {namespace} either")
    except ClusterError as error:
        return NotRead(f"{why}. Its Site cannot be read either: {error}")
    return NotRead(
        f"{why}. As its Site was left: {_left(about)}. Look at the pods: kubectl -n {namespace} get pods "
        "-l app.kubernetes.io/name=gridplane-controller"
    )


def _left(about: Object) -> str:
    """What `Site.status` says, in one sentence."""
    status = msgspec.json.decode(about.status, type=SiteStatus | None)
    if status is None:
        return "no status yet"
    words = [f"{status.progress} as declared" if status.progress else "nothing counted yet"]
    if status.accepted_revision:
        words.append(f"revision {status.accepted_revision[:12]}")
    for one in status.conditions:
        said = f" ({one.message})" if one.message else ""
        since = one.last_transition_time.strftime("%Y-%m-%dT%H:%M:%SZ")
        words.append(f"{one.type} {one.status} {one.reason}{said} since {since}")
    if status.holds or status.incidents:
        words.append(f"{status.holds} holds, {status.incidents} incidents")
    return "; ".join(words)


def _no_server(error: ClusterError, namespace: str) -> NotRead:
    if isinstance(error, ClusterAway):
        return NotRead(
            f"the API server does not answer: {error}. Ask the process itself, on its host: "
            f"--server http://ADDRESS:{_PORT}"
        )
    if isinstance(error, Unauthorized):
        return NotRead(f"the API server does not know you: {error}")
    return NotRead(f"the API server refuses: {error} (namespace {namespace}: --namespace)")


def _copy(said: bytes, headers: Mapping[str, str], of: str) -> Copy:
    site = headers.get(SITE_HEADER)
    if site is None:
        raise NotRead(f"{of} is no gridplane controller: it says {_words(said)}")
    return Copy(site=site, leads=headers.get(LEADS_HEADER) == "true", of=of, store=said)


def _words(said: bytes) -> str:
    return " ".join(said[:_WORDS_MAX].decode(errors="replace").split())
