"""The engine's protocol on one side, `resources` on the other.

The gRPC plumbing is Pulumi's own (`pulumi.provider.experimental`). Two things it does not have are added: a
resource of which a part came about is kept in the state together with what went wrong, and an error of ours
is told as it is, without the name of a class before it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

from control_plane import __version__
from control_plane.core.errors import ControlPlaneError
from control_plane.hosts.keys import Pins, parse_key, read_known_hosts
from control_plane.hosts.ssh import Ssh, login_key
from control_plane.provider import bugs
from control_plane.provider.crew import AT_ONCE, Crew
from control_plane.provider.resources import LET_GO, RESOURCES, PartlyDone, Resource, Values
from control_plane.provider.values import plain, wrapped

_OPERATIONS: Final = 256
"""Resources that wait for machines at once; how many machines are worked on is the crew's to say."""
_MESSAGE_MAX_BYTES: Final = 400 * 1024**2
"""As Pulumi's own plugins have it."""
_KINDS: Final = {
    "add": api.PropertyDiffKind.ADD,
    "delete": api.PropertyDiffKind.DELETE,
    "update": api.PropertyDiffKind.UPDATE,
}
VARIABLES: Final = {
    "loginKey": "GRIDPLANE_LOGIN_KEY",
    "knownHosts": "GRIDPLANE_KNOWN_HOSTS",
    "bundle": "GRIDPLANE_BUNDLE",
}
"""Setting → the variable that is looked at where a stack leaves it out: what differs by machine."""
_SETTINGS: Final = ("loginKey", "knownHosts", "hostKeys", "bundle", "atOnce")

Build = Callable[[Values], Crew]
T = TypeVar("T")


def crew_of(settings: Values) -> Crew:
    """The crew that a stack's provider settings ask for.

    Args:
        settings: `loginKey`, `knownHosts`, `bundle`: paths on this machine; `hostKeys`: host → public key;
            `atOnce`: machines that are worked on at the same time. All may be left out.

    Raises:
        ControlPlaneError: a key or a file cannot be used.
    """
    pins = Pins(
        {
            name: [parse_key(text, f"host_key of {name}")]
            for name, text in settings.get("hostKeys", {}).items()
        }
    )
    known = _given(settings, "knownHosts")
    if known:
        try:
            text = Path(known).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ControlPlaneError(
                f"known hosts cannot be read from {known} ({error}): pulumi config set knownHosts FILE"
            ) from error
        pins = pins.also(read_known_hosts(text, known))
    key, bundle = _given(settings, "loginKey"), _given(settings, "bundle")
    return Crew(
        Ssh(login_key(Path(key).expanduser()) if key else None, pins),
        Path(bundle).expanduser() if bundle else None,
        at_once=int(settings.get("atOnce", AT_ONCE)),
        lets_go=os.environ.get(LET_GO, ""),
    )


def _given(settings: Values, name: str) -> str | None:
    """A path: of the stack's settings, or of this machine's environment."""
    return settings.get(name) or os.environ.get(VARIABLES[name])


class GridplaneProvider(api.Provider):
    """The resources, as Pulumi asks for them."""

    def __init__(self, build: Build = crew_of) -> None:
        """`build` makes the crew once the settings are there."""
        self._build = build
        self._crew: Crew | None = None
        self._threads = ThreadPoolExecutor(_OPERATIONS, thread_name_prefix="resource")

    async def check_config(self, request: api.CheckRequest) -> api.CheckResponse:
        """Unknown settings are refused; files are looked at when they are used."""
        unknown = sorted(request.new_inputs.keys() - {*_SETTINGS, "version"})
        failures = [
            api.CheckFailure(name, f"no such setting; there are {', '.join(_SETTINGS)}")
            for name in unknown
        ]
        return api.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        """Remember how machines are reached."""
        settings = plain(request.args)
        self._crew = await self._off(lambda: self._build(settings))
        return await super().configure(request)

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        """Inputs as they are, and what is wrong with them."""
        old = plain(request.old_inputs) if request.old_inputs else None
        found = _resource(request.urn).check(old, plain(request.new_inputs))
        return api.CheckResponse(
            inputs=request.new_inputs,
            failures=[api.CheckFailure(one.path, one.reason) for one in found],
        )

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        """Never a replacement: machines are brought up to what is wanted."""
        kind = _resource(request.urn)
        changes = kind.changes(plain(request.old_state), plain(request.new_inputs))
        parts = sorted({change.path.partition("[")[0].partition(".")[0] for change in changes})
        return api.DiffResponse(
            changes=bool(changes),
            diffs=parts,
            detailed_diff={
                change.path: api.PropertyDiff(_KINDS[change.kind], input_diff=False)
                for change in changes
            },
        )

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        """Bring it about; in a preview nothing is touched."""
        kind, new = _resource(request.urn), plain(request.properties)
        if request.preview:
            return api.CreateResponse(
                None, wrapped(new, secrets=kind.secrets, unknown=kind.computed)
            )
        state = await self._with_crew(lambda crew: kind.bring(crew, None, new))
        return api.CreateResponse(kind.identity(new), wrapped(state, secrets=kind.secrets))

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        """Bring it up to what is wanted; in a preview nothing is touched."""
        kind, new = _resource(request.urn), plain(request.news)
        old = plain(request.olds)
        if request.preview:
            return api.UpdateResponse(wrapped(new, secrets=kind.secrets, unknown=kind.computed))
        state = await self._with_crew(lambda crew: kind.bring(crew, old, new))
        return api.UpdateResponse(wrapped(state, secrets=kind.secrets))

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        """Look at the machines."""
        kind, state = _resource(request.urn), plain(request.properties)
        if not state:
            raise ControlPlaneError(
                f"{request.type} is not imported by an id: declare the machines and run `pulumi up`; what is "
                "right on them already is adopted as it is"
            )
        found = await self._with_crew(lambda crew: kind.probe(crew, state))
        if found is None:
            return api.ReadResponse(None, {}, {})
        properties = wrapped(found, secrets=kind.secrets)
        inputs = {name: value for name, value in properties.items() if name in request.inputs}
        return api.ReadResponse(request.resource_id, properties, inputs)

    async def delete(self, request: api.DeleteRequest) -> None:
        """Release, or uninstall where the declaration said so."""
        kind, state = _resource(request.urn), plain(request.properties)
        await self._with_crew(lambda crew: kind.remove(crew, state))

    async def cancel(self) -> None:
        """Nothing more is begun."""
        if self._crew:
            self._crew.stop()

    async def _with_crew(self, act: Callable[[Crew], T]) -> T:
        crew = self._crew
        if crew is None:
            raise ControlPlaneError("the provider was asked for machines before it was configured")
        return await self._off(lambda: act(crew))

    async def _off(self, act: Callable[[], T]) -> T:
        """Run what blocks, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, act)


def _resource(urn: str) -> Resource:
    # A URN has the types of its parents before its own.
    token = urn.split("::")[-2].rpartition("$")[2]
    kind = RESOURCES.get(token)
    if kind is None:
        raise ControlPlaneError(f"gridplane has no resource {token}; it has {', '.join(RESOURCES)}")
    return kind


# --- the protocol ----------------------------------------------------------------------------


class _Status:
    """How a call ended, with the details that Pulumi reads."""

    def __init__(self, message: str, detail: Any | None = None) -> None:
        self.code, self.details = grpc.StatusCode.UNKNOWN, message
        self.trailing_metadata: tuple[tuple[str, bytes], ...] = ()
        if detail is not None:
            status = status_pb2.Status(code=self.code.value[0], message=message)
            status.details.add().Pack(detail)
            self.trailing_metadata = (("grpc-status-details-bin", status.SerializeToString()),)


class GridplaneServicer(ProviderServicer):
    """Pulumi's plumbing, and errors as people should read them; a part that came about is kept."""

    # ruff: noqa: D102, N802 - the protocol's calls, by the protocol's names

    async def CheckConfig(self, request: Any, context: Any) -> Any:
        return await _told(super().CheckConfig, request, context)

    async def Configure(self, request: Any, context: Any) -> Any:
        return await _told(super().Configure, request, context)

    async def Check(self, request: Any, context: Any) -> Any:
        return await _told(super().Check, request, context)

    async def Diff(self, request: Any, context: Any) -> Any:
        return await _told(super().Diff, request, context)

    async def Create(self, request: Any, context: Any) -> Any:
        return await _told(super().Create, request, context, request.properties)

    async def Update(self, request: Any, context: Any) -> Any:
        return await _told(super().Update, request, context, request.news)

    async def Read(self, request: Any, context: Any) -> Any:
        return await _told(super().Read, request, context)

    async def Delete(self, request: Any, context: Any) -> Any:
        return await _told(super().Delete, request, context)


async def _told(
    call: Callable[[Any, Any], Awaitable[Any]], request: Any, context: Any, inputs: Any = None
) -> Any:
    """Run a call; its errors become statuses.

    Args:
        call: Pulumi's own.
        request: of the engine.
        context: of gRPC.
        inputs: what was asked for, where a part of it may be kept.
    """
    try:
        try:
            return await call(request, context)
        except PartlyDone as error:
            status = _kept(error, request, inputs)
    except ControlPlaneError as error:
        status = _Status(str(error))
    except Exception as bug:  # noqa: BLE001 - gRPC would tell a class and no place
        status = _Status(str(bugs.told(bug, _about(request))))
    await context.abort_with_status(status)
    raise AssertionError("gRPC goes on after a call was ended")


def _kept(error: PartlyDone, request: Any, inputs: Any) -> _Status:
    """A failure that has Pulumi keep what came about."""
    kind = _resource(request.urn)
    asked = plain(PropertyValue.unmarshal_map(inputs))
    detail = provider_pb2.ErrorResourceInitFailed(
        id=getattr(request, "id", "") or kind.identity(asked),
        properties=PropertyValue.marshal_map(wrapped(error.state, secrets=kind.secrets)),
        inputs=inputs,
        reasons=error.reasons,
    )
    return _Status(str(error), detail)


def _about(request: Any) -> str:
    """What a request is about, by the type and the name that its resource has in the stack."""
    urn = getattr(request, "urn", "")
    kind, _, name = urn.rpartition("$")[2].partition("::")
    return f"{kind} {name}" if urn else "the provider's settings"


async def serve(provider: api.Provider, engine: str = "") -> tuple[grpc.aio.Server, int]:
    """Listen on a port of loopback; the server that runs, and the port."""
    options = [
        ("grpc.max_receive_message_length", _MESSAGE_MAX_BYTES),
        ("grpc.max_send_message_length", _MESSAGE_MAX_BYTES),
    ]
    server = grpc.aio.server(options=options)
    servicer = GridplaneServicer([], __version__, provider, engine_address=engine)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


def main(arguments: list[str] | None = None) -> int:
    """What the engine starts: it reads the port from the first line.

    Returns:
        0 once the engine has ended us; 2 where nobody gave the engine's address.
    """
    given = [a for a in (sys.argv[1:] if arguments is None else arguments) if not a.startswith("-")]
    if not given:
        sys.stderr.write("pulumi-resource-gridplane is started by Pulumi, not by people\n")
        return 2

    async def run() -> None:
        server, port = await serve(GridplaneProvider(), given[0])
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await server.wait_for_termination()

    asyncio.run(run())
    return 0
