"""The lab itself: its hosts are machines, its network is closed, and it goes away without a trace."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from control import eventually
from starlette.testclient import TestClient

from lab import fleet, machine, overlay
from lab.fleet import suite_of
from lab.image import Suite
from lab.internet import Fault
from lab.laboratory import REPOSITORY, Lab, Machine
from lab.loopback import Loopback
from lab.mirror import Config, application
from lab.network import plan
from lab.release import CHECKSUMS
from lab.supply import ARCHIVES_VARIABLE, STORE_VARIABLE, find_supply
from lab.system import LabError, Process
from litellm_plugins.schema import Fleet, load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from httpx import Response
    from starlette.types import ASGIApp

FIRST, SECOND, GATEWAY = "fast", "slow", "brain"


def on(lab: Lab, host: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script on a host as the ordinary user."""
    command = lab.command("ssh", "-F", str(lab.login.config), *options, host, script)
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def said(lab: Lab, host: str, script: str) -> str:
    done = on(lab, host, script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reaches(lab: Lab, namespace: str, address: IPv4Address, port: int = 22) -> bool:
    script = f"exec 3<>/dev/tcp/{address}/{port}"
    command = lab.command("timeout", "2", "bash", "-c", script, namespace=namespace)
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


# The hosts


def test_a_host_is_logged_into_as_an_ordinary_user_with_sudo(lab: Lab) -> None:
    assert said(lab, FIRST, "whoami; sudo -n whoami") == "lab\nroot"


def test_root_cannot_log_in(lab: Lab) -> None:
    keys = lab.hosts[FIRST].root / "root/.ssh/authorized_keys"
    keys.parent.mkdir(mode=0o700, exist_ok=True)
    keys.write_text((lab.login.directory / "id_ed25519.pub").read_text())
    done = on(lab, FIRST, "true", "-l", "root")
    assert done.returncode == 255
    assert "Permission denied" in done.stderr


def test_hosts_have_the_addresses_and_names_of_the_inventory(lab: Lab) -> None:
    for name, node in lab.state.fleet.nodes.items():
        assert said(lab, str(node.address), "hostname") == name
        assert f"inet {node.address}/" in said(lab, name, "ip -4 address show eth0")


def test_one_host_runs_debian_13_and_the_others_debian_12(lab: Lab) -> None:
    releases = {name: said(lab, name, ". /etc/os-release; echo $VERSION_ID") for name in lab.hosts}
    assert releases == {GATEWAY: "12", FIRST: "12", SECOND: "13"}


def test_services_have_all_started(lab: Lab) -> None:
    for name in lab.hosts:
        assert said(lab, name, "systemctl is-system-running") == "running"


def test_hosts_have_keys_of_their_own_and_a_changed_one_is_noticed(lab: Lab) -> None:
    lines = lab.login.known_hosts.read_text().splitlines()
    assert len({line.split()[2] for line in lines}) == len(lab.hosts)

    host = lab.hosts[FIRST]
    old = {file.path: (host.root / file.path[1:]).read_text() for file in lab.login.prepare(FIRST)}
    known = lab.login.known_hosts.read_text()
    for file in lab.login.change_host_key(FIRST):
        host.write(file)
    try:
        done = on(lab, FIRST, "true", "-o", "ControlPath=none")
        assert done.returncode == 255
        assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr
        assert lab.login.known_hosts.read_text() == known
    finally:
        for path, text in old.items():
            (host.root / path[1:]).write_text(text)


def test_services_of_one_host_are_not_those_of_another(lab: Lab) -> None:
    unit = "sudo systemd-run --quiet --unit=same-name sleep 600"
    for name in (FIRST, GATEWAY):
        said(lab, name, unit)
    said(lab, FIRST, "sudo systemctl stop same-name")
    assert said(lab, GATEWAY, "systemctl is-active same-name") == "active"
    said(lab, GATEWAY, "sudo systemctl stop same-name")


def test_address_filters_of_services_have_an_effect(lab: Lab) -> None:
    address = lab.hosts[GATEWAY].address
    look = f"bash -c 'exec 3<>/dev/tcp/{address}/22'"
    run = "sudo systemd-run --quiet --wait --property=RuntimeMaxSec=5"
    assert on(lab, FIRST, f"{run} {look}").returncode == 0
    assert on(lab, FIRST, f"{run} --property=IPAddressDeny=any {look}").returncode != 0


def test_a_declared_gpu_is_in_sys_and_none_where_none_is_declared(lab: Lab) -> None:
    script = "grep -l 0x0300 /sys/bus/pci/devices/*/class | wc -l; ls /sys/class/drm | wc -l"
    assert said(lab, FIRST, script) == "1\n2"
    assert said(lab, FIRST, "nvidia-smi --query-gpu=memory.total,name --format=csv").startswith(
        f"{24 * 1024}, "
    )
    assert said(lab, SECOND, "ls -d /sys/bus/pci/devices/0000:c5* 2>/dev/null | wc -l") == "0"


def test_the_simulated_ollama_is_told_the_declared_hardware(lab: Lab) -> None:
    told = json.loads(said(lab, FIRST, "cat /etc/simulated-hardware.json"))
    assert (told["profile"], told["memory_gib"]) == ("nvidia", 24)


# Power and cables


def test_after_a_power_cut_a_host_boots_with_what_it_had_written(lab: Lab) -> None:
    host = lab.hosts[SECOND]
    before = said(lab, SECOND, "sync; echo kept > kept; sync; cat /proc/sys/kernel/random/boot_id")
    host.power_cut()
    assert not host.is_running
    assert not reaches(lab, lab.network.lan, host.address)
    assert lab.hosts[FIRST].is_running

    host.boot()
    after = said(lab, SECOND, "cat kept /proc/sys/kernel/random/boot_id")
    assert after.startswith("kept\n")
    assert before not in after


def test_a_host_is_shut_down_in_order(lab: Lab) -> None:
    host = lab.hosts[SECOND]
    script = "sudo systemd-run --quiet --property=ExecStopPost='touch /var/in-order' sleep 600"
    said(lab, SECOND, script)
    host.power_off()
    assert not host.is_running
    assert (host.root / "var/in-order").exists()
    host.boot()


def test_a_host_can_reboot_itself(lab: Lab) -> None:
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = said(lab, SECOND, boot_id)
    on(lab, SECOND, "sudo systemctl reboot")

    def is_back() -> bool:
        done = on(lab, SECOND, boot_id, "-o", "ControlPath=none")
        return done.returncode == 0 and done.stdout.strip() != before

    eventually(is_back)


def test_a_partitioned_host_runs_and_is_not_reached(lab: Lab) -> None:
    host = lab.hosts[SECOND]
    lab.network.partition(host.address)
    try:
        assert not reaches(lab, lab.network.lan, host.address)
        assert host.is_running
    finally:
        lab.network.heal(host.address)
    eventually(lambda: reaches(lab, lab.network.lan, host.address))


def test_a_host_can_be_added(lab: Lab) -> None:
    host = lab.add_host("late", Machine(address=IPv4Address("10.20.0.77")))
    assert said(lab, "late", "hostname") == "late"
    assert list(Lab(lab.name).hosts) == [*lab.state.fleet.nodes, "late"]
    assert reaches(lab, lab.network.host(FIRST), host.address)
    assert said(lab, "late", "getent hosts $(head -1 /etc/apt/sources.list | cut -d/ -f3)")


# The network


def test_an_outsider_is_in_the_lan_and_not_in_the_fleet(lab: Lab) -> None:
    outsider = lab.state.plan.outsider
    assert outsider not in {host.address for host in lab.hosts.values()}
    listen = "python3 -c 'import socket; s = socket.create_server((\"\", 7000)); print(s.accept()[1][0])'"
    command = lab.command("ssh", "-F", str(lab.login.config), FIRST, listen)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listening:
        address = lab.hosts[FIRST].address
        eventually(lambda: reaches(lab, lab.network.outsider, address, 7000))
        assert listening.communicate()[0].strip() == str(outsider)


def test_this_machine_has_no_way_into_the_lan(lab: Lab) -> None:
    address = str(lab.hosts[FIRST].address)
    routes = json.loads(subprocess.check_output(["ip", "-json", "route", "show", "table", "all"]))
    assert not [route for route in routes if route["dst"].startswith("10.20.0.")]
    assert address not in Path("/proc/net/fib_trie").read_text()


def test_debian_packages_come_from_the_real_mirrors(lab: Lab) -> None:
    said(lab, FIRST, "sudo apt-get update --quiet")
    assert "Candidate: (none)" not in said(lab, FIRST, "apt-cache policy zstd")


def test_commands_in_the_lab_know_its_names(lab: Lab) -> None:
    gateway = lab.state.fleet.gateway
    found = subprocess.check_output(lab.command("getent", "hosts", gateway.hostname), text=True)
    assert found.split()[0] == str(lab.hosts[GATEWAY].address)


# The simulated internet


def release_url(lab: Lab, asset: str) -> str:
    supply = lab.state.supply
    return f"{lab.state.fleet.ollama.release_url}/v{supply.version}/{asset}"


def fetch(lab: Lab, url: str) -> subprocess.CompletedProcess[str]:
    return on(lab, FIRST, f"wget --quiet --output-document=- --tries=1 {url} | sha256sum")


def asset_of(lab: Lab) -> tuple[str, str]:
    checksums = lab.state.supply.sha256[lab.state.supply.version]
    return next(iter(checksums.items()))


def test_a_release_is_downloaded_from_its_production_url(lab: Lab) -> None:
    asset, sha256 = asset_of(lab)
    before = len(lab.internet.requests())
    assert fetch(lab, release_url(lab, asset)).stdout.split()[0] == sha256
    hosts = [item.host for item in lab.internet.requests()[before:]]
    assert hosts == ["github.com", "release-assets.githubusercontent.com"]


def test_the_list_of_checksums_is_that_of_the_release(lab: Lab) -> None:
    asset, sha256 = asset_of(lab)
    lines = said(lab, FIRST, f"wget --quiet --output-document=- {release_url(lab, CHECKSUMS)}")
    assert f"{sha256}  ./{asset}" in lines.splitlines()


def test_this_machine_does_not_trust_the_simulated_internet(lab: Lab) -> None:
    script = "wget --quiet --output-document=- --tries=1 https://registry.ollama.ai/v2/"
    assert on(lab, FIRST, script).returncode == 8  # an answer, of a server that is trusted
    address = subprocess.check_output(lab.command("cat", "/etc/hosts"), text=True)
    assert "registry.ollama.ai" not in address


@pytest.mark.parametrize(
    ("fault", "is_good"),
    [
        pytest.param(Fault(status=500), False, id="status"),
        pytest.param(Fault(corrupt=True), False, id="corrupt"),
        pytest.param(Fault(cut_after_bytes=1000), False, id="cut"),
        pytest.param(Fault(bytes_per_second=50_000_000), True, id="slow"),
        pytest.param(Fault(path="/another/*", status=500), True, id="elsewhere"),
        pytest.param(Fault(host="registry.ollama.ai", status=500), True, id="other host"),
    ],
)
def test_faults_happen_as_long_as_they_are_asked_for(lab: Lab, fault: Fault, is_good: bool) -> None:
    asset, sha256 = asset_of(lab)
    url = release_url(lab, asset)
    with lab.internet.faults(fault):
        assert (fetch(lab, url).stdout.split()[0] == sha256) == is_good
    assert fetch(lab, url).stdout.split()[0] == sha256


def test_a_fault_can_be_for_the_first_requests_only(lab: Lab) -> None:
    asset, sha256 = asset_of(lab)
    with lab.internet.faults(Fault(status=503, times=1)):
        assert fetch(lab, release_url(lab, asset)).stdout.split()[0] != sha256
        assert fetch(lab, release_url(lab, asset)).stdout.split()[0] == sha256


# The server behind it, without hosts

BLOB = b"weights of a model"
DIGEST = hashlib.sha256(BLOB).hexdigest()
MANIFEST = b'{"schemaVersion": 2}'


@pytest.fixture
def server(tmp_path: Path) -> ASGIApp:
    files = {
        "releases/v1.0.0/archive": b"0123456789",
        f"store/blobs/sha256-{DIGEST}": BLOB,
        "store/manifests/registry.ollama.ai/library/m/latest": MANIFEST,
        "secret": b"not to be served",
        "faults.json": b"[]",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return application(
        Config(
            address="127.0.0.1",
            listeners=(),
            certificate=tmp_path,
            key=tmp_path,
            releases=tmp_path / "releases",
            store=tmp_path / "store",
            release_hosts=("mirror.example",),
            registry_hosts=("registry.example",),
            faults=tmp_path / "faults.json",
            log=tmp_path / "requests.jsonl",
            ready=tmp_path / "ready",
        )
    )


def get(server: ASGIApp, url: str, method: str = "GET", **headers: str) -> Response:
    return TestClient(server).request(method, url, headers=headers, follow_redirects=False)


def test_a_blob_is_answered_as_the_real_registry_does(server: ASGIApp) -> None:
    url = f"https://registry.ollama.ai/v2/library/m/blobs/sha256:{DIGEST}"
    assert get(server, url, "HEAD").headers["content-length"] == str(len(BLOB))
    answer = get(server, url)
    assert answer.status_code == 307
    place = answer.headers["location"]
    assert not place.startswith("https://registry.ollama.ai/")
    assert get(server, place).content == BLOB
    part = get(server, place, Range="bytes=3-6")
    assert (part.status_code, part.content) == (206, BLOB[3:7])


@pytest.mark.parametrize("host", ["registry.ollama.ai", "registry.example"])
def test_a_manifest_is_handed_out_byte_for_byte(server: ASGIApp, host: str) -> None:
    answer = get(server, f"https://{host}/v2/library/m/manifests/latest")
    assert answer.content == MANIFEST
    assert answer.headers["content-type"].startswith("application/vnd.docker.distribution.manifest")


def test_what_the_registry_lacks_is_an_error_in_its_words(server: ASGIApp) -> None:
    answer = get(server, "https://registry.ollama.ai/v2/library/m/manifests/other")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


def test_a_mirror_of_releases_is_answered_for_by_its_name(server: ASGIApp) -> None:
    assert get(server, "https://mirror.example/some/path/v1.0.0/archive").content == b"0123456789"


def test_the_download_page_leads_to_the_release(server: ASGIApp) -> None:
    place = get(server, "https://ollama.com/download/archive?version=1.0.0").headers["location"]
    assert place == "https://github.com/ollama/ollama/releases/download/v1.0.0/archive"
    assert get(server, place).status_code == 302


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/ollama/ollama/releases/download/v9.9.9/archive",
        "https://mirror.example/x/..%2f../secret",
        "https://mirror.example/x/%2e%2e/secret",
        f"https://registry.ollama.ai/v2/library/m/blobs/sha256:{'0' * 64}",
        "https://registry.ollama.ai/v2/library/m/blobs/sha256:..%2fsecret",
        "https://unknown.example/v2/library/m/manifests/latest",
    ],
)
def test_nothing_else_is_served(server: ASGIApp, url: str) -> None:
    assert get(server, url).status_code == 404


# Going away


def traces(lab: Lab) -> list[str]:
    """Return what is there of a lab on this machine."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line.split()[4] for line in mounts if str(lab.directory) in line or lab.id in line]
    for folder in ("/run/netns", "/etc/netns", "/run/jarvis-lab", "/run/systemd/nspawn/propagate"):
        found += [str(path) for path in Path(folder).glob(f"{lab.id}*")]
    for root in ("systemd", "unified", "."):
        found += [str(path) for path in Path("/sys/fs/cgroup", root).glob(f"jarvis-lab/{lab.id}*")]
    found += [str(path) for path in lab.directory.parent.glob(f"{lab.directory.name}/*")]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"={lab.id}.".encode() in arguments or str(lab.directory).encode() in arguments:
            found.append(str(entry))
    rules = subprocess.check_output(["nft", "list", "ruleset"], text=True)
    found += [line for line in rules.splitlines() if lab.network.uplink in line]
    return found + [str(path) for path in Path("/sys/class/net").glob(lab.network.uplink)]


@pytest.fixture
def gone() -> Iterator[Lab]:
    """A lab that is not there."""
    if machine.why_not():
        pytest.skip(str(machine.why_not()))
    lab = Lab("test-gone")
    lab.down()
    yield lab
    lab.down()


def start(lab: Lab) -> subprocess.Popen[bytes]:
    inventory = str(Path(__file__).with_name("small_fleet.py"))
    return subprocess.Popen(
        [sys.executable, "-m", "lab", "up", "--name", lab.name, "--inventory", inventory],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
    )


def test_down_leaves_nothing(gone: Lab) -> None:
    assert start(gone).wait() == 0
    assert gone.is_up
    assert traces(gone)
    assert gone.network.uplink in " ".join(traces(gone))
    gone.down()
    assert traces(gone) == []


@pytest.mark.parametrize(
    "reached",
    [
        pytest.param(lambda lab: lab.network.namespaces(), id="the network is being made"),
        pytest.param(lambda lab: (lab.directory / "internet/ready").exists(), id="names answer"),
        pytest.param(
            lambda lab: list(lab.directory.glob("hosts/*/root/etc")), id="disks are there"
        ),
        pytest.param(lambda lab: list(lab.directory.glob("hosts/*/console.log")), id="booting"),
        pytest.param(lambda lab: lab.overlay.exists(), id="all but up"),
    ],
)
def test_an_interrupted_start_is_cleared_away(gone: Lab, reached: Callable[[Lab], object]) -> None:
    process = start(gone)
    eventually(lambda: bool(reached(gone)) or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not gone.is_up or gone.overlay.exists()
    gone.down()
    assert traces(gone) == []


def test_a_lab_takes_the_place_of_a_dead_one(gone: Lab) -> None:
    process = start(gone)
    eventually(lambda: bool(list(gone.directory.glob("hosts/*/console.log"))))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start(gone).wait() == 0
    assert gone.is_up
    assert reaches(gone, gone.network.lan, gone.hosts[FIRST].address)


def test_down_ends_commands_in_the_lab(gone: Lab) -> None:
    assert start(gone).wait() == 0
    command = [sys.executable, "-m", "lab", "exec", "--name", gone.name, "--", "sleep", "600"]
    sleeping = subprocess.Popen(command, cwd=REPOSITORY)
    eventually(lambda: b"sleep" in Path(f"/proc/{sleeping.pid}/cmdline").read_bytes()[:5])
    gone.down()
    assert not is_running(sleeping.pid)


# On a machine with a firewall, which a new network namespace stands for

FIREWALLED_MACHINE = """
set -eu
mount -t sysfs sysfs /sys
mkdir -p /run/jarvis-lab /run/netns
mount -t tmpfs tmpfs /run/jarvis-lab
mount -t tmpfs tmpfs /run/netns
ip link add world type bridge
ip address add 192.0.2.1/24 dev world
ip link set world up
ip route add default via 192.0.2.2
echo 0 >/proc/sys/net/ipv4/ip_forward
nft add table ip other
nft 'add chain ip other forward { type filter hook forward priority filter; policy drop; }'
nft 'add rule ip other forward iifname "docker0" accept'
exec "$@"
"""

PROBE = """
import json, subprocess
from ipaddress import IPv4Address
from pathlib import Path
from lab import kernel
from lab.network import Network, plan

def look():
    rules = subprocess.check_output(["nft", "list", "ruleset"], text=True)
    forwarding = Path("/proc/sys/net/ipv4/conf/world/forwarding").read_text().strip()
    return {"rules": rules, "forwarding": forwarding}

network = Network("jarvis-firewall-test")
before = look()
network.create(plan([IPv4Address("10.9.0.1")]), {})
during = look()
network.destroy()
kernel.give_back(network.id)
after = look()
print(json.dumps([before, during, after, network.uplink]))
"""


@pytest.fixture
def firewalled() -> list[Any]:
    """What there is before, during and after a lab, and the name of its way out."""
    reason = machine.why_not()
    if reason:
        pytest.skip(reason)
    within = ("unshare", "--net", "--mount", "sh", "-c", FIREWALLED_MACHINE, "within")
    done = subprocess.run(
        [*within, sys.executable, "-c", PROBE], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seen: list[Any] = json.loads(done.stdout)
    return seen


def test_a_firewall_lets_the_labs_packets_pass_as_long_as_there_is_a_lab(
    firewalled: list[Any],
) -> None:
    before, during, after, uplink = firewalled
    for direction in ("iifname", "oifname"):
        assert f'{direction} "{uplink}" accept' in during["rules"]
    assert uplink not in before["rules"]
    assert after["rules"] == before["rules"]


def test_packets_are_passed_on_as_long_as_there_is_a_lab(firewalled: list[Any]) -> None:
    assert [seen["forwarding"] for seen in firewalled[:3]] == ["0", "1", "0"]


# The inventory in the lab


def declared(**changes: object) -> Fleet:
    return load_fleet(
        {
            "ollama": {"version": "0.34.2", "sha256": {"ollama-linux-arm64.tar.zst": "0" * 64}},
            "nodes": {
                "a": {"address": "192.168.1.2", "roles": ["gateway"], "ssh_host": "a.example"},
                "b": {"address": "192.168.1.3", "models": ["llama3"]},
            },
            "models": {"llama3": {"digest": "1" * 64}},
            **changes,
        }
    )


def changes_for(fleet: Fleet) -> overlay.Overlay:
    sha256 = {"ollama-linux-amd64.tar.zst": "2" * 64}
    return overlay.for_lab(fleet, version="0.34.2-simulated", sha256=sha256, key_sha256="3" * 64)


def test_the_overlay_takes_out_what_points_away_from_the_lab() -> None:
    changes = changes_for(declared(gateway={"tls": {"mode": "acme", "email": "me@example.com"}}))
    assert changes["ollama"] == {
        "version": "0.34.2-simulated",
        "sha256": {
            "ollama-linux-arm64.tar.zst": None,
            "ollama-linux-amd64.tar.zst": "2" * 64,
        },
    }
    assert changes["nodes"] == {"a": {"ssh_host": None}, "b": {}}
    assert changes["models"] == {"llama3:latest": {"digest": None}}
    assert changes["gateway"]["tls"]["mode"] == "internal"
    assert changes["keys"] == {"lab": {"sha256": "3" * 64}}


def test_an_inventory_of_this_very_machine_is_moved_into_the_lab(tmp_path: Path) -> None:
    inventory = REPOSITORY / "inventories/single.py"
    written = tmp_path / "overlay.yaml"
    overlay.write(written, changes_for(fleet.read(inventory)))
    (node,) = fleet.read(inventory, written).nodes.values()
    assert node.connection == "ssh"
    assert not node.address.is_loopback


def test_overlays_combine_and_a_null_still_removes() -> None:
    first = {"a": {"b": 1, "c": 2}, "d": 3}
    second = {"a": {"b": None}, "e": {"f": None}}
    assert overlay.combine(first, second) == {"a": {"b": None, "c": 2}, "d": 3, "e": {"f": None}}


def test_an_inventory_that_is_wrong_is_reported_in_its_own_words(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.py"
    inventory.write_text(
        "from jarvis_ops.inventory import groups_of\n"
        "globals().update(groups_of({'ollama': {'version': '0.34.2'}, 'nodez': {}}))\n"
    )
    with pytest.raises(LabError, match=r"nodez.*did you mean 'nodes'"):
        fleet.read(inventory)


def test_one_host_of_any_fleet_runs_debian_13() -> None:
    nodes = {f"n{number}": {"address": f"10.0.0.{number}"} for number in range(1, 7)}
    nodes["n1"]["roles"] = ["gateway"]
    found = load_fleet({"ollama": {"version": "0.34.2"}, "nodes": nodes})
    assert [suite_of(name, found) for name in found.nodes].count(Suite.TRIXIE) == 1


def test_the_labs_own_addresses_are_those_of_nobody() -> None:
    hosts = [IPv4Address(text) for text in ("10.0.0.1", "10.0.0.250", "10.0.7.9")]
    made = plan(hosts)
    own = [*made.routers.values(), made.outsider]
    assert len(set(own) - set(hosts)) == len(own) == 3
    assert all(router in subnet for subnet, router in made.routers.items())


@pytest.mark.parametrize("address", ["198.18.0.1", "198.19.0.10"])
def test_addresses_that_the_lab_needs_are_refused(address: str) -> None:
    with pytest.raises(LabError, match=address):
        plan([IPv4Address(address)])


def test_a_full_subnet_is_refused() -> None:
    with pytest.raises(LabError, match="no address left"):
        plan([IPv4Address("10.0.0.0") + number for number in range(256)])


def test_real_archives_need_real_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ARCHIVES_VARIABLE, str(tmp_path))
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    with pytest.raises(LabError, match=STORE_VARIABLE):
        find_supply(declared(), tmp_path, tmp_path)


def test_a_real_store_has_to_have_the_declared_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(ARCHIVES_VARIABLE, str(tmp_path / "ollama-linux-amd64.tar.zst"))
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path))
    with pytest.raises(LabError, match="llama3:latest"):
        find_supply(declared(), tmp_path, tmp_path)


# Without hosts


def test_the_fleet_on_loopback_answers_and_goes_away() -> None:
    alone = Loopback("test")
    alone.down()
    try:
        moved = alone.up(Path(__file__).with_name("small_fleet.py"))
        with httpx.Client(base_url=alone.url, trust_env=False) as client:
            client.headers["Authorization"] = f"Bearer {alone.key}"
            eventually(lambda: is_ready(client))
            nodes = client.get("/api/nodes").json()["nodes"]
            body = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "Hello"}]}
            answer = client.post("/v1/chat/completions", json=body, timeout=60)
        assert {node["name"]: node["well"] for node in nodes} == {FIRST: True, SECOND: True}
        assert all(node.address.is_loopback for node in moved.nodes.values())
        assert "simulated" in answer.json()["choices"][0]["message"]["content"]
        assert answer.headers["x-jarvis-node"] == FIRST
        pids = [int(line.split()[0]) for line in alone.processes.read_text().splitlines()]
    finally:
        alone.down()
    assert len(pids) == 3
    assert [pid for pid in pids if is_running(pid)] == []
    assert not alone.directory.exists()


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").is_success
    except httpx.TransportError:
        return False


def is_running(pid: int) -> bool:
    process = Process.find(pid)
    return process is not None and process.is_alive
