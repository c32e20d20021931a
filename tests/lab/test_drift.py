"""What was changed by hand on a host is as declared again after the next run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from control import Control

NODE, GATEWAY = "slow", "brain"

_PROCESS = (
    'tr "\\0" "\\n" </proc/$(systemctl show --property MainPID --value ollama.service)/environ'
)
_UNIT = "/etc/systemd/system/ollama.service"
_RESTART = "systemctl daemon-reload; systemctl restart ollama.service"
_MANIFEST = "/var/lib/ollama/models/manifests/registry.ollama.ai/library/llama3.2/3b"


@dataclass(frozen=True)
class Drift:
    """A change by hand, and a check that fails as long as it is there; both are scripts."""

    host: str
    change: str
    check: str


DRIFTS = {
    "a drop-in that the service was restarted with": Drift(
        NODE,
        f"mkdir {_UNIT}.d; printf '[Service]\\nEnvironment=OLLAMA_NUM_PARALLEL=9\\n' >{_UNIT}.d/a.conf\n"
        + _RESTART,
        f"! {_PROCESS} | grep OLLAMA_NUM_PARALLEL=9",
    ),
    "a unit that was edited and restarted": Drift(
        NODE,
        f"sed -i s/OLLAMA_KEEP_ALIVE=/OLLAMA_KEEP_ALIVE=1/ {_UNIT}\n{_RESTART}",
        f"{_PROCESS} | grep OLLAMA_KEEP_ALIVE=30m",
    ),
    "a service that was stopped and disabled": Drift(
        NODE,
        "systemctl disable --quiet --now jarvis-firewall.service",
        "systemctl is-active jarvis-firewall.service && systemctl is-enabled jarvis-firewall.service",
    ),
    "rules that were deleted": Drift(
        NODE, "nft delete table inet jarvis", "nft list table inet jarvis | grep 11434"
    ),
    "a manifest that is damaged": Drift(
        NODE, f"truncate -s 10 {_MANIFEST}", f"grep layers {_MANIFEST}"
    ),
    "a link to another program": Drift(
        NODE,
        "ln -sf /bin/true /usr/local/bin/ollama",
        "readlink /usr/local/bin/ollama | grep /opt/ollama/current/bin/ollama",
    ),
    "a directory that is open to all": Drift(
        NODE,
        "chmod 777 /var/lib/ollama/models",
        "stat -c %a /var/lib/ollama/models | grep 750",
    ),
    "a fleet file that is open to all": Drift(
        GATEWAY,
        "chmod 644 /etc/jarvis/fleet.json",
        "stat -c %a /etc/jarvis/fleet.json | grep 640",
    ),
    "a web server with another configuration": Drift(
        GATEWAY,
        "echo '# by hand' >>/etc/caddy/Caddyfile",
        "! grep 'by hand' /etc/caddy/Caddyfile",
    ),
}


def is_right(control: Control, drift: Drift) -> bool:
    process = control.ssh(drift.host, drift.check)
    process.communicate()
    return process.returncode == 0


@pytest.fixture(scope="module")
def repaired(control: Control) -> None:
    """The fleet was deployed, changed by hand, and deployed again."""
    control.deploy()
    for drift in DRIFTS.values():
        control.shell(drift.host, drift.change)
    assert [name for name, drift in DRIFTS.items() if is_right(control, drift)] == []
    control.deploy()


@pytest.mark.parametrize("drift", DRIFTS.values(), ids=DRIFTS.keys())
def test_drift_is_put_right(control: Control, repaired: None, drift: Drift) -> None:
    assert is_right(control, drift)


def test_nothing_is_left_to_put_right(control: Control, repaired: None) -> None:
    assert control.run("-y", "--json").changed == []
