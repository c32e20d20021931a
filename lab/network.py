"""The lab's own network: a LAN with the inventory's addresses, and a way out of it.

    hosts, outsider -- [bridge] LAN namespace -- uplink -- this machine -- the internet
                                      |
                             internet namespace (a few names of the internet, simulated)

The LAN exists inside namespaces only, so its addresses may be those of the network that this
machine is in. On the way out it is hidden twice: behind the LAN namespace's uplink address, and behind
this machine. Addresses that are the lab's own are from a range that nobody uses, 198.18.0.0/15
(RFC 2544); the ranges for documentation are in use, by sandboxes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from lab import kernel
from lab.system import LabError, Process, end, locked, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["INTERNET_ADDRESS", "NAMESERVER", "Network", "Plan", "plan", "processes_in"]

INTERNET_ADDRESS = IPv4Address("198.19.0.10")
"""Where the simulated part of the internet answers."""

NAMESERVER = IPv4Address("198.19.1.53")
"""Where the lab's hosts ask for names; on this machine it becomes this machine's own resolver."""

_INTERNET_ROUTER = IPv4Address("198.19.0.1")
_UPLINKS = IPv4Network("198.18.0.0/16")
_OUR_OWN = IPv4Network("198.18.0.0/15")
_LAN_RULES = """
    table ip lab {
        chain way_out {
            type nat hook postrouting priority srcnat;
            oifname "uplink" masquerade
        }
        chain segment_size {
            type filter hook forward priority mangle;
            oifname "uplink" tcp flags syn tcp option maxseg size set rt mtu
        }
    }
"""
_NAMESPACES = Path("/run/netns")
_NAMESPACE_FILES = Path("/etc/netns")


@dataclass(frozen=True)
class Plan:
    """Addresses of the LAN, none of them a host's: of the router by subnet, and of the outsider."""

    routers: dict[IPv4Network, IPv4Address]
    outsider: IPv4Address

    def router_of(self, address: IPv4Address) -> tuple[IPv4Network, IPv4Address]:
        """Return the subnet that an address is in, and the router's address there."""
        return next(item for item in self.routers.items() if address in item[0])


def plan(hosts: Iterable[IPv4Address]) -> Plan:
    """Choose addresses for what the inventory does not name, in subnets of 24 bits each.

    Raises:
        LabError: where a subnet is full, or is one that the lab needs for itself.

    """
    taken = set(hosts)
    for address in taken:
        if address in _OUR_OWN:
            raise LabError(f"{address}: the lab needs {_OUR_OWN} for itself")
    subnets = sorted({IPv4Network((address, 24), strict=False) for address in taken})
    routers: dict[IPv4Network, IPv4Address] = {}
    for subnet in subnets:
        routers[subnet] = _free(subnet, 1, taken)
    return Plan(routers, _free(subnets[0], 250, taken | set(routers.values())))


def _free(subnet: IPv4Network, preferred: int, taken: set[IPv4Address]) -> IPv4Address:
    candidates = [subnet[preferred], *reversed(list(subnet.hosts()))]
    free = next((address for address in candidates if address not in taken), None)
    if free is None:
        raise LabError(f"the subnet {subnet} of the inventory has no address left for the lab")
    return free


@dataclass(frozen=True)
class Network:
    """The network of one lab. Everything in it has a name that begins with the lab's `id`."""

    id: str

    @property
    def lan(self) -> str:
        """Namespace of the router; the control side's commands run in it."""
        return f"{self.id}-lan"

    @property
    def internet(self) -> str:
        """Namespace of the simulated part of the internet."""
        return f"{self.id}-internet"

    @property
    def outsider(self) -> str:
        """Namespace of a machine in the LAN that does not belong to the fleet."""
        return f"{self.id}-outsider"

    def host(self, name: str) -> str:
        """Namespace of a host."""
        return f"{self.id}-host-{name}"

    @property
    def uplink(self) -> str:
        """Name of the interface on this machine, and of the table of rules; of 15 characters at most."""
        return f"jl{hashlib.sha256(self.id.encode()).hexdigest()[:8]}"

    def create(self, plan: Plan, names: Mapping[str, IPv4Address]) -> None:
        """Make the LAN, the way out, and the place of the simulated internet.

        `names` are those that commands in the LAN find in their hosts file.
        """
        for namespace in (self.lan, self.internet):
            _add_namespace(namespace)
        _ip(self.lan, "link add lan0 type bridge", "link set lan0 up")
        for subnet, router in plan.routers.items():
            _ip(self.lan, f"address add {router}/{subnet.prefixlen} dev lan0")
        _inside(self.lan, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._add_internet()
        self.attach(self.outsider, plan.outsider, plan)
        self._add_uplink()
        self.write_names(names)

    def attach(self, namespace: str, address: IPv4Address, plan: Plan) -> None:
        """Plug a new namespace into the LAN, with an address and a way out."""
        subnet, router = plan.router_of(address)
        _add_namespace(namespace)
        port = _port(address)
        _ip(self.lan, f"link add {port} type veth peer name eth0 netns {namespace}")
        _ip(self.lan, f"link set {port} master lan0", f"link set {port} up")
        _ip(
            namespace,
            f"address add {address}/{subnet.prefixlen} dev eth0",
            "link set eth0 up",
            f"route add default via {router}",
        )

    def write_names(self, names: Mapping[str, IPv4Address]) -> None:
        """Tell commands in the LAN these names; `ip netns exec` puts the files over those of /etc."""
        directory = _NAMESPACE_FILES / self.lan
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "resolv.conf").write_text(f"nameserver {NAMESERVER}\n")
        lines = [f"{address} {name}" for name, address in names.items()]
        (directory / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))

    def detach(self, namespace: str) -> None:
        """End what runs in a namespace and remove it with its interfaces."""
        end(processes_in([namespace]))
        run("ip", "netns", "delete", namespace)

    def partition(self, address: IPv4Address) -> None:
        """Pull the cable of the machine that has this address."""
        _ip(self.lan, f"link set {_port(address)} down")

    def heal(self, address: IPv4Address) -> None:
        """Plug the cable back in."""
        _ip(self.lan, f"link set {_port(address)} up")

    def degrade(self, address: IPv4Address, netem: str | None) -> None:
        """Make the way to a machine bad in the words of tc-netem(8), e.g. `delay 200ms loss 5%`."""
        device = ("dev", _port(address), "root")
        with suppress(LabError):
            _inside(self.lan, "tc", "qdisc", "delete", *device)
        if netem:
            _inside(self.lan, "tc", "qdisc", "add", *device, "netem", *netem.split())

    def namespaces(self) -> list[str]:
        """Return the namespaces that are there."""
        return sorted(path.name for path in _NAMESPACES.glob(f"{self.id}-*"))

    def destroy(self) -> None:
        """Remove everything, whatever state it is in, and end every process in it."""
        namespaces = self.namespaces()
        end(processes_in(namespaces))
        self._remove_uplink()
        for namespace in namespaces:
            run("ip", "netns", "delete", namespace)
        for directory in _NAMESPACE_FILES.glob(f"{self.id}-*"):
            for file in directory.iterdir():
                file.unlink()
            directory.rmdir()

    def _add_internet(self) -> None:
        _ip(self.lan, f"link add internet type veth peer name eth0 netns {self.internet}")
        _ip(self.lan, f"address add {_INTERNET_ROUTER}/24 dev internet", "link set internet up")
        _ip(
            self.internet,
            f"address add {INTERNET_ADDRESS}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {_INTERNET_ROUTER}",
        )

    def _add_uplink(self) -> None:
        outside = _Outside.look()
        with locked(kernel.RUNTIME / "lock"):
            here, there = _free_link()
            _root_ip(
                f"link add {self.uplink} mtu {outside.mtu} type veth "
                f"peer name uplink mtu {outside.mtu} netns {self.lan}",
                f"address add {here}/30 dev {self.uplink}",
                f"link set {self.uplink} up",
            )
        _ip(
            self.lan,
            f"address add {there}/30 dev uplink",
            "link set uplink up",
            f"route add default via {here}",
        )
        run("ip", "netns", "exec", self.lan, "nft", "-f", "-", given=_LAN_RULES)
        self._forward(outside.devices)
        run("nft", "-f", "-", given=self._outside_rules(there, outside.resolver))
        self._pass_other_firewalls()

    def _outside_rules(self, lab: IPv4Address, resolver: IPv4Address) -> str:
        return f"""
            table ip {self.uplink} {{
                chain names {{
                    type nat hook prerouting priority dstnat;
                    iifname "{self.uplink}" ip daddr {NAMESERVER} meta l4proto {{ tcp, udp }} \\
                        th dport 53 dnat to {resolver}
                }}
                chain way_out {{
                    type nat hook postrouting priority srcnat;
                    ip saddr {lab} masquerade
                }}
            }}
        """

    def _forward(self, devices: Iterable[str]) -> None:
        """Let packets pass between the lab and the world.

        Only on the interfaces that need it, so that this machine does not become a router for
        everybody.
        """
        kernel.borrow(self.id, {_forwarding(device): 1 for device in (self.uplink, *devices)})

    def _pass_other_firewalls(self) -> None:
        """Ask firewalls that drop what is forwarded (Docker's, ufw's) to let the lab's packets pass."""
        for family, table, chain in _dropping_chains():
            for direction in ("iifname", "oifname"):
                run(
                    *("nft", "insert", "rule", family, table, chain),
                    *(direction, self.uplink, "accept", "comment", f'"{self.uplink}"'),
                )

    def _remove_uplink(self) -> None:
        for family, table, chain in _dropping_chains():
            listed = run("nft", "--handle", "list", "chain", family, table, chain)
            for handle in re.findall(rf'comment "{self.uplink}" # handle (\d+)', listed):
                run("nft", "delete", "rule", family, table, chain, "handle", handle)
        if f"table ip {self.uplink}" in run("nft", "list", "tables").splitlines():
            run("nft", "delete", "table", "ip", self.uplink)
        if Path("/sys/class/net", self.uplink).exists():
            _root_ip(f"link delete {self.uplink}")


@dataclass(frozen=True)
class _Outside:
    """How this machine reaches the world: through which interfaces, and whom it asks for names.

    `mtu` is in bytes, the smallest on the way.
    """

    devices: tuple[str, ...]
    mtu: int
    resolver: IPv4Address

    @classmethod
    def look(cls) -> _Outside:
        resolver = _resolver()
        routes = [
            *json.loads(run("ip", "-json", "-4", "route", "show", "default")),
            *json.loads(run("ip", "-json", "-4", "route", "get", str(resolver))),
        ]
        devices = tuple(sorted({route["dev"] for route in routes}))
        sizes = [int(Path("/sys/class/net", device, "mtu").read_text()) for device in devices]
        return cls(devices, min(sizes), resolver)


_RESOLVER_FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def _resolver() -> IPv4Address:
    """Return this machine's name server; not one on loopback, which answers this machine only."""
    for file in _RESOLVER_FILES:
        with suppress(FileNotFoundError):
            for found in re.findall(r"(?m)^nameserver\s+([0-9.]+)\s*$", Path(file).read_text()):
                address = IPv4Address(found)
                if not address.is_loopback:
                    return address
    raise LabError(f"no IPv4 name server outside of loopback in {' or '.join(_RESOLVER_FILES)}")


def _free_link() -> tuple[IPv4Address, IPv4Address]:
    """Return the two addresses of a network of 30 bits that this machine does not use."""
    listed = json.loads(run("ip", "-json", "-4", "address"))
    used = [
        IPv4Network((item["local"], item["prefixlen"]), strict=False)
        for interface in listed
        for item in interface["addr_info"]
    ]
    free = (
        candidate
        for candidate in _UPLINKS.subnets(new_prefix=30)
        if not any(candidate.overlaps(network) for network in used)
    )
    here, there = next(free).hosts()
    return here, there


def _dropping_chains() -> Iterator[tuple[str, str, str]]:
    """Yield family, table and name of the chains that drop forwarded packets by default."""
    for item in json.loads(run("nft", "--json", "list", "chains"))["nftables"]:
        chain = item.get("chain", {})
        if (
            chain.get("hook") == "forward"
            and chain.get("policy") == "drop"
            and chain["family"] in {"ip", "inet"}
        ):
            yield chain["family"], chain["table"], chain["name"]


def _forwarding(device: str) -> Path:
    return Path("/proc/sys/net/ipv4/conf", device, "forwarding")


def _port(address: IPv4Address) -> str:
    """Name the router's end of a machine's cable."""
    return f"p{int(address):08x}"


def _add_namespace(name: str) -> None:
    run("ip", "netns", "add", name)
    _ip(name, "link set lo up")


def processes_in(namespaces: Iterable[str]) -> list[Process]:
    """Return the processes in namespaces, except those that this one descends from."""
    own = set(_ancestry())
    places = {_identity(_NAMESPACES / namespace) for namespace in namespaces}
    found = []
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        # Processes end while the list is read.
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = int(entry.parts[2])
            process = Process.find(pid) if _identity(entry) in places else None
            if process and pid not in own:
                found.append(process)
    return found


def _identity(namespace: Path) -> tuple[int, int]:
    status = namespace.stat()
    return status.st_dev, status.st_ino


def _ancestry() -> Iterator[int]:
    pid = os.getpid()
    while pid > 1:
        yield pid
        status = Path(f"/proc/{pid}/status").read_text()
        pid = int(next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1])


def _inside(namespace: str, *command: str) -> None:
    run("ip", "netns", "exec", namespace, *command)


def _ip(namespace: str, *lines: str) -> None:
    run("ip", "-n", namespace, "-batch", "-", given="\n".join(lines))


def _root_ip(*lines: str) -> None:
    run("ip", "-batch", "-", given="\n".join(lines))
