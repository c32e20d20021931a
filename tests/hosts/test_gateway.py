"""The gateway is the one way in: over TLS, with a key, to the node that the policy says."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from endpoint import ask, chat_models, chat_models_of, nodes_that_chat, preferred_nodes
from firewall import declared_rules, live_rules
from machines import Machine, Reach, declared_fleet, machines, reach

from litellm_plugins.names import display_model
from litellm_plugins.schema import Fleet, Node, Role
from litellm_plugins.tuning import OLLAMA_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

ROLE = Role.GATEWAY

_PLUGIN_PORT = 4000
_SSH_PORT = 22
_HTTPS_PORT = 443

_SANDBOX = {
    "User": "jarvis",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "CapabilityBoundingSet": "",
}


@contextlib.contextmanager
def tls(trust: ssl.SSLContext, node: Node, fleet: Fleet, name: str) -> Iterator[ssl.SSLSocket]:
    """Shake hands with the endpoint at the node's address, asking for a name."""
    address = (str(node.address), fleet.gateway.port)
    with (
        socket.create_connection(address, timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=name) as encrypted,
    ):
        yield encrypted


@pytest.mark.parametrize("unit", ["jarvis-gateway.service", "caddy.service"])
def test_the_service_runs_and_comes_back_after_a_reboot(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_the_service_is_confined(host: Host) -> None:
    properties = host.service("jarvis-gateway.service").systemd_properties
    assert {name: properties.get(name, "") for name in _SANDBOX} == _SANDBOX


def test_the_service_runs_the_current_release(host: Host) -> None:
    release = host.check_output("readlink -f /opt/jarvis/current")
    pid = host.check_output("systemctl show --property MainPID --value jarvis-gateway.service")
    command = host.check_output("tr '\\0' '\\n' </proc/%s/cmdline", pid).splitlines()
    assert host.check_output('readlink -f "$(dirname %s)"', command[0]).startswith(f"{release}/")


def test_the_fleet_file_is_the_inventory_and_closed_to_others(host: Host, fleet: Fleet) -> None:
    file = host.file("/etc/jarvis/fleet.json")
    assert json.loads(file.content_string) == fleet.model_dump(mode="json")
    assert (file.user, file.group, file.mode) == ("root", "jarvis", 0o640)


def test_the_plugin_listens_on_loopback_only(host: Host) -> None:
    listening = host.check_output(f"ss -Hltn 'sport = :{_PLUGIN_PORT}'").splitlines()
    assert [line.split()[3] for line in listening] == [f"127.0.0.1:{_PLUGIN_PORT}"]


def test_the_gateways_user_sends_nothing_but_to_ollama(host: Host, machine: Machine) -> None:
    others = [item for item in machines() if item != machine]
    may = {
        (item.node.address, OLLAMA_PORT): Reach.OPEN
        for item in others
        if Role.INFERENCE in item.node.roles
    }
    may_not = dict.fromkeys(((item.node.address, _SSH_PORT) for item in others), Reach.CLOSED)
    assert reach(host, {**may, **may_not}, user="jarvis") == {**may, **may_not}


def test_the_firewall_in_force_is_the_declared_one_and_comes_back(host: Host) -> None:
    assert live_rules(host) == declared_rules(host)
    assert host.service("jarvis-firewall.service").is_enabled


@pytest.fixture(params=["hostname", "address"])
def certified_name(request: pytest.FixtureRequest, node: Node, fleet: Fleet) -> str:
    """A name that the certificate must be good for; a public authority certifies no address."""
    by_address = request.param == "address" and fleet.gateway.tls.mode == "internal"
    return str(node.address) if by_address else fleet.gateway.hostname


def test_the_certificate_is_good_for_name_and_address(
    trust: ssl.SSLContext, node: Node, fleet: Fleet, certified_name: str
) -> None:
    with tls(trust, node, fleet, certified_name) as encrypted:
        assert encrypted.version() in {"TLSv1.2", "TLSv1.3"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(trust: ssl.SSLContext, node: Node, fleet: Fleet) -> None:
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    # Without this our own side would refuse, and the test would pass against any server.
    trust.set_ciphers("DEFAULT:@SECLEVEL=0")
    with (
        pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"),
        tls(trust, node, fleet, fleet.gateway.hostname),
    ):
        pass


@pytest.mark.skipif(
    declared_fleet().gateway.port != _HTTPS_PORT,
    reason="an endpoint with a port of its own leaves port 80 to others",
)
def test_plain_http_leads_to_https(stranger: httpx.Client, node: Node, fleet: Fleet) -> None:
    response = stranger.get(f"http://{node.address}/v1/models")
    assert response.is_redirect
    target = httpx.URL(response.headers["location"])
    assert (target.scheme, target.host, target.path) == (
        "https",
        fleet.gateway.hostname,
        "/v1/models",
    )


@pytest.mark.parametrize("key", [None, "jrv_wrong"])
def test_nobody_gets_in_without_a_key(stranger: httpx.Client, key: str | None) -> None:
    if key is not None:
        stranger.headers["Authorization"] = f"Bearer {key}"
    for response in (stranger.get("/v1/models"), stranger.get("/api/nodes"), ask(stranger, "any")):
        assert response.status_code == 401
        assert response.json()["error"]["message"]


def test_what_is_not_ours_is_not_there(client: httpx.Client) -> None:
    response = client.get("/model/info")
    assert response.status_code == 404
    assert response.json()["error"]["message"]


def test_the_gateway_is_ready(stranger: httpx.Client) -> None:
    assert stranger.get("/health/live").status_code == 200
    assert stranger.get("/health/ready").status_code == 200


def test_the_models_are_those_that_the_nodes_have(
    client: httpx.Client, host: Host, fleet: Fleet
) -> None:
    pulled: dict[str, set[str]] = {}
    for name, node in fleet.nodes_with(Role.INFERENCE).items():
        tags = host.check_output(f"curl -fsS http://{node.address}:{OLLAMA_PORT}/api/tags")
        for model in json.loads(tags)["models"]:
            pulled.setdefault(display_model(model["name"]), set()).add(name)
    listed = client.get("/api/models").json()["models"]
    places = {item["name"]: {place["name"] for place in item["nodes"]} for item in listed}
    offered = {item["id"] for item in client.get("/v1/models").json()["data"]}
    assert places == pulled
    assert offered == set(pulled)


def test_an_unknown_model_is_a_clear_error(client: httpx.Client) -> None:
    response = ask(client, "no-such-model")
    assert response.status_code == 404
    assert "no-such-model" in response.json()["error"]["message"]


def test_a_chat_says_where_it_went_and_why(client: httpx.Client) -> None:
    response = ask(client, chat_models()[0])
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["role"] == "assistant"
    assert response.headers["x-jarvis-reason"]
    assert response.headers["x-jarvis-attempts"] == "1"


@pytest.mark.parametrize("model", chat_models())
def test_a_chat_reaches_the_node_that_the_policy_says(client: httpx.Client, model: str) -> None:
    response = ask(client, display_model(model))
    assert response.status_code == 200, response.text
    assert response.headers["x-jarvis-node"] in preferred_nodes(model), response.headers


@pytest.mark.parametrize("node_name", nodes_that_chat())
def test_a_chat_reaches_the_node_that_the_client_names(
    client: httpx.Client, node_name: str
) -> None:
    model = display_model(chat_models_of(node_name)[0])
    named = (
        ask(client, model, node=node_name),
        ask(client, f"{model}@{node_name}"),
        ask(client, model, headers={"x-jarvis-node": node_name}),
    )
    assert [answer.status_code for answer in named] == [200, 200, 200]
    assert {answer.headers["x-jarvis-node"] for answer in named} == {node_name}
