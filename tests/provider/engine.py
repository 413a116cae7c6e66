"""Pulumi's side of the provider protocol, without an engine: the real program, asked over its real gRPC."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf import struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

SECRET = "4dabf18193072939515e22adb298388d"
"""The key by which Pulumi marks special values, and its value for secrets: sdk/go/common/resource/sig."""
SECRET_SIG = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


class Client:
    """What an engine asks."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = provider_pb2_grpc.ResourceProviderStub(channel)

    def configure(self, **settings: Any) -> Any:
        request = provider_pb2.ConfigureRequest(
            args=struct(settings), acceptSecrets=True, acceptResources=True
        )
        return self._stub.Configure(request)

    def check(self, kind: str, new: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> Any:
        request = provider_pb2.CheckRequest(
            urn=urn(kind), olds=struct(old) if old else None, news=struct(new)
        )
        return self._stub.Check(request)

    def diff(self, kind: str, state: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
        request = provider_pb2.DiffRequest(
            urn=urn(kind), id="x", olds=struct(state), news=struct(new)
        )
        return self._stub.Diff(request)

    def create(self, kind: str, new: Mapping[str, Any], *, preview: bool = False) -> Any:
        request = provider_pb2.CreateRequest(urn=urn(kind), properties=struct(new), preview=preview)
        return self._stub.Create(request)

    def update(
        self, kind: str, state: Mapping[str, Any], new: Mapping[str, Any], *, preview: bool = False
    ) -> Any:
        request = provider_pb2.UpdateRequest(
            urn=urn(kind), id="x", olds=struct(state), news=struct(new), preview=preview
        )
        return self._stub.Update(request)

    def read(self, kind: str, state: Mapping[str, Any]) -> Any:
        request = provider_pb2.ReadRequest(
            urn=urn(kind), id="x", properties=struct(state), inputs=struct(state)
        )
        return self._stub.Read(request)

    def delete(self, kind: str, state: Mapping[str, Any]) -> Any:
        request = provider_pb2.DeleteRequest(urn=urn(kind), id="x", properties=struct(state))
        return self._stub.Delete(request)

    def cancel(self) -> None:
        self._stub.Cancel(struct_pb2.Value())


@contextmanager
def a_provider(log: Path) -> Iterator[Client]:
    """The program that an engine would start; what it says on its own goes to `log`."""
    with (
        log.open("w") as words,
        subprocess.Popen(
            [sys.executable, "-m", "control_plane.provider", "127.0.0.1:9"],
            stdout=subprocess.PIPE, stderr=words, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Client(channel)
        finally:
            process.kill()


def urn(kind: str) -> str:
    return f"urn:pulumi:lab.cluster::gridplane::gridplane:site:Cluster$gridplane:k8s:{kind}::it"


def struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


def plain(message: struct_pb2.Struct) -> dict[str, Any]:
    """A struct as values; secrets are `Hidden`."""
    found = _plain(struct_pb2.Value(struct_value=message))
    assert isinstance(found, dict)
    return found


class Hidden(str):
    """A text that came marked as a secret."""


def _plain(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            fields = {key: _plain(item) for key, item in value.struct_value.fields.items()}
            return Hidden(fields["value"]) if fields.get(SECRET) == SECRET_SIG else fields
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "null_value" | None:
            return None
        case other:
            return getattr(value, other)


def partly(error: grpc.RpcError) -> provider_pb2.ErrorResourceInitFailed:
    """What a failed call says that came about all the same."""
    metadata = cast("grpc.Call", error).trailing_metadata()
    [packed] = [value for key, value in metadata if key == "grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    found = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(found)
    return found
