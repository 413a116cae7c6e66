"""The `cluster` form of the lab: a site's declared hosts, booted, and Kubernetes brought up on them.

Its hosts stand at their declared addresses in a network of the lab's own, and so do the site's simulated
devices. kubeadm makes the control plane and joins the others; bare hosts are left as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from control_plane.core.fleet import DeviceKind, Site
from control_plane.lab import (
    bundle,
    cgroups,
    debian,
    images,
    kubeadm,
    pki,
    probe,
    processes,
    records,
    remains,
    seeds,
    store,
)
from control_plane.lab.commands import CommandFailed
from control_plane.lab.hosts import NODE_PROGRAMS, Hosts
from control_plane.lab.network import Network, collapsed
from control_plane.lab.ports import HOST, free_ports, is_free
from control_plane.lab.programs import cache_folder, find_all
from control_plane.lab.records import ClusterRecord, HostRecord, LabError

SIMULATOR = "simulator"
FORWARD = "api-forward"
"""Leads a port of loopback to the API server, for programs outside of the lab's network."""
MOST_HOSTS = 8
"""Of one lab: each holds up to half a gigabyte."""
READY_S = 120.0
_TICK_S = 0.2
_PROXY = "/usr/lib/systemd/systemd-socket-proxyd"
_CONFIG = "/root/kubeadm.yaml"
_KUBECTL = "kubectl --kubeconfig=/etc/kubernetes/admin.conf"
_ADD_COREDNS = f"""
{_KUBECTL} -n kube-system get deployment coredns >/dev/null 2>&1 ||
kubeadm init phase addon coredns --config {_CONFIG}
"""
_PROXIES = "proxies {nodes}"
_EVERYTHING = "proxies {nodes} names True"
_ASK = """
k="kubectl --kubeconfig=/etc/kubernetes/admin.conf"
$k get nodes -o jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}'
echo proxies; $k -n kube-system get daemonset kube-proxy -o jsonpath='{.status.numberReady}'
a='{.status.conditions[?(@.type=="Available")].status}'
echo " names"; $k -n kube-system get deployment coredns --ignore-not-found -o jsonpath="$a"
echo; $k get nodes -o jsonpath='{.items[*].status.nodeInfo.bootID}'
"""
_BOOT = """
cat /proc/sys/kernel/random/boot_id
iptables --wait -t nat -S KUBE-SERVICES 2>/dev/null | grep -q default/kubernetes && echo routed
"""
_JOINED = "/etc/kubernetes/gridplane-lab"
"""Ours, made once kubeadm has ended well: its own files are there half-way too."""

_WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
_WATCHERS_MIN = 1_024
"""To the kernel all hosts are one root, and share its inotify instances: a host takes 24 (measured with
three), so that of the usual 128 the sixth gets none, and its containerd comes up without CRI."""

Say = Callable[[str], None]


class ClusterLab:
    """One lab below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.tag = remains.tag_of(self.folder)
        self.network = Network(self.tag)
        self.hosts = Hosts(self.folder, self.tag, self.network)
        self.kubeconfig = self.folder / "kubeconfig"
        """Leads through loopback."""
        self.kubeconfig_inside = self.folder / "kubeconfig.inside"
        """Leads to the server's own address."""
        self.bundle = self.folder / "bundle"
        """Leads to the offline bundle, where all hosts are bare."""

    @property
    def images(self) -> Path | None:
        """Where images for its machines are laid; `None` where its site declares no store of the lab's."""
        record = self.record
        return store.images_of(self.folder, record.store) if record and record.store else None

    @property
    def record(self) -> ClusterRecord | None:
        """What stands in the folder; `None` where nothing was set up to its end.

        Raises:
            LabError: it cannot be read, or is of another form.
        """
        return records.read_as(self.folder, ClusterRecord)

    def programs(self) -> tuple[str, ...]:
        """What runs when the lab is up, as `running` names it."""
        record = self.record
        if record is None:
            return ()
        forward = (FORWARD,) if _servers(record) else ()
        images = (store.PROGRAM,) if record.store else ()
        return (*(host.name for host in record.hosts), SIMULATOR, *images, *forward)

    def log_of(self, program: str) -> Path:
        """The words of a program, or the console of a host, since the lab was made."""
        return self.folder / "logs" / f"{program}.log"

    def running(self) -> dict[str, processes.Process]:
        """Its programs and hosts that run now; a host counts with all that runs on it."""
        record = self.record
        found = processes.running(self.folder)
        hosts = {host.name for host in record.hosts} if record else set()
        return {
            name: processes.Process(
                program=name,
                pid=process.pid,
                rss_bytes=process.rss_bytes
                + (cgroups.rss_bytes(self.tag, name) if name in hosts else 0),
            )
            for name, process in found.items()
        }

    def is_ready(self) -> bool:
        """Whether every host takes a command, and every node of the cluster is ready."""
        record = self.record
        if record is None or not self.network.stands():
            return False
        if set(self.programs()) - processes.running(self.folder).keys():
            return False
        return all(self.hosts.answers(host) for host in record.hosts) and self._shows(
            record, _EVERYTHING
        )

    def environment(self) -> Mapping[str, str]:
        """What a program run by `command` has to know: the API server's own address, the hosts' keys.

        Where hosts are bare, also what turns them into nodes.
        """
        offline = {"GRIDPLANE_BUNDLE": str(self.bundle)} if self.bundle.exists() else {}
        return {
            **offline,
            "KUBECONFIG": str(self.kubeconfig_inside),
            "GRIDPLANE_LAB_SSH": str(self.hosts.ssh_config),
            "GRIDPLANE_LOGIN_KEY": str(self.hosts.login_key),
            "GRIDPLANE_KNOWN_HOSTS": str(self.hosts.known_hosts),
        }

    def command(self, arguments: Sequence[str]) -> Sequence[str | Path]:
        """A command, run in the lab's network: declared addresses are hosts and devices there."""
        return self.network.inside(*arguments)

    def up(
        self,
        site: Site,
        inventory: Path,
        *,
        bare: frozenset[str] = frozenset(),
        only: frozenset[str] = frozenset(),
        port: int | None = None,
        checkout: Path | None = None,
        say: Say = lambda _text: None,
    ) -> bool:
        """Bring the lab up, or back up; a lab that is up is left alone.

        Args:
            site: whose hosts and devices.
            inventory: where it is declared; its simulator reads it.
            bare: hosts that are left with sshd alone; `all` for every one.
            only: these hosts alone; empty for every one.
            port: of loopback, for the API server; a free one is taken where it is not given.
            checkout: of gridplane, whose image its nodes then have, beside those that kubeadm asks for;
                where all hosts are bare, it is in the offline bundle that they are given.
            say: told of each step.

        Returns:
            Whether anything had to be done.

        Raises:
            LabError: this machine cannot, or a step failed; the message says what to do.
            ProgramMissing: a program has to be built first.
        """
        if self.is_ready():
            return False
        probe.require()
        record = self.record
        if record is None:
            hosts = declared_hosts(site, bare=bare, only=only)
            if port is not None and not is_free(port):
                raise LabError(
                    f"port {port} of {HOST} is in use: name another, or leave --port out"
                )
            probe.require_room(self.folder, cache_folder())
            self._make(hosts, checkout, say)
            record = ClusterRecord(
                site=site.id,
                inventory=str(inventory.resolve()),
                port=port or free_ports(1)[0],
                hosts=tuple(hosts),
                devices=tuple(device_networks(site)),
                store=site.firmware_store if store.address_of(site) else None,
            )
            records.write(self.folder, record)
        self._switch_on(record, say)
        if _servers(record):
            self._bring_up(record, say)
        return True

    def power(self, name: str, state: str) -> None:
        """Take a host's power (`off`), give it back (`on`), or both (`cycle`).

        Raises:
            LabError: there is no such host, or it does not come up.
        """
        record = self.record
        hosts = record.hosts if record else ()
        chosen = [host for host in hosts if host.name == name]
        if not chosen:
            there = ", ".join(host.name for host in hosts) or "none"
            raise LabError(f"the lab has no host {name}; there is {there}")
        if state in {"off", "cycle"}:
            self.hosts.cut(chosen[0])
        if state in {"on", "cycle"} and name not in processes.running(self.folder):
            self.hosts.start(chosen[0])
            self.hosts.await_ssh(chosen)

    def down(self) -> None:
        """End every host and program and remove the folder: nothing of the lab is left."""
        remains.clear(self.folder)

    # --- once ------------------------------------------------------------------------------------

    def _make(self, hosts: Sequence[HostRecord], checkout: Path | None, say: Say) -> None:
        """The folder, and all that is on the hosts' disks."""
        for spec in {debian.BARE if host.is_bare else debian.NODE for host in hosts}:
            debian.tree(spec, say)
        programs, seed, offline = {}, None, None
        if all(host.is_bare for host in hosts) and checkout:
            offline = bundle.bundle(checkout, say)
        if any(not host.is_bare for host in hosts):
            programs = find_all(NODE_PROGRAMS)
            seed = seed_of(checkout, say)
        remains.clear(self.folder)
        self.folder.mkdir(parents=True, mode=0o700)
        for name in ("pki", "logs", "hosts"):
            (self.folder / name).mkdir(mode=0o700)
        if offline:
            self.bundle.symlink_to(offline)
        say("laying down the hosts")
        self.hosts.prepare(hosts, programs, seed)

    # --- each time -------------------------------------------------------------------------------

    def _switch_on(self, record: ClusterRecord, say: Say) -> None:
        if not self.network.stands():
            # What runs still stands in namespaces that are gone.
            for host in record.hosts:
                self.hosts.cut(host)
            say("laying the network")
            self.network.make(record.devices)
        _allow_watchers()
        alive = processes.running(self.folder)
        say(f"booting {', '.join(host.name for host in record.hosts)}")
        for host in record.hosts:
            if host.name not in alive:
                self.hosts.start(host)
        if SIMULATOR not in alive:
            self._start_simulator(record)
        if record.store and store.PROGRAM not in alive:
            log = self.log_of(store.PROGRAM)
            store.start(self.folder, self.network, record.store, log)
        if FORWARD not in alive and _servers(record):
            self._start_forward(record)
        self.hosts.await_ssh(record.hosts)

    def _start_simulator(self, record: ClusterRecord) -> None:
        serve = processes.python(
            "control_plane.cli", "simulate", "serve", "--declared", f"--site={record.site}",
            f"--inventory={record.inventory}", f"--simulation={self.folder / 'simulation'}",
        )  # fmt: skip
        processes.start(
            SIMULATOR, self.network.inside(*serve), lab=self.folder, log=self.log_of(SIMULATOR)
        )

    def _start_forward(self, record: ClusterRecord) -> None:
        # It listens here and, once somebody calls, connects there: nsenter keeps what it listens on.
        [server] = _servers(record)
        connect = self.network.inside(_PROXY, f"{server.address}:{kubeadm.API_PORT}")
        kept = [f"--setenv={name}" for name in processes.MARKS]
        processes.start(
            FORWARD,
            ["systemd-socket-activate", f"--listen={HOST}:{record.port}", *kept, *connect],
            lab=self.folder,
            log=self.log_of(FORWARD),
        )

    def _bring_up(self, record: ClusterRecord, say: Say) -> None:
        """Kubernetes on every host that is not bare; what is there already is left alone."""
        [server] = _servers(record)
        nodes = [host for host in record.hosts if not host.is_bare]
        lacking = [host for host in nodes if not self._has(host, _JOINED)]
        if server in lacking:
            say(f"kubeadm init on {server.name}")
            config = kubeadm.init_config(
                server, token=kubeadm.new_token(), names=[HOST, "localhost"]
            )
            self._kubeadm(server, "init", config)
        self._write_kubeconfigs(record, server)
        joining = [host for host in lacking if host is not server]
        if joining:
            say(f"kubeadm join on {', '.join(host.name for host in joining)}")
            token = self.hosts.run(server, "kubeadm token create --ttl 15m").strip()
            authority = self.hosts.run(server, "cat /etc/kubernetes/pki/ca.crt")
            pin = kubeadm.pin_of(authority.encode())
            self._each(joining, partial(self._join, server=server, token=token, pin=pin))
        say("waiting for the nodes and their proxies")
        self._wait(record, _PROXIES)
        self.hosts.run(server, _ADD_COREDNS)
        say("waiting for CoreDNS")
        self._wait(record, _EVERYTHING)

    def _write_kubeconfigs(self, record: ClusterRecord, server: HostRecord) -> None:
        if self.kubeconfig.exists():
            return
        admin = self.hosts.run(server, "cat /etc/kubernetes/admin.conf")
        pki.write_private(self.kubeconfig_inside, admin.encode())
        outside = admin.replace(
            f"https://{server.address}:{kubeadm.API_PORT}", f"https://{HOST}:{record.port}"
        )
        pki.write_private(self.kubeconfig, outside.encode())

    def _join(self, host: HostRecord, *, server: HostRecord, token: str, pin: str) -> None:
        # A node of an earlier attempt that was cut off: kubeadm refuses its name.
        self.hosts.run(server, f"{_KUBECTL} delete node {host.name} --ignore-not-found")
        self._kubeadm(host, "join", kubeadm.join_config(host, server, token=token, pin=pin))

    def _kubeadm(self, host: HostRecord, verb: str, config: str) -> None:
        """Begun anew where an earlier one was cut off: kubeadm refuses what it left half-way."""
        try:
            self.hosts.run(
                host,
                f"umask 077 && cat > {_CONFIG} && kubeadm reset --force >/dev/null 2>&1;"
                f" kubeadm {verb} --config {_CONFIG} && touch {_JOINED}",
                text=config,
            )
        except CommandFailed as error:
            raise LabError(
                f"kubeadm {verb} fails on {host.name} (its configuration is in {_CONFIG} there); `up` "
                f"begins it anew. {error}"
            ) from error

    def _wait(self, record: ClusterRecord, wanted: str) -> None:
        until = time.monotonic() + READY_S
        while not self._shows(record, wanted):
            if time.monotonic() > until:
                raise LabError(
                    f"the cluster is not ready after {READY_S:.0f} s: `gridplane lab exec -- kubectl get "
                    "nodes,pods -A` shows what is missing"
                )
            time.sleep(_TICK_S)

    def _shows(self, record: ClusterRecord, wanted: str) -> bool:
        """Whether so many nodes are ready, in this very boot, and what is `wanted` of what runs on them.

        The server alone would do for a cluster that was left alone: of a host that has just rebooted it
        goes on telling for a while what was so before.
        """
        servers = _servers(record)
        if not servers:
            return True
        nodes = [host for host in record.hosts if not host.is_bare]
        try:
            told = self.hosts.run(servers[0], _ASK).split()
            boots = [self.hosts.run(host, _BOOT).split() for host in nodes]
        except CommandFailed:
            return False
        expected = ["True"] * len(nodes) + wanted.format(nodes=len(nodes)).split()
        are_routed = all(routed == ["routed"] for _, *routed in boots)
        known = frozenset(told[-len(nodes) :])
        return told[: len(expected)] == expected and are_routed and {b[0] for b in boots} == known

    def _has(self, host: HostRecord, path: str) -> bool:
        return self.hosts.run(host, f"test -e {path} && echo there || true").strip() == "there"

    def _each(self, hosts: Sequence[HostRecord], act: Callable[[HostRecord], None]) -> None:
        with ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(act, hosts))


def _allow_watchers() -> None:
    """Raise what the hosts share, where it is too low; it stays raised, as others may rely on it by then.

    Raises:
        LabError: this machine does not let us.
    """
    if int(_WATCHERS.read_text()) >= _WATCHERS_MIN:
        return
    try:
        _WATCHERS.write_text(str(_WATCHERS_MIN))
    except OSError as error:
        raise LabError(
            f"hosts take more inotify instances than this machine allows ({error.strerror}): "
            f"sysctl --write fs.inotify.max_user_instances={_WATCHERS_MIN}"
        ) from error


def seed_of(checkout: Path | None, say: Say = lambda _text: None) -> Path:
    """The containerd root that a node starts with: the control plane's images, and gridplane's.

    Raises:
        ImageError: an image cannot be built here.
        CommandFailed: containerd refuses one.
    """
    seed = seeds.seed(images.control_plane(say), say=say)
    if checkout:
        _, archive = images.gridplane(checkout, say)
        seed = seeds.seed([archive], seed, say)
    return seed


def declared_hosts(
    site: Site, *, bare: frozenset[str] = frozenset(), only: frozenset[str] = frozenset()
) -> list[HostRecord]:
    """The hosts that a site declares: its management hosts, then its GPU nodes.

    The first that is not bare is the server.

    Raises:
        LabError: names that it does not declare, none at all, or more than one machine holds.
    """
    declared = [(host.name, host.address) for host in site.hosts] + [
        (device.asset, device.address)
        for device in site.devices
        if device.type.kind is DeviceKind.GPU_NODE and device.is_managed and device.address
    ]
    unknown = (only | bare) - {name for name, _ in declared} - {"all"}
    if unknown:
        known = ", ".join(name for name, _ in declared[: MOST_HOSTS + 1])
        raise LabError(
            f"{site.id} declares no host {', '.join(sorted(unknown))}; it has {known} ..."
        )
    chosen = [(name, address) for name, address in declared if not only or name in only]
    if not chosen or len(chosen) > MOST_HOSTS:
        raise LabError(
            f"{site.id} declares {len(chosen)} hosts, and a lab has 1 to {MOST_HOSTS}: name some with --host"
        )
    roles = iter(("server", *("agent" for _ in chosen)))
    return [
        HostRecord(
            name=name,
            number=number,
            address=address,
            role="bare" if bare & {name, "all"} else next(roles),
        )
        for number, (name, address) in enumerate(chosen, 1)
    ]


def device_networks(site: Site) -> list[str]:
    """CIDRs of every miner and the store, of no host: declared addresses, subnets of those on DHCP."""
    miners = [d for d in site.devices if d.type.kind is DeviceKind.MINER]
    places = {place for d in miners if (place := d.address or d.subnet)}
    moving = (d.renumbering for d in miners if d.renumbering)
    places |= {place for moves in moving if (place := moves.address or moves.subnet)}
    served = store.address_of(site)
    return collapsed(sorted({*places, served} if served else places))


def _servers(record: ClusterRecord) -> list[HostRecord]:
    return [host for host in record.hosts if host.role == "server"]
