"""The scripts that run on hosts, run here on directories and servers made for them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback import Site, serving

from jarvis_ops.facts.machine import Listeners, MachineState, Spaces
from jarvis_ops.facts.ollama import ModelStores, ReleaseStates
from jarvis_ops.facts.replies import Replies, Reply
from jarvis_ops.text import python, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hosts are Linux")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory of programs that come before the machine's own."""
    directory = tmp_path / "tools"
    directory.mkdir()
    # The archives of these tests are plain tar files: tar calls this to unpack them.
    tool(directory, "zstd", "exec cat")
    tool(directory, "systemctl", f'echo "$@" >>{tmp_path}/systemctl.log')
    return directory


def tool(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def sh(text: str, tools: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.environ["PATH"]
    return subprocess.run(
        ["sh", "-c", text],
        env={**os.environ, "PATH": f"{tools}:{path}" if tools else path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(300):
        if holds():
            return True
        time.sleep(0.1)
    return False


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def command_line(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to take note."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Installing a release


BASE, ADD_ON = "ollama-linux-amd64.tar.zst", "ollama-linux-amd64-rocm.tar.zst"


def archive(**files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(text)
            entry.mode = 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    return stream.getvalue()


PROGRAM = archive(bin__ollama="the program" * 20_000)
LIBRARY = archive(lib__ollama__rocm="a library")


class Installation:
    """A root that releases are installed below, and the site that they come from."""

    def __init__(self, root: Path, tools: Path, site: Site) -> None:
        self.root = root
        self.tools = tools
        self.site = site
        self.incoming = root / ".incoming" / "1.0.0"

    def publish(self, **archives: bytes) -> None:
        files = {f"{name.replace('_', '-')}.tar.zst": data for name, data in archives.items()}
        self.site.files = {f"/v1.0.0/{name}": data for name, data in files.items()}
        lines = [f"{sha256(data)}  ./{name}\n" for name, data in files.items()]
        self.site.files["/v1.0.0/sha256sum.txt"] = "".join(lines).encode()

    def install(self, *pairs: str) -> subprocess.CompletedProcess[str]:
        arguments = (str(self.root), "1.0.0", f"{self.site.url}/v1.0.0", "ollama.service", *pairs)
        return sh(script("install-release.sh", arguments), self.tools)

    @property
    def record(self) -> str:
        return (self.root / "1.0.0" / ".jarvis-archives").read_text()

    @property
    def downloads(self) -> list[str | None]:
        """The ranges of the downloads of the base archive."""
        path = f"/v1.0.0/{BASE}"
        return [item[2] for item in self.site.requests if item[:2] == ("GET", path)]


@pytest.fixture
def installation(tmp_path: Path, tools: Path) -> Iterator[Installation]:
    with serving(Site()) as site:
        made = Installation(tmp_path / "opt", tools, site)
        made.publish(ollama_linux_amd64=PROGRAM, ollama_linux_amd64_rocm=LIBRARY)
        yield made


def test_base_and_add_on_are_installed_into_one_directory(installation: Installation) -> None:
    result = installation.install(BASE, sha256(PROGRAM), ADD_ON, "-")
    assert result.returncode == 0, result.stderr
    assert (installation.root / "1.0.0/bin/ollama").is_file()
    assert (installation.root / "1.0.0/lib/ollama/rocm").is_file()
    assert installation.record == f"{sha256(PROGRAM)} {BASE}\n{sha256(LIBRARY)} {ADD_ON}\n"
    assert not installation.incoming.exists()


def test_a_bad_archive_is_deleted_and_not_unpacked(installation: Installation) -> None:
    live = installation.root / "0.9.0"
    live.mkdir(parents=True)
    result = installation.install(BASE, "0" * 64)
    assert result.returncode == 1
    assert f"its sha256 is {sha256(PROGRAM)}, and {'0' * 64} was expected" in result.stderr
    assert not (installation.incoming / BASE).exists()
    assert not list((installation.incoming / "tree").iterdir())
    assert not (installation.root / "1.0.0").exists()
    assert live.exists()


def test_a_download_is_taken_up_where_it_broke_off(installation: Installation) -> None:
    installation.site.cut = {f"/v1.0.0/{BASE}": [100_000]}
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 0, result.stderr
    assert installation.downloads == [None, "bytes=100000-"]


def test_an_earlier_runs_part_is_taken_up(installation: Installation) -> None:
    installation.incoming.mkdir(parents=True)
    (installation.incoming / BASE).write_bytes(PROGRAM[:70_000])
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 0, result.stderr
    assert installation.downloads == ["bytes=70000-"]


def test_a_site_that_cannot_resume_is_asked_for_all(installation: Installation) -> None:
    installation.site.can_resume = False
    installation.incoming.mkdir(parents=True)
    (installation.incoming / BASE).write_bytes(PROGRAM[:70_000])
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 0, result.stderr
    assert installation.downloads == ["bytes=70000-", None]


def test_a_complete_part_is_not_downloaded_again(installation: Installation) -> None:
    installation.incoming.mkdir(parents=True)
    (installation.incoming / BASE).write_bytes(PROGRAM)
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 0, result.stderr
    assert installation.downloads == []


@pytest.mark.parametrize("length", [70_000, len(PROGRAM), len(PROGRAM) + 1])
def test_what_a_power_cut_has_spoilt_is_downloaded_anew(
    installation: Installation, length: int
) -> None:
    installation.incoming.mkdir(parents=True)
    (installation.incoming / BASE).write_bytes(b"\0" * length)
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 0, result.stderr
    assert installation.downloads[-1] is None


def test_leavings_of_an_interrupted_unpack_do_not_get_in(installation: Installation) -> None:
    tree = installation.incoming / "tree"
    tree.mkdir(parents=True)
    (tree / "half").write_text("unpacked")
    other = installation.root / ".incoming" / "0.9.0"
    other.mkdir()
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 0, result.stderr
    assert not (installation.root / "1.0.0/half").exists()
    assert not other.exists()


def test_the_live_version_is_stopped_before_it_is_replaced(
    installation: Installation, tmp_path: Path
) -> None:
    installation.install(BASE, sha256(PROGRAM))
    (installation.root / "current").symlink_to("1.0.0")
    result = installation.install(BASE, sha256(PROGRAM), ADD_ON, sha256(LIBRARY))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "systemctl.log").read_text() == "stop ollama.service\n"
    assert ADD_ON in installation.record


def test_an_archive_without_program_does_not_count(installation: Installation) -> None:
    result = installation.install(ADD_ON, sha256(LIBRARY))
    assert result.returncode == 1
    assert "hold no program bin/ollama" in result.stderr
    assert not (installation.root / "1.0.0").exists()


def test_an_archive_that_is_none_fails_with_its_name(installation: Installation) -> None:
    garbage = b"no tar archive" * 1000
    installation.publish(ollama_linux_amd64=garbage)
    result = installation.install(BASE, sha256(garbage))
    assert result.returncode == 1
    assert f"{BASE}: it could not be unpacked" in result.stderr


def test_a_missing_archive_fails_with_its_url(installation: Installation) -> None:
    del installation.site.files[f"/v1.0.0/{BASE}"]
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 1
    assert f"/v1.0.0/{BASE}: the download failed" in result.stderr


def test_unpinned_archive_needs_its_published_checksum(installation: Installation) -> None:
    installation.site.files["/v1.0.0/sha256sum.txt"] = b""
    result = installation.install(BASE, "-")
    assert result.returncode == 1
    assert f"sha256sum.txt does not name {BASE}" in result.stderr


def test_two_installations_do_not_run_at_once(installation: Installation, tools: Path) -> None:
    tool(tools, "flock", "exit 1")
    result = installation.install(BASE, sha256(PROGRAM))
    assert result.returncode == 1
    assert "another run is installing Ollama" in result.stderr


def test_nothing_goes_on_when_nobody_listens_any_more(
    installation: Installation, tools: Path
) -> None:
    tool(tools, "curl", 'case "$*" in *-fsSIL*) echo;; *) exec sleep 600;; esac')
    arguments = (str(installation.root), "1.0.0", "http://unused", "ollama.service", BASE, "0" * 64)
    process = subprocess.Popen(
        ["sh", "-c", script("install-release.sh", arguments)],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    # By the second report the download has begun for certain, also on a busy machine.
    for _ in range(2):
        assert b"0 of 0 MB" in process.stdout.readline()
    (download,) = (pid for pid in children(process.pid) if "600" in command_line(pid))
    process.stdout.close()
    assert process.wait(timeout=60) != 0
    assert eventually(lambda: not is_alive(download))


# Pulling a model


def pull(
    site: Site,
    manifest: Path,
    lines: Sequence[dict[str, object]],
    digest: str = "-",
    stall: int = 60,
) -> subprocess.CompletedProcess[str]:
    site.post = lambda _: (
        f"{json.dumps(line, separators=(',', ':'))}\n".encode() for line in lines
    )
    body = '{"model": "m:latest"}'
    arguments = (site.url, "m:latest", body, str(manifest), digest, str(stall), "60")
    return sh(script("pull-model.sh", arguments))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "store/manifests/registry.ollama.ai/library/m/latest"
    path.parent.mkdir(parents=True)
    path.write_text("manifest")
    return path


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as made:
        yield made


SUCCESS = {"status": "success"}


def test_pull_ends_well_with_success_only(site: Site, manifest: Path) -> None:
    layer = {"status": "pulling abc", "digest": "sha256:abc", "total": 4_700_000_000}
    result = pull(site, manifest, [layer, {**layer, "completed": 2_350_000_000}, SUCCESS])
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["m:latest: 0% of 4.7 GB", "m:latest: pulled"]
    assert site.requests == [("POST", "/api/pull", '{"model": "m:latest"}')]


def test_pull_shows_some_of_the_progress(site: Site, manifest: Path) -> None:
    def lines(_: bytes) -> Iterator[bytes]:
        for percent in range(30):
            line = {"status": "pulling abc", "total": 100_000_000, "completed": percent * 1_000_000}
            yield f"{json.dumps(line, separators=(',', ':'))}\n".encode()
            time.sleep(0.1)
        yield b'{"status":"success"}\n'

    site.post = lines
    arguments = (site.url, "m:latest", "{}", str(manifest), "-", "60", "60")
    first, *more, last = sh(script("pull-model.sh", arguments)).stdout.splitlines()
    assert first == "m:latest: 0% of 100.0 MB"
    assert 1 <= len(more) < 28
    assert all("% of 100.0 MB" in line for line in more)
    assert last == "m:latest: pulled"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}],
            "m:latest: pull model manifest: file does not exist",
        ),
        ([{"error": 'bad name "m"'}], 'm:latest: bad name "m"'),
        (
            [{"status": "pulling manifest"}],
            "m:latest: Ollama ended the pull after 'pulling manifest'; the next run takes it up",
        ),
        ([], "m:latest: Ollama ended the pull after 'nothing'; the next run takes it up"),
    ],
)
def test_pull_fails_with_a_sentence(
    site: Site, manifest: Path, lines: list[dict[str, object]], reason: str
) -> None:
    result = pull(site, manifest, lines)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == reason


def test_pull_fails_where_nobody_answers(manifest: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        arguments = (url, "m:latest", "{}", str(manifest), "-", "60", "60")
        result = sh(script("pull-model.sh", arguments))
    assert result.returncode == 1
    assert "Ollama ended the pull after 'nothing'" in result.stderr


def test_stalled_pull_is_given_up(site: Site, manifest: Path) -> None:
    def lines(_: bytes) -> Iterator[bytes]:
        while True:
            yield b'{"status":"pulling abc","total":1000000,"completed":5}\n'
            time.sleep(0.1)

    site.post = lines
    arguments = (site.url, "m:latest", "{}", str(manifest), "-", "3", "60")
    result = sh(script("pull-model.sh", arguments))
    assert result.returncode == 1
    assert "m:latest: nothing has come for 3 seconds" in result.stderr


def test_pull_of_another_digest_fails(site: Site, manifest: Path) -> None:
    result = pull(site, manifest, [SUCCESS], digest="0" * 64)
    assert result.returncode == 1
    assert f"its digest is {sha256(b'manifest')}" in result.stderr
    assert pull(site, manifest, [SUCCESS], digest=sha256(b"manifest")).returncode == 0


def test_damaged_blobs_are_deleted(tmp_path: Path) -> None:
    good, bad = tmp_path / f"sha256-{sha256(b'good')}", tmp_path / f"sha256-{sha256(b'bad')}"
    good.write_bytes(b"good")
    bad.write_bytes(b"\0\0\0")
    result = sh(script("check-blobs.sh", (str(good), str(bad))))
    assert result.returncode == 0, result.stderr
    assert good.exists()
    assert not bad.exists()


def test_waiting_ends_with_the_version(site: Site) -> None:
    site.files = {"/api/version": b'{"version":"1.0.0"}'}
    assert sh(script("wait-ready.sh", (site.url, "1.0.0", "u.service", "9", "5"))).returncode == 0


def test_waiting_for_another_version_ends_with_what_is_said(site: Site, tools: Path) -> None:
    tool(tools, "journalctl", "echo the journal")
    site.files = {"/api/version": b'{"version":"0.9.0"}'}
    result = sh(script("wait-ready.sh", (site.url, "1.0.0", "u.service", "1", "5")), tools)
    assert result.returncode == 1
    assert result.stdout == "the journal\n"
    assert 'says: {"version":"0.9.0"}' in result.stderr


# Asking


def answers(text: str) -> list[str]:
    return sh(text).stdout.splitlines()


def test_store_is_read_from_its_files(tmp_path: Path) -> None:
    config, layer = b"config", b"layer"
    parts = [{"digest": f"sha256:{sha256(part)}", "size": len(part)} for part in (config, layer)]
    text = json.dumps({"config": parts[0], "layers": [parts[1]]})
    manifest = tmp_path / "manifests/registry.ollama.ai/library/llama3/latest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(text)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for part in (config, layer, b"orphan"):
        (blobs / f"sha256-{sha256(part)}").write_bytes(part)
    (blobs / "sha256-abc-partial").write_bytes(b"x" * 5000)
    (blobs / "sha256-abc-partial-0").write_bytes(b"{}")
    store = ModelStores().process(answers(ModelStores().command(str(tmp_path))))
    assert store.models.keys() == {"llama3:latest"}
    assert store.models["llama3:latest"].is_whole
    assert store.models["llama3:latest"].digest == sha256(text.encode())
    assert store.orphans == (f"sha256-{sha256(b'orphan')}",)
    assert store.partial >= 5000


def test_absent_store_is_empty(tmp_path: Path) -> None:
    assert answers(ModelStores().command(str(tmp_path / "none"))) == []


def test_releases_are_read_from_their_records(tmp_path: Path) -> None:
    root, link = tmp_path / "opt", tmp_path / "ollama"
    for version, text in {"1.0.0": "aaa base\nbbb add-on\n", "0.9.0": "ccc base\n"}.items():
        (root / version).mkdir(parents=True)
        (root / version / ".jarvis-archives").write_text(text)
    (root / "by-hand").mkdir()
    (root / "current").symlink_to("1.0.0")
    link.symlink_to(root / "current/bin/ollama")
    fact = ReleaseStates()
    state = fact.process(answers(fact.command(str(root), str(link))))
    assert state.installed == {
        "0.9.0": {"base": "ccc"},
        "1.0.0": {"base": "aaa", "add-on": "bbb"},
        "by-hand": {},
    }
    assert (state.current, state.previous) == ("1.0.0", None)
    assert state.command == f"{root}/current/bin/ollama"


def test_listener_is_found_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = Listeners().process(answers(Listeners().command((port,))))
    assert [(item.port, item.pid, item.unit) for item in found] == [(port, os.getpid(), None)]
    assert answers(Listeners().command((port,))) == []


def test_space_of_a_path_that_is_not_there_is_its_parents(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    paths = (str(tmp_path / "with space"), str(tmp_path / "not/there"))
    spaces = Spaces().process(answers(Spaces().command(paths)))
    assert set(spaces) == set(paths)
    assert {item.device for item in spaces.values()} == {tmp_path.stat().st_dev}
    assert all(item.free > 0 for item in spaces.values())


def test_machine_is_this_one() -> None:
    machine = MachineState().process(answers(MachineState().command()))
    assert "127.0.0.1" in machine.addresses
    assert machine.can_fetch
    assert machine.os != "unknown"
    assert machine.architecture in {"amd64", "arm64"}


@pytest.mark.parametrize("client", ["curl", "python"])
def test_web_is_asked_alike_by_both_clients(site: Site, client: str) -> None:
    site.files = {"/sums": b"line\n", "/archive": b"x" * 5000}
    site.redirects = {"/moved": f"{site.url}/archive"}
    words = ["GET", f"{site.url}/sums", "HEAD", f"{site.url}/moved", "GET", f"{site.url}/none"]
    program = script("replies.sh", words) if client == "curl" else python("replies.py", words)
    assert Replies().process(answers(program)) == (
        Reply(200, 5, b"line\n"),
        Reply(200, 5000, b""),
        Reply(404, 0, b""),
    )


@pytest.mark.parametrize("client", ["curl", "python"])
def test_unreachable_web_is_an_error_in_words(client: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        words = ["GET", f"http://127.0.0.1:{unused.getsockname()[1]}/"]
        program = script("replies.sh", words) if client == "curl" else python("replies.py", words)
        (reply,) = Replies().process(answers(program))
    assert reply.status is None
    assert reply.error


# Installing packages


@pytest.fixture
def apt(tmp_path: Path, tools: Path) -> Path:
    """Package managers that note how they are called; what they do is in a file beside."""
    log = tmp_path / "apt.log"
    for name in ("dpkg", "apt-get"):
        tool(tools, name, f'echo "{name} $*" >>{log}\n. {tmp_path}/apt.behaviour')
    tool(tools, "sleep", "exit 0")
    tool(tools, "find", "exit 0")
    return tmp_path / "apt.behaviour"


def installed_with(
    apt: Path, tools: Path, behaviour: str, seconds: int = 600
) -> tuple[int, str, str]:
    apt.write_text(behaviour)
    result = sh(script("install-packages.sh", (str(seconds), "zstd")), tools)
    verbs = ("--configure", "update", "install")
    lines = apt.with_name("apt.log").read_text().splitlines()
    called = [next(verb for verb in verbs if verb in line.split()) for line in lines]
    return result.returncode, " ".join(called), result.stderr


def test_packages_are_installed_from_a_new_index(apt: Path, tools: Path) -> None:
    assert installed_with(apt, tools, "exit 0") == (0, "--configure update install", "")


def test_packages_of_a_fresh_index_need_no_update(apt: Path, tools: Path) -> None:
    tool(tools, "find", "echo /var/lib/apt/lists/a_Packages")
    assert installed_with(apt, tools, "exit 0") == (0, "--configure install", "")


def test_packages_that_are_gone_from_the_mirror_are_looked_up_anew(apt: Path, tools: Path) -> None:
    tool(tools, "find", "echo /var/lib/apt/lists/a_Packages")
    fails_before_update = (
        f"case $* in *update*) touch {apt}.done;; *install*) [ -e {apt}.done ];; esac"
    )
    status, called, _ = installed_with(apt, tools, fails_before_update)
    assert (status, called) == (0, "--configure install update install")


def test_locked_package_manager_is_waited_for(apt: Path, tools: Path) -> None:
    locked_once = (
        f"case $* in *update*) [ -e {apt}.done ] || "
        f"{{ touch {apt}.done; echo 'E: Could not get lock' >&2; exit 100; }};; esac"
    )
    status, called, _ = installed_with(apt, tools, locked_once)
    assert (status, called) == (0, "--configure update update install")


def test_lock_that_stays_is_given_up_with_its_message(apt: Path, tools: Path) -> None:
    status, called, said = installed_with(apt, tools, "echo 'E: Could not get lock' >&2; exit 1", 0)
    assert (status, called) == (1, "--configure")
    assert said == "E: Could not get lock\n"


def test_package_that_does_not_exist_is_not_waited_for(apt: Path, tools: Path) -> None:
    gone = "case $* in *install*) echo 'E: Unable to locate package zstd' >&2; exit 100;; esac"
    status, called, said = installed_with(apt, tools, gone)
    assert (status, called) == (1, "--configure update install")
    assert said == "E: Unable to locate package zstd\n"
