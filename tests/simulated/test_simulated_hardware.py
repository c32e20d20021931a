"""Which hardware is simulated, what Ollama would make of it, and how fast it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_server import running_server

from lab.simulated_ollama.hardware import (
    PROFILES,
    Hardware,
    HardwareError,
    choose_device,
    read_hardware,
)
from lab.simulated_ollama.settings import FOREVER, parse_duration, parse_host, read_settings
from lab.simulated_ollama.speeds import batch_speedup, speeds_of

if TYPE_CHECKING:
    from pathlib import Path

ADD_ON = frozenset({"cuda_v12", "cuda_v13", "vulkan", "rocm_v7_2"})
BASE = ADD_ON - {"rocm_v7_2"}


@pytest.mark.parametrize(
    ("profile", "libraries", "environment", "library"),
    [
        ("nvidia", BASE, {}, "CUDA"),
        ("nvidia", frozenset(), {}, "cpu"),
        ("nvidia", BASE, {"CUDA_VISIBLE_DEVICES": "-1"}, "cpu"),
        ("nvidia", BASE, {"OLLAMA_LLM_LIBRARY": "vulkan"}, "Vulkan"),
        ("nvidia", BASE, {"OLLAMA_LLM_LIBRARY": "cpu"}, "cpu"),
        ("amd", ADD_ON, {}, "ROCm"),
        ("amd", BASE, {}, "Vulkan"),
        ("amd", BASE, {"OLLAMA_VULKAN": "0"}, "cpu"),
        ("strix-halo", ADD_ON, {}, "ROCm"),
        ("strix-halo", BASE, {}, "cpu"),
        ("strix-halo", BASE, {"OLLAMA_IGPU_ENABLE": "1"}, "Vulkan"),
        ("strix-halo", ADD_ON, {"OLLAMA_IGPU_ENABLE": "0"}, "cpu"),
        ("amd-igpu", ADD_ON, {}, "cpu"),
        ("amd-igpu", ADD_ON, {"OLLAMA_IGPU_ENABLE": "1"}, "ROCm"),
        ("intel", ADD_ON, {}, "cpu"),
        ("intel", ADD_ON, {"OLLAMA_IGPU_ENABLE": "1"}, "Vulkan"),
        ("cpu", ADD_ON, {"OLLAMA_IGPU_ENABLE": "1"}, "cpu"),
        ("amd-igpu", None, {"OLLAMA_IGPU_ENABLE": "1"}, "ROCm"),
    ],
)
def test_device_follows_from_hardware_libraries_and_environment(
    profile: str, libraries: frozenset[str] | None, environment: dict[str, str], library: str
) -> None:
    device = choose_device(Hardware(profile), read_settings(environment), libraries)
    assert device.library == library
    assert device.is_gpu == (library != "cpu")


def test_dropped_integrated_gpu_is_logged_and_runs_as_a_cpu(tmp_path: Path) -> None:
    with running_server(tmp_path / "off", profile="amd-igpu") as server:
        server.chat("llama3")
        log = server.has_logged("vram-based default context")
        assert "dropping integrated GPU; to enable, set OLLAMA_IGPU_ENABLE=1" in log
        assert 'msg="inference compute" id=cpu library=cpu' in log
        assert server.running()["llama3:latest"]["size_vram"] == 0
    with running_server(tmp_path / "on", profile="amd-igpu", OLLAMA_IGPU_ENABLE="1") as server:
        server.chat("llama3")
        log = server.has_logged("vram-based default context")
        assert "dropping" not in log
        assert "library=ROCm" in log
        assert "type=iGPU" in log
        assert server.running()["llama3:latest"]["size_vram"] > 0


def test_hardware_file(tmp_path: Path) -> None:
    path = tmp_path / "hardware.json"
    path.write_text(json.dumps({"profile": "none", "time_scale": 0.05}))
    assert read_hardware({"SIMULATED_HARDWARE": str(path)}) == Hardware("cpu", 0.05)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"profile": "quantum"}', "unknown profile 'quantum'"),
        ('{"time_scale": -1}', "time_scale must not be negative"),
        ('{"time_scale": "fast"}', "could not convert"),
        ("{", "Expecting"),
    ],
)
def test_wrong_hardware_file_is_an_error(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "hardware.json"
    path.write_text(content)
    with pytest.raises(HardwareError, match=complaint):
        read_hardware({"SIMULATED_HARDWARE": str(path)})


def test_hardware_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(HardwareError):
        read_hardware({"SIMULATED_HARDWARE": str(tmp_path / "nosuch")})


@pytest.mark.parametrize(
    ("profile", "parameters", "size", "prefill", "decode"),
    [
        ("strix-halo", 7.6, 4.7e9, 1485, 45.6),
        ("strix-halo", 70.6, 42.5e9, 87, 4.8),
        ("amd-igpu", 8.2, 5.0e9, 322, 13.4),
        ("cpu", 8.0, 4.9e9, 38, 8.0),
    ],
)
def test_measured_speeds_are_met(
    profile: str, parameters: float, size: float, prefill: float, decode: float
) -> None:
    speeds = speeds_of(profile, parameters, int(size))
    assert (speeds.prefill, speeds.decode) == pytest.approx((prefill, decode), rel=0.01)


@given(
    profile=st.sampled_from(sorted(PROFILES)),
    parameters=st.floats(0.1, 700),
    factor=st.floats(1.01, 10),
)
def test_larger_models_are_slower(profile: str, parameters: float, factor: float) -> None:
    small = speeds_of(profile, parameters, int(parameters * 6e8))
    large = speeds_of(profile, parameters * factor, int(parameters * factor * 6e8))
    assert large.prefill < small.prefill
    assert large.decode < small.decode
    assert large.load_seconds > small.load_seconds


@given(profile=st.sampled_from(sorted(PROFILES)), share=st.floats(0.01, 0.99))
def test_model_offloaded_in_part_lies_between_both(profile: str, share: float) -> None:
    whole = speeds_of(profile, 14.8, int(9e9)).decode
    partly = speeds_of(profile, 14.8, int(9e9), share).decode
    assert speeds_of("cpu", 14.8, int(9e9)).decode <= partly * 1.0001
    assert partly <= whole * 1.0001


@given(profile=st.sampled_from(sorted(PROFILES)), streams=st.integers(1, 64))
def test_more_streams_do_more_together_and_less_each(profile: str, streams: int) -> None:
    fewer, more = batch_speedup(profile, streams), batch_speedup(profile, streams + 1)
    assert fewer <= more
    assert more / (streams + 1) < fewer / streams


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("-1s", -1), ("300ms", 0.3), ("0", 0)],
)
def test_durations_of_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "5x", "soon"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="time: invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("", "127.0.0.1", 11434),
        ("192.168.1.10", "192.168.1.10", 11434),
        ("192.168.1.10:8080", "192.168.1.10", 8080),
        (":8080", "0.0.0.0", 8080),
        ("http://node", "node", 80),
        ("https://node/path", "node", 443),
        ("[::1]:8080", "::1", 8080),
        ("::1", "::1", 11434),
        ("node:99999", "node", 11434),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_host(text) == (host, port)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("30m", 1800), ("600", 600), ("0", 0), ("-1", FOREVER), ("-5m", FOREVER), ("soon", 300)],
)
def test_keep_alive_of_the_environment(value: str, seconds: float) -> None:
    assert read_settings({"OLLAMA_KEEP_ALIVE": value}).keep_alive == seconds
