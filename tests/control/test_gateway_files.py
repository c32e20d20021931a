"""What the gateway's files say: its release and wheel, its unit, Caddy's configuration."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from jarvis_ops import gateway, wheel
from litellm_plugins.schema import Fleet, load_fleet

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the wheel is made of, with other times than this checkout's."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(PROJECT / name, copy / name)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "litellm_plugins", copy / "litellm_plugins", ignore=caches)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    return copy


def members(built: wheel.Wheel) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(built.content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_is_the_same_from_the_same_sources(project: Path) -> None:
    assert wheel.build() == wheel.build() == wheel.build(project)


def test_wheel_holds_the_plugin_and_nothing_else() -> None:
    names = set(members(wheel.build()))
    sources = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "litellm_plugins").rglob("*")
        if path.suffix in {".py", ".yaml"}
    }
    assert "litellm_plugins/litellm.yaml" in sources
    assert sources <= names
    assert all(re.match(r"^jarvis_ops-[^/]+\.dist-info/", name) for name in names - sources)


def test_leavings_of_editors_are_no_part_of_it(project: Path) -> None:
    before = wheel.build(project)
    for name in ("schema.py~", "schema.py.orig", ".schema.py.swp", "notes.txt"):
        (project / "litellm_plugins" / name).write_text("x")
    assert wheel.build(project) == before


def test_building_it_leaves_the_tree_alone(project: Path) -> None:
    before = sorted(project.rglob("*"))
    wheel.build(project)
    assert sorted(project.rglob("*")) == before


def test_another_readme_is_no_other_package(project: Path) -> None:
    before = wheel.build(project)
    (project / "README.md").write_text("another")
    after = wheel.build(project)
    assert after.content != before.content
    assert after.package_sha256 == before.package_sha256


@pytest.mark.parametrize("name", ["gateway.py", "litellm.yaml"])
def test_another_file_is_another_package(project: Path, name: str) -> None:
    before = wheel.build(project)
    with (project / "litellm_plugins" / name).open("a") as file:
        file.write("# changed\n")
    assert wheel.build(project).package_sha256 != before.package_sha256


def test_renamed_file_is_another_package(project: Path) -> None:
    before = wheel.build(project)
    (project / "litellm_plugins" / "names.py").rename(project / "litellm_plugins" / "naming.py")
    assert wheel.build(project).package_sha256 != before.package_sha256


def test_bundle_holds_what_the_installation_needs() -> None:
    release = gateway.release()
    with tarfile.open(fileobj=io.BytesIO(release.bundle)) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}
    assert set(files) == {wheel.build().name, "gateway.txt", "uv.txt", gateway.UNIT}
    assert files[gateway.UNIT] == release.unit.encode()
    assert b"--hash=sha256:" in files["gateway.txt"]
    assert b"--hash=sha256:" in files["uv.txt"]


def test_bundle_is_the_same_from_the_same_sources() -> None:
    first = gateway.release()
    gateway.release.cache_clear()
    assert gateway.release() == first


def test_unit_runs_its_own_release_and_says_so() -> None:
    release = gateway.release()
    assert re.match(r"^[0-9a-f]{12}$", release.id)
    assert f"\nExecStart=/opt/jarvis/{release.id}/bin/python " in release.unit
    assert f"\nEnvironment=JARVIS_UNIT={release.id}\n" in release.unit


def test_unit_keeps_to_loopback_and_the_fleet_file() -> None:
    command = re.search(r"^ExecStart=(.*)$", gateway.release().unit, re.MULTILINE)
    assert command is not None
    assert "--host 127.0.0.1 --port 4000" in command[1]
    assert "--fleet /etc/jarvis/fleet.json" in command[1]


def fleet(address: str = "192.168.1.2", **settings: Any) -> Fleet:
    return load_fleet(
        {
            "ollama": {"version": "1.0.0"},
            "gateway": {"hostname": "jarvis.home.arpa", **settings},
            "nodes": {"one": {"address": address, "roles": ["inference", "gateway"]}},
        }
    )


def sites(text: str) -> dict[str, str]:
    """Return the blocks of a Caddyfile by what is before their opening brace."""
    return dict(re.findall(r"^([^\s#{][^{\n]*) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))


def test_own_authority_certifies_name_and_address() -> None:
    found = sites(gateway.caddyfile(fleet()))
    both = found["https://jarvis.home.arpa:443, https://192.168.1.2:443"]
    assert "tls internal {" in both
    assert "protocols tls1.2 tls1.3" in both


def test_client_that_sends_no_name_gets_the_certificate_of_the_address() -> None:
    assert "\tdefault_sni 192.168.1.2\n" in gateway.caddyfile(fleet())


def test_certificate_of_ones_own_is_for_clients_without_a_name_too() -> None:
    tls = {"mode": "files", "certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"}
    text = gateway.caddyfile(fleet(tls=tls))
    assert "\tdefault_sni jarvis.home.arpa\n" in text
    assert "tls /etc/ssl/a.pem /etc/ssl/a.key {" in text
    assert "\tauto_https disable_certs\n" in text
    assert "internal" not in text


@pytest.mark.parametrize("email", ["you@example.com", None])
def test_public_authority_certifies_the_name_and_our_own_the_address(email: str | None) -> None:
    settings = {"hostname": "jarvis.example.com", "tls": {"mode": "acme", "email": email}}
    found = sites(gateway.caddyfile(fleet(**settings)))
    assert "issuer acme" in found["https://jarvis.example.com:443"]
    assert ("email you@example.com" in found["https://jarvis.example.com:443"]) == bool(email)
    assert "tls internal {" in found["https://192.168.1.2:443"]


def test_host_name_that_is_the_address_is_named_once() -> None:
    found = sites(gateway.caddyfile(fleet(hostname="192.168.1.2")))
    assert "https://192.168.1.2:443" in found


def test_plain_http_leads_to_the_endpoint() -> None:
    assert "redir https://{host}{uri} 308" in sites(gateway.caddyfile(fleet()))["http://"]


def test_port_of_ones_choice_leaves_the_usual_ones_alone() -> None:
    text = gateway.caddyfile(fleet(port=8443))
    assert set(sites(text)) == {
        "(gateway)",
        "https://jarvis.home.arpa:8443, https://192.168.1.2:8443",
        "https://:8443",
    }


def test_other_names_are_refused() -> None:
    assert "421" in sites(gateway.caddyfile(fleet()))["https://:443"]


@pytest.mark.parametrize(("address", "binds"), [("127.0.0.1", True), ("192.168.1.2", False)])
def test_machine_on_its_own_listens_on_loopback_only(address: str, binds: bool) -> None:
    assert ("default_bind 127.0.0.1" in gateway.caddyfile(fleet(address))) == binds


def test_own_authority_does_not_bind_browsers_to_it() -> None:
    """With that header a browser would refuse the name for a year after a reinstallation."""
    tls = {"mode": "files", "certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"}
    assert "Strict-Transport-Security" not in gateway.caddyfile(fleet())
    assert "Strict-Transport-Security" not in gateway.caddyfile(fleet(tls=tls, port=8443))
    assert "Strict-Transport-Security" in gateway.caddyfile(fleet(tls=tls))


def test_client_that_goes_away_is_noticed() -> None:
    """With a flush_interval of -1 Caddy does not pass on that a client has gone."""
    directives = [line.split() for line in gateway.caddyfile(fleet()).splitlines()]
    assert not [words for words in directives if words[:1] == ["flush_interval"]]


def test_marker_changes_with_the_configuration_and_is_in_it() -> None:
    one, other = fleet(), fleet(port=8443)
    assert gateway.caddyfile_marker(one) != gateway.caddyfile_marker(other)
    assert f"vars jarvis_config {gateway.caddyfile_marker(one)}\n" in gateway.caddyfile(one)
    assert f"JARVIS_UNIT={gateway.caddy_marker()}\n" in gateway.caddy_drop_in()


def test_marker_does_not_change_with_the_rest_of_the_fleet() -> None:
    keys = {"alice": {"sha256": "0" * 64}}
    plain = fleet().model_dump(mode="json")
    assert gateway.caddyfile(load_fleet({**plain, "keys": keys})) == gateway.caddyfile(fleet())
