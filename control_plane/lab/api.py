"""The `api` form of the lab: a real API server with its controllers on loopback, without root.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler, each with certificates of the lab's own
authority; kwok plays the kubelets of simulated GPU nodes. No pod runs: a pod is only marked as running.
"""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from control_plane.lab import pki, processes, records, remains
from control_plane.lab.ports import HOST, free_ports, is_free
from control_plane.lab.programs import find, find_all
from control_plane.lab.records import ApiRecord, LabError, Ports

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
"""In the order of starting."""
SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
READY_S = 60.0
_STAGES = Path(__file__).with_name("stages.yaml")
_ASK_S = 2.0
_TICK_S = 0.05
_PORT_TRIES = 3
_GONE_TICKS = 4


class ApiLab:
    """One lab below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.kubeconfig = self.folder / "kubeconfig"

    @property
    def record(self) -> ApiRecord | None:
        """What stands in the folder; `None` where nothing was set up to its end.

        Raises:
            LabError: it cannot be read, or is of another form.
        """
        return records.read_as(self.folder, ApiRecord)

    def programs(self) -> tuple[str, ...]:
        """What runs when the lab is up, as `running` names it."""
        return PROGRAMS

    def log_of(self, program: str) -> Path:
        """The words of a program since the lab was made."""
        return self.folder / "logs" / f"{program}.log"

    def running(self) -> dict[str, processes.Process]:
        """Its programs that run now."""
        return processes.running(self.folder)

    def up(
        self, *, port: int | None = None, say: Callable[[str], None] = lambda _text: None
    ) -> bool:
        """Bring the lab up, or back up; a lab that is up is left alone.

        Args:
            port: for the API server; a free one is taken where it is not given.
            say: told of each step.

        Returns:
            Whether anything had to be started.

        Raises:
            LabError: a program ended or did not become ready; its last words are in the message.
            ProgramMissing: a program has to be built first.
        """
        programs = find_all((*PROGRAMS, "kubectl"))
        if self.record is not None and self.is_ready():
            return False
        for tries_left in range(_PORT_TRIES - 1, -1, -1):
            made = self.record is None
            if made:
                # What a half-made lab left is worth nothing: no certificate of it is in use.
                self.down()
                self._make(port)
            try:
                self._start(programs, say)
                break
            except LabError as error:
                # Somebody took a port between our finding it free and the program's using it.
                if not (made and tries_left and "address already in use" in str(error)):
                    raise
                self.down()
        return True

    def _start(self, programs: Mapping[str, Path], say: Callable[[str], None]) -> None:
        record = self.record
        assert record is not None  # noqa: S101 - just made
        commands = _commands(self.folder, record.ports, programs)
        for name in PROGRAMS:
            if name in self.running():
                continue
            say(f"starting {name}")
            processes.start(name, commands[name], lab=self.folder, log=self.log_of(name))
            if name in {"etcd", "kube-apiserver"}:
                self._wait(name, partial(self._answers, name, record.ports))
        say("waiting for the API server")
        self._wait("kube-apiserver", self._serves)

    def join(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Let simulated nodes join; one that has joined already stays as it is.

        Raises:
            LabError: the API server refused them.
        """
        things = msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": list(nodes)})
        done = subprocess.run(  # noqa: S603 - our own kubectl
            [
                find("kubectl"), f"--kubeconfig={self.kubeconfig}", "apply", "--server-side",
                "--field-manager=gridplane-lab", "-f", "-",
            ],
            input=things,
            capture_output=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise LabError(
                f"the nodes were refused: {done.stderr.decode(errors='replace').strip()}"
            )

    def down(self) -> None:
        """End every program and remove the folder: nothing of the lab is left."""
        remains.clear(self.folder)

    def is_ready(self) -> bool:
        """Whether every program runs, and the API server says of itself that it is ready."""
        alive = self.running()
        return all(name in alive for name in PROGRAMS) and self._serves()

    def environment(self) -> Mapping[str, str]:
        """What a program has to know to speak to the lab."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    def command(self, arguments: Sequence[str]) -> Sequence[str | Path]:
        """A command that reaches the lab: any does, it is on loopback."""
        return arguments

    def _serves(self) -> bool:
        record = self.record
        return record is not None and self._answers("kube-apiserver", record.ports)

    def _make(self, port: int | None) -> None:
        if port is not None and not is_free(port):
            raise LabError(
                f"port {port} of {HOST} is in use: name another with --port, or leave it out and a free "
                "one is taken"
            )
        self.folder.mkdir(parents=True, mode=0o700)
        for name in ("pki", "logs", "etcd"):
            (self.folder / name).mkdir(mode=0o700)
        free = free_ports(6)
        ports = Ports(
            etcd=free[0],
            etcd_peer=free[1],
            api=port or free[2],
            controller_manager=free[3],
            scheduler=free[4],
            kwok=free[5],
        )
        _make_credentials(self.folder, ports)
        records.write(self.folder, ApiRecord(ports=ports))

    def _answers(self, program: str, ports: Ports) -> bool:
        context = _client_context(self.folder / "pki")
        path, port = ("/health", ports.etcd) if program == "etcd" else ("/readyz", ports.api)
        connection = http.client.HTTPSConnection(HOST, port, timeout=_ASK_S, context=context)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _wait(self, program: str, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + READY_S
        gone = 0
        while not holds():
            # A process that just executes its program shows no environment for a moment.
            gone = 0 if program in self.running() else gone + 1
            if gone >= _GONE_TICKS:
                raise LabError(
                    f"{program} ended; its last words, from {self.log_of(program)}:\n"
                    f"{processes.last_words(self.log_of(program))}\n"
                    "`gridplane lab down` clears it away, then `up` again"
                )
            if time.monotonic() > until:
                raise LabError(
                    f"{program} is not ready after {READY_S:.0f} s; see {self.log_of(program)}"
                )
            time.sleep(_TICK_S)


def _client_context(folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    return context


_CLIENTS: Mapping[str, tuple[str, Sequence[str]]] = {
    "admin": ("gridplane-lab-admin", ("system:masters",)),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "kwok": ("gridplane-lab-kwok", ("system:masters",)),
}
"""File → (user, groups). kwok plays every node at once, which no narrower role allows."""


def _make_credentials(folder: Path, ports: Ports) -> None:
    keys = folder / "pki"
    now = dt.datetime.now(dt.UTC)
    authority = pki.Authority(keys, "ca", now)
    authority.issue("etcd", common_name="etcd", serves=(HOST, "localhost"))
    authority.issue("apiserver-etcd-client", common_name="kube-apiserver-etcd-client")
    authority.issue(
        "apiserver",
        common_name="kube-apiserver",
        serves=(
            HOST, "localhost", SERVICE_ADDRESS, "kubernetes", "kubernetes.default",
            "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
        ),
    )  # fmt: skip
    front = pki.Authority(keys, "front-proxy-ca", now)
    front.issue("front-proxy-client", common_name="front-proxy-client")
    for server in ("controller-manager-server", "scheduler-server"):
        authority.issue(server, common_name=server, serves=(HOST, "localhost"))
    pki.signing_pair(keys, "service-account")
    for file, (user, groups) in _CLIENTS.items():
        paths = authority.issue(file, common_name=user, organizations=groups)
        target = folder / ("kubeconfig" if file == "admin" else f"{file}.kubeconfig")
        pki.write_private(target, _kubeconfig(keys / "ca.crt", paths, user, ports.api))


def _kubeconfig(authority: Path, pair: tuple[Path, Path], user: str, port: int) -> bytes:
    """A kubeconfig that carries its certificates: it may be copied elsewhere. JSON is YAML."""

    def inline(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    return msgspec.json.format(
        msgspec.json.encode(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "lab",
                "clusters": [
                    {
                        "name": "lab",
                        "cluster": {
                            "server": f"https://{HOST}:{port}",
                            "certificate-authority-data": inline(authority),
                        },
                    }
                ],
                "users": [
                    {
                        "name": user,
                        "user": {
                            "client-certificate-data": inline(pair[0]),
                            "client-key-data": inline(pair[1]),
                        },
                    }
                ],
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            }
        ),
        indent=2,
    )


def _commands(
    folder: Path, ports: Ports, programs: Mapping[str, Path]
) -> dict[str, list[str | Path]]:
    """How each program is started."""
    keys = folder / "pki"
    etcd, peer = f"https://{HOST}:{ports.etcd}", f"https://{HOST}:{ports.etcd_peer}"

    def client(name: str) -> list[str]:
        config = folder / f"{name}.kubeconfig"
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--bind-address={HOST}",
            f"--tls-cert-file={keys / f'{name}-server.crt'}",
            f"--tls-private-key-file={keys / f'{name}-server.key'}",
            "--leader-elect=false",
        ]

    return {
        "etcd": [
            programs["etcd"],
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--cert-file={keys / 'etcd.crt'}", f"--key-file={keys / 'etcd.key'}",
            f"--trusted-ca-file={keys / 'ca.crt'}", "--client-cert-auth",
            f"--peer-cert-file={keys / 'etcd.crt'}", f"--peer-key-file={keys / 'etcd.key'}",
            f"--peer-trusted-ca-file={keys / 'ca.crt'}", "--peer-client-cert-auth",
            "--log-level=warn",
            # A lab is not kept through a power cut; without it every write waits for the disk.
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            programs["kube-apiserver"],
            f"--etcd-servers={etcd}", f"--etcd-cafile={keys / 'ca.crt'}",
            f"--etcd-certfile={keys / 'apiserver-etcd-client.crt'}",
            f"--etcd-keyfile={keys / 'apiserver-etcd-client.key'}",
            f"--bind-address={HOST}", f"--advertise-address={HOST}", f"--secure-port={ports.api}",
            # The default writes an Endpoints object, which must not name a loopback address.
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={keys / 'apiserver.crt'}",
            f"--tls-private-key-file={keys / 'apiserver.key'}",
            f"--client-ca-file={keys / 'ca.crt'}", "--anonymous-auth=false",
            f"--requestheader-client-ca-file={keys / 'front-proxy-ca.crt'}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={keys / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={keys / 'front-proxy-client.key'}",
            # As kubeadm has it: who may run a privileged pod is decided by admission, not by the server.
            "--authorization-mode=Node,RBAC", "--profiling=false", "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys / 'service-account.pub'}",
            f"--service-account-signing-key-file={keys / 'service-account.key'}",
        ],
        "kube-controller-manager": [
            programs["kube-controller-manager"], *client("controller-manager"),
            f"--secure-port={ports.controller_manager}",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={keys / 'service-account.key'}",
            f"--root-ca-file={keys / 'ca.crt'}",
            f"--cluster-signing-cert-file={keys / 'ca.crt'}",
            f"--cluster-signing-key-file={keys / 'ca.key'}",
        ],
        "kube-scheduler": [
            programs["kube-scheduler"], *client("scheduler"), f"--secure-port={ports.scheduler}",
        ],
        "kwok": [
            programs["kwok"], f"--config={_STAGES}",
            f"--kubeconfig={folder / 'kwok.kubeconfig'}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
            "--node-lease-duration-seconds=40",
            f"--node-ip={HOST}", f"--node-port={ports.kwok}",
            f"--server-address={HOST}:{ports.kwok}",
        ],
    }  # fmt: skip
