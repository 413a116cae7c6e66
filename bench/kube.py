"""CPU and memory of a list of 15,000 miners in pages of 500, beside the same by `kubernetes.aio` alone.

The server is a process of its own that speaks TLS and says what a kube-apiserver says of miners that two
field managers write; it is not counted. Ours leaves objects as the caches of `gridplane controller` hold
them. The peer is `CustomObjectsApi.list_cluster_custom_object` over the same pages, which leaves
dictionaries. Imports are in the memory and not in the CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.figures import ROOT, Figure, own_peak_mib, run_python
from control_plane.lab.pki import Authority

_COUNT = 15_000
_PAGE = 500
_WHEN = "2026-11-25T04:00:00Z"
_SERVER = "import sys; from bench.kube import serve; serve(sys.argv[1])"
_CHILD = "import sys; from bench.kube import child; child(*sys.argv[1:])"


def _miner(number: int) -> dict[str, Any]:
    condition = {
        "status": "True", "reason": "Converged", "message": "reads as declared",
        "observedGeneration": 1, "lastTransitionTime": _WHEN,
    }  # fmt: skip
    spec = {
        "site": "tx-01", "rack": f"r{number // 84}", "slot": number % 84 + 1, "slotState": "in_service",
        "pin": {"mac": f"02:00:00:00:{number // 256:02x}:{number % 256:02x}", "source": "placement"},
    }  # fmt: skip
    status = {
        "conditions": [{"type": kind, **condition} for kind in ("Ready", "Reconciling", "Stalled")],
        "observedGeneration": 1, "family": "antminer", "firmware": "2026.10.1",
    }  # fmt: skip
    meta = {"labels": {"rack": spec["rack"], "site": "tx-01"}, "ownerReferences": [_OWNER]}
    return {
        "apiVersion": "gridplane.dev/v1alpha1",
        "kind": "Miner",
        "metadata": {
            "name": f"tx-01-{number:05d}", "namespace": "tx-01", "generation": 1,
            "uid": f"{number:08x}-0000-4000-8000-000000000000",
            "resourceVersion": str(100_000 + number), "creationTimestamp": _WHEN, **meta,
            "managedFields": [
                _managed("gridplane", "", {"metadata": meta, "spec": spec}),
                _managed("gridplane-status", "status", {"status": status}),
            ],
        },
        "spec": spec,
        "status": status,
    }  # fmt: skip


_OWNER = {
    "apiVersion": "gridplane.dev/v1alpha1", "kind": "Site", "name": "tx-01",
    "uid": "11111111-0000-4000-8000-000000000000", "controller": True,
}  # fmt: skip


def _managed(manager: str, subresource: str, owned: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "manager": manager, "operation": "Apply", "apiVersion": "gridplane.dev/v1alpha1",
        "time": _WHEN, "fieldsType": "FieldsV1", "fieldsV1": _fields(owned),
        **({"subresource": subresource} if subresource else {}),
    }  # fmt: skip


def _fields(value: Any) -> dict[str, Any]:
    """As `managedFields` names them."""
    if isinstance(value, Mapping):
        return {f"f:{key}": _fields(below) for key, below in value.items()}
    if isinstance(value, list):
        named = ("type", "uid")
        keys = [{key: item[key] for key in named if key in item} for item in value]
        return {
            f"k:{json.dumps(key)}": {".": {}, **_fields(item)}
            for key, item in zip(keys, value, strict=True)
        }
    return {}


def serve(folder: str) -> None:
    """A kube-apiserver that knows one list; its port on the first line of the output."""
    items = [json.dumps(_miner(number), separators=(",", ":")) for number in range(_COUNT)]

    def page(target: str) -> bytes:
        query = parse_qs(urlsplit(target).query)
        first = int(query.get("continue", ["0"])[0])
        last = min(first + int(query["limit"][0]), _COUNT)
        rest = {"continue": str(last), "remainingItemCount": _COUNT - last} if last < _COUNT else {}
        meta = json.dumps({"resourceVersion": "200000", **rest})
        start = f'{{"apiVersion":"gridplane.dev/v1alpha1","kind":"MinerList","metadata":{meta},"items":['
        return f"{start}{','.join(items[first:last])}]}}\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                content = page(head.split()[1].decode())
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(content), content)
                )
                await writer.drain()
        writer.close()

    async def main() -> None:
        authority = Authority(Path(folder), "ca", dt.datetime.now(dt.UTC))
        pair = authority.issue("server", common_name="server", serves=["127.0.0.1"])
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*pair)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


def child(whose: str, folder: str, port: str) -> None:
    """List everything once; print CPU seconds, and MiB at their peak."""
    from kubernetes.aio.client.configuration import Configuration

    async def credentials(configuration: Configuration) -> None:
        configuration.host = f"https://127.0.0.1:{port}"
        configuration.ssl_ca_cert = f"{folder}/ca.crt"

    cpu_s = asyncio.run((_ours if whose == "ours" else _theirs)(credentials))
    print(cpu_s, own_peak_mib())


async def _ours(credentials: Any) -> float:
    from control_plane.core.cluster import Kind, Object
    from control_plane.kube.client import connect

    kind = Kind(group="gridplane.dev", version="v1alpha1", kind="Miner", plural="miners")
    async with connect(credentials) as client:
        began = time.process_time()
        page = await client.list_page(kind, limit=_PAGE)
        held: dict[str, Object] = {item.key: item for item in page.items}
        while page.next:
            page = await client.list_page(kind, limit=_PAGE, page=page.next)
            held.update((item.key, item) for item in page.items)
        cpu_s = time.process_time() - began
    assert len(held) == _COUNT
    return cpu_s


async def _theirs(credentials: Any) -> float:
    from kubernetes.aio.client import ApiClient, CustomObjectsApi
    from kubernetes.aio.client.configuration import Configuration

    configuration = Configuration()
    await credentials(configuration)
    async with ApiClient(configuration) as client:
        api = CustomObjectsApi(client)
        held: dict[str, Any] = {}
        more: dict[str, Any] = {}
        began = time.process_time()
        while True:
            page: Any = await api.list_cluster_custom_object(
                "gridplane.dev", "v1alpha1", "miners", limit=_PAGE, **more
            )
            for item in page["items"]:
                held[f"{item['metadata']['namespace']}/{item['metadata']['name']}"] = item
            if not (token := page["metadata"].get("continue")):
                break
            more = {"_continue": token}
        cpu_s = time.process_time() - began
    assert len(held) == _COUNT
    return cpu_s


def measure() -> list[Figure]:
    """Three runs of each, one after the other; the median."""
    with tempfile.TemporaryDirectory(prefix="gridplane-bench-") as folder:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            told: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
            for _ in range(3):
                for whose, runs in told.items():
                    cpu_s, peak_mib = run_python(["-c", _CHILD, whose, folder, port]).stdout.split()
                    runs.append((float(cpu_s), float(peak_mib)))
        finally:
            server.terminate()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
    (ours_s, ours_mib), (theirs_s, theirs_mib) = (sorted(runs)[1] for runs in told.values())
    size = len(json.dumps(_miner(1), separators=(",", ":")))
    return [
        Figure(
            name="15,000 miners listed and decoded", value=ours_s, unit="s CPU",
            peer="kubernetes.aio", peer_value=theirs_s, note=f"{size} bytes each, over TLS",
        ),
        Figure(
            name="memory at its peak, all of them held", value=ours_mib, unit="MiB",
            peer="kubernetes.aio", peer_value=theirs_mib,
        ),
    ]  # fmt: skip
