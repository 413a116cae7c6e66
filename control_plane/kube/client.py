"""The port `Cluster` over HTTPS: the only module that knows the library `kubernetes`.

Of that library come credentials, TLS and connections (`kubernetes.aio`). What an API server says is decoded
here, and only what is used of it: `managedFields`, half of an object, never becomes a Python value.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.incluster_config import InClusterConfigLoader
from kubernetes.aio.config.kube_config import load_kube_config

from control_plane import __version__
from control_plane.core.cluster import (
    POD,
    Body,
    ClusterAway,
    Event,
    Kind,
    Object,
    Page,
    Unauthorized,
)
from control_plane.core.refusals import refusal

DEADLINE_S = 30.0
"""Wire seconds for a request with its answer, and for the beginning of a watch."""
CONNECT_S = 5.0
POD_S = 120.0
"""For what a pod answers, which may be large."""
REFRESH_S = 60.0
"""Credentials are read anew after this long, and after a 401: a projected token lives an hour."""
MAX_LINE = 8 * 2**20
"""Bytes of one event: etcd takes 1.5 MiB, JSON may write a byte as six."""
MAX_BODY = 256 * 2**20
"""Bytes of one answer."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MANAGER = "gridplane"
"""Who owns the fields of what is created or replaced."""

T = TypeVar("T")
Credentials = Callable[[Configuration], Awaitable[None]]
"""Where the server is and who we are, into a configuration; may be asked again."""


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[Object] | None = None


class _Told(msgspec.Struct):
    """One line of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


_list = msgspec.json.Decoder(_List)
_object = msgspec.json.Decoder(Object)
_told = msgspec.json.Decoder(_Told)


def _drop(response: aiohttp.ClientResponse) -> None:
    """End an answer that may not have been read to its end; its connection then goes at once."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def kubeconfig(path: Path, *, context: str | None = None) -> Credentials:
    """Credentials of a kubeconfig, of its current context where none is named."""

    async def load(configuration: Configuration) -> None:
        await load_kube_config(str(path), context, configuration, persist_config=False)

    return load


def namespace_in(path: Path, *, context: str | None = None) -> str:
    """The namespace that a kubeconfig means, in its current context where none is named."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = context or said["current-context"]
        found = next(one["context"] for one in said["contexts"] if one["name"] == name)
        return str(found.get("namespace") or "default")
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError, StopIteration):
        # What is wrong with it is said by who connects.
        return "default"


def in_cluster(
    folder: Path = SERVICE_ACCOUNT, environ: Mapping[str, str] = os.environ
) -> Credentials:
    """Credentials of the service account of the pod that this runs in."""

    async def load(configuration: Configuration) -> None:
        InClusterConfigLoader(
            str(folder / "token"), str(folder / "ca.crt"), try_refresh_token=False, environ=environ
        ).load_and_set(configuration)

    return load


@contextlib.asynccontextmanager
async def connect(
    credentials: Credentials, *, deadline_s: float = DEADLINE_S, refresh_s: float = REFRESH_S
) -> AsyncIterator[Client]:
    """A client for as long as the block runs.

    Raises:
        Unauthorized: the credentials cannot be read, or would not protect the connection.
    """
    configuration = Configuration()
    await _load(credentials, configuration)
    # The environment's proxies and .netrc are for browsers: a kubeconfig has a proxy of its own.
    configuration.client_session_kwargs = {"trust_env": False, "middlewares": (_once,)}
    rest = RESTClientObject(configuration)
    try:
        yield Client(rest, credentials, deadline_s=deadline_s, refresh_s=refresh_s)
    finally:
        await _close(rest)


async def _close(rest: RESTClientObject) -> None:
    """Close every connection now: a handshake that says goodbye would outlive the loop."""
    if rest.pool_manager is not None and rest.pool_manager.connector is not None:
        await rest.pool_manager.connector.close(abort_ssl=True)
    await rest.close()
    # What was aborted is closed in the loop's next turn.
    await asyncio.sleep(0)


async def _once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send once: all but POST and PATCH aiohttp sends again when the line breaks, known by these errors."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


class Client:
    """One API server; made by `connect`."""

    def __init__(
        self,
        rest: RESTClientObject,
        credentials: Credentials,
        *,
        deadline_s: float,
        refresh_s: float,
    ) -> None:
        self._rest = rest
        self._credentials = credentials
        self._deadline_s, self._refresh_s = deadline_s, refresh_s
        self._loop = asyncio.get_running_loop()
        self._loaded_s = self._loop.time()

    async def list_page(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        selector: str = "",
        fields: str = "",
        limit: int = 500,
        page: str = "",
    ) -> Page:
        """See `core.cluster.Cluster`."""
        query = {
            "limit": limit, "continue": page, "labelSelector": selector, "fieldSelector": fields,
        }  # fmt: skip
        said = _decoded(_list, await self._ask("GET", _path(kind, namespace), query))
        return Page(
            items=tuple(map(_own, said.items or ())),
            resource_version=said.metadata.resource_version,
            next=said.metadata.continue_,
            remaining=said.metadata.remaining_item_count,
        )

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str | None = None,
        selector: str = "",
        timeout_s: float = 300.0,
    ) -> AsyncGenerator[Event, None]:
        """See `core.cluster.Cluster`."""
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": resource_version,
            "timeoutSeconds": math.ceil(timeout_s), "labelSelector": selector,
        }  # fmt: skip
        path = _path(kind, namespace)
        with _away(f"watch {path}"):
            async with self._answer(
                "GET", path, query, total_s=timeout_s + self._deadline_s
            ) as answer:
                async for line in _lines(answer.content):
                    told = _decoded(_told, line)
                    if told.type == "ERROR":
                        raise refusal(0, bytes(told.object), {})
                    yield Event(type=told.type, object=_own(_decoded(_object, told.object)))

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Object:
        """See `core.cluster.Cluster`."""
        return _decoded(_object, await self._ask("GET", _path(kind, namespace, name)))

    async def create(self, kind: Kind, body: Body) -> Object:
        """See `core.cluster.Cluster`."""
        path = _path(kind, body["metadata"].get("namespace"))
        return _decoded(_object, await self._ask("POST", path, {"fieldManager": MANAGER}, body))

    async def replace(self, kind: Kind, body: Body, *, subresource: str = "") -> Object:
        """See `core.cluster.Cluster`."""
        path = _path_of(kind, body, subresource)
        return _decoded(_object, await self._ask("PUT", path, {"fieldManager": MANAGER}, body))

    async def apply(
        self, kind: Kind, body: Body, *, manager: str, force: bool = True, subresource: str = ""
    ) -> Object:
        """See `core.cluster.Cluster`."""
        path = _path_of(kind, body, subresource)
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return _decoded(_object, await self._ask("PATCH", path, query, body))

    async def delete(
        self, kind: Kind, name: str, *, namespace: str | None = None, uid: str = ""
    ) -> None:
        """See `core.cluster.Cluster`."""
        options = {
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
            **({"preconditions": {"uid": uid}} if uid else {}),
        }  # fmt: skip
        await self._ask("DELETE", _path(kind, namespace, name), None, options)

    async def evict(self, name: str, *, namespace: str, uid: str = "") -> None:
        """See `core.cluster.Cluster`."""
        options = {
            "apiVersion": "v1", "kind": "DeleteOptions",
            **({"preconditions": {"uid": uid}} if uid else {}),
        }  # fmt: skip
        eviction = {
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace}, "deleteOptions": options,
        }  # fmt: skip
        await self._ask("POST", _path(POD, namespace, name, "eviction"), None, eviction)

    async def of_pod(self, namespace: str, pod: str, path: str) -> tuple[bytes, Mapping[str, str]]:
        """What the first port of a pod answers to a GET, with the headers: through the API server.

        Raises:
            NotFound: there is no such pod, or it has no such path.
            ClusterAway: the pod does not answer, or has an error of its own; or the API server has.
            Rejected: who asks may not get `pods/proxy`.
        """
        with _away(f"pod {pod}"):
            place = (
                f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/proxy"
            )
            async with self._answer("GET", f"{place}{path}", {}, total_s=POD_S) as answer:
                return await _whole(answer.content), answer.headers

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Body | None = None,
    ) -> bytes:
        """One request; the whole answer."""
        with _away(f"{method} {path}"):
            async with self._answer(
                method, path, query or {}, body, total_s=self._deadline_s
            ) as answer:
                return await _whole(answer.content)

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        body: Body | None = None,
        *,
        total_s: float,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The beginning of an answer, good ones only."""
        url = f"{self._rest.configuration.host}{path}"
        if given := {key: value for key, value in query.items() if value != ""}:
            url += f"?{urlencode(given)}"
        async with asyncio.timeout(self._deadline_s):
            response = (
                await self._rest.request(
                    method,
                    url,
                    headers=await self._headers(method),
                    body=dict(body) if body is not None else None,
                    _request_timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S),
                )
            ).response
        try:
            if response.status == HTTPStatus.UNAUTHORIZED:
                self._loaded_s = -math.inf
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                raise refusal(response.status, await _whole(response.content), response.headers)
            yield response
        finally:
            _drop(response)

    async def _headers(self, method: str) -> dict[str, str]:
        configuration = self._rest.configuration
        if self._loop.time() - self._loaded_s >= self._refresh_s:
            self._loaded_s = self._loop.time()
            await _load(self._credentials, configuration)
        token = await configuration.get_api_key_with_prefix("BearerToken")
        return {
            "Accept": "application/json",
            # Compressing a list costs the server twice what listing does.
            "Accept-Encoding": "identity",
            "Content-Type": "application/apply-patch+yaml"
            if method == "PATCH"
            else "application/json",
            "User-Agent": f"gridplane/{__version__}",
            **({"Authorization": token} if token else {}),
        }


async def _load(credentials: Credentials, configuration: Configuration) -> None:
    try:
        await credentials(configuration)
    except (ConfigException, OSError, ValueError) as error:
        raise Unauthorized(f"the credentials of the cluster cannot be read: {error}") from error
    if not configuration.verify_ssl:
        raise Unauthorized(
            "the kubeconfig has insecure-skip-tls-verify: whoever answered would be taken for the API"
            " server; give it certificate-authority-data instead"
        )
    parts = urlsplit(configuration.host)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise Unauthorized(
            f"{configuration.host}: without TLS an API server has to be on this machine"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _path(kind: Kind, namespace: str | None, name: str = "", subresource: str = "") -> str:
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    parts += ["namespaces", namespace] if namespace else []
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _path_of(kind: Kind, body: Body, subresource: str) -> str:
    meta = body["metadata"]
    return _path(kind, meta.get("namespace"), meta["name"], subresource)


@contextlib.contextmanager
def _away(what: str) -> Any:
    """What goes wrong on the line, as the port names it."""
    try:
        yield
    except TimeoutError as error:
        raise ClusterAway(f"{what}: no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ClusterAway(f"{what}: {error}") from error


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ClusterAway(f"not what an API server says: {error}: {bytes(data)[:80]!r}") from error


def _own(thing: Object) -> Object:
    """Without its hold on the bytes of the whole page."""
    return Object(
        api_version=thing.api_version,
        kind=thing.kind,
        metadata=thing.metadata,
        spec=thing.spec.copy(),
        status=thing.status.copy(),
        data=thing.data.copy(),
    )


async def _whole(content: aiohttp.StreamReader) -> bytes:
    pieces, size = [], 0
    async for piece in content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BODY:
            raise ClusterAway(f"an answer of more than {MAX_BODY} bytes")
    return b"".join(pieces)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for piece in content.iter_any():
        seen = len(rest)
        rest += piece
        while (end := rest.find(b"\n", seen)) >= 0:
            yield bytes(rest[:end])
            del rest[: end + 1]
            seen = 0
        if len(rest) > MAX_LINE:
            raise ClusterAway(f"an event of more than {MAX_LINE} bytes")
    if rest:
        raise ClusterAway("the watch ended in the middle of an event")
