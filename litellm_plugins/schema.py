"""The fleet schema: what `inventory.py` declares and what the gateway reads as `fleet.json`.

One model for both sides. It needs pydantic and the standard library only, because it is
imported on the control machine (which has no LiteLLM) and on the gateway (which has no pyinfra).
Every key has a default or is required, an example, and a sentence; `docs/nodes.md` is made of them.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import Enum
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from litellm_plugins.names import canonical_model, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

__all__ = [
    "ApiKey",
    "Category",
    "Fleet",
    "FleetError",
    "Gateway",
    "Gpu",
    "Group",
    "Hardware",
    "Model",
    "Node",
    "OllamaRelease",
    "OllamaSettings",
    "Role",
    "Routing",
    "Storage",
    "Tier",
    "Tls",
    "load_fleet",
]


class FleetError(ValueError):
    """The declared fleet is wrong; `lines` holds one sentence per error, each with its key's path."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class Role(str, Enum):
    """What a machine does in the fleet; one machine may do several things."""

    INFERENCE = "inference"
    GATEWAY = "gateway"
    STORAGE = "storage"


class Tier(str, Enum):
    """The order in which inference nodes are preferred."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    EDGE = "edge"


class Gpu(str, Enum):
    """The kinds of GPU that need different treatment by Ollama."""

    NONE = "none"
    NVIDIA = "nvidia"
    AMD = "amd"
    STRIX_HALO = "strix-halo"
    AMD_IGPU = "amd-igpu"
    INTEL = "intel"


class Category(str, Enum):
    """What a model is for."""

    GENERAL = "general"
    CODE = "code"
    FAST = "fast"
    EMBEDDING = "embedding"


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"named twice: {', '.join(repeated)}")
    return values


_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_HOST_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
_SHA256 = r"^[0-9a-f]{64}$"
_PATH = r"^/[A-Za-z0-9._/-]*[A-Za-z0-9._-]$"
_MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,349}$"
_VERSION = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$"
_DURATION = r"^-?[0-9]+(\.[0-9]+)?(ms|s|m|h)?$"
_URL = r"^https?://[^\s'\"]+[^/\s'\"]$"
_ENV_VALUE = r'^[^\n\r\x00"\\]*$'

_PATTERN_SENTENCES = {
    _NAME: "must be lower-case letters, digits and hyphens, at most 63",
    _HOST_NAME: "must be a host name in lower case",
    _SHA256: "must be a sha256 of 64 hex digits, in lower case",
    _PATH: "must be an absolute path of letters, digits, '.', '_' and '-'",
    _MODEL_NAME: "must be the name of a model, e.g. 'llama3' or 'qwen2.5-coder:7b'",
    _VERSION: "must be a version such as '0.34.2', without the 'v'",
    _DURATION: "must be a duration such as '30m', or seconds",
    _URL: "must be an http or https URL without a slash at the end",
    _ENV_VALUE: "must be one line without quotes and backslashes",
}

_TYPE_SENTENCES = {
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "missing": "is missing and has no default",
}

Name = Annotated[str, StringConstraints(pattern=_NAME)]
HostName = Annotated[str, StringConstraints(pattern=_HOST_NAME)]
Sha256 = Annotated[str, StringConstraints(pattern=_SHA256)]
AbsolutePath = Annotated[str, StringConstraints(pattern=_PATH)]
ModelName = Annotated[
    str,
    StringConstraints(pattern=_MODEL_NAME),
    AfterValidator(canonical_model),
]
ModelNames = Annotated[tuple[ModelName, ...], AfterValidator(_unique)]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]
EnvValue = Annotated[str, StringConstraints(pattern=_ENV_VALUE)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=False)


class Hardware(_Strict):
    """What the machine has; Ollama is tuned from it."""

    gpu: Gpu = Field(
        Gpu.NONE,
        examples=["strix-halo"],
        description="Kind of GPU that Ollama shall use; `none` means that it computes on the CPU.",
    )
    memory_gib: float = Field(
        8,
        gt=0,
        le=65536,
        examples=[128],
        description="Memory of the machine in GiB, as bought.",
    )
    vram_gib: float = Field(
        0,
        ge=0,
        le=65536,
        examples=[96],
        description="Memory that the GPU can use, in GiB: its own, or what an integrated GPU may borrow.",
    )

    @model_validator(mode="after")
    def _gpu_has_memory(self) -> Hardware:
        if self.gpu is not Gpu.NONE and self.vram_gib == 0:
            raise ValueError(f"gpu is {self.gpu.value!r}, so vram_gib must be greater than 0")
        if self.gpu is Gpu.NONE and self.vram_gib > 0:
            raise ValueError("vram_gib is set, so gpu must say which kind it is")
        return self


_OWN_VARIABLES = {
    "OLLAMA_HOST": "is the node's address; set `address`",
    "OLLAMA_MODELS": "has a key of its own: `models_path`",
    "OLLAMA_NUM_PARALLEL": "has a key of its own: `num_parallel`",
    "OLLAMA_CONTEXT_LENGTH": "has a key of its own: `context_length`",
    "OLLAMA_MAX_LOADED_MODELS": "has a key of its own: `max_loaded_models`",
    "OLLAMA_KV_CACHE_TYPE": "has a key of its own: `kv_cache_type`",
    "OLLAMA_KEEP_ALIVE": "has a key of its own: `keep_alive`",
    "OLLAMA_NO_CLOUD": "stays set, so that no prompt leaves the network",
    "LLAMA_ARG_HOST": "would open the model runner to the network",
    "LLAMA_ARG_PORT": "would move the model runner away from Ollama",
    "LLAMA_ARG_API_KEY": "would lock Ollama out of its own model runner",
}
"""Variables that the gateway counts on or that would break or expose the service."""


class OllamaSettings(_Strict):
    """Settings of Ollama on one node; what is null is derived from its hardware."""

    num_parallel: int | None = Field(
        None,
        ge=1,
        le=64,
        examples=[4],
        description="Slots: requests that one loaded model answers at a time (OLLAMA_NUM_PARALLEL).",
    )
    context_length: int | None = Field(
        None,
        ge=512,
        le=4_194_304,
        examples=[16384],
        description="Tokens of context of each slot (OLLAMA_CONTEXT_LENGTH).",
    )
    max_loaded_models: int | None = Field(
        None,
        ge=1,
        le=64,
        examples=[3],
        description="Models in memory at a time (OLLAMA_MAX_LOADED_MODELS).",
    )
    kv_cache_type: Literal["f16", "q8_0", "q4_0"] | None = Field(
        None,
        examples=["q8_0"],
        description="Number format of the key-value cache (OLLAMA_KV_CACHE_TYPE).",
    )
    keep_alive: str | None = Field(
        None,
        pattern=_DURATION,
        examples=["30m"],
        description="How long an idle model stays in memory (OLLAMA_KEEP_ALIVE); negative is for ever.",
    )
    models_path: AbsolutePath | None = Field(
        None,
        examples=["/srv/ollama/models"],
        description="Directory of the model store (OLLAMA_MODELS).",
    )
    environment: dict[EnvName, EnvValue] = Field(
        default_factory=dict,
        examples=[{"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}],
        description="Further environment variables of the Ollama service; they win over derived ones.",
    )

    @model_validator(mode="after")
    def _environment_leaves_our_keys_alone(self) -> OllamaSettings:
        for variable in self.environment:
            if variable in _OWN_VARIABLES:
                raise ValueError(f"environment: {variable} {_OWN_VARIABLES[variable]}")
        return self


class Storage(_Strict):
    """What a storage node keeps."""

    path: AbsolutePath = Field(
        "/srv/jarvis/models",
        examples=["/volume1/jarvis/models"],
        description="Directory for the fleet's model weights.",
    )
    port: Port = Field(
        8085,
        examples=[8085],
        description="Port of the weights service; only machines of the fleet can reach it.",
    )


class Node(_Strict):
    """One machine."""

    address: IPv4Address = Field(
        ...,
        examples=["192.168.1.10"],
        description="The machine's IPv4 address in the fleet's network; Ollama listens there.",
    )
    roles: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(
        (Role.INFERENCE,),
        examples=[["inference"]],
        description="What the machine does: `inference`, `gateway`, `storage`, or several of them.",
    )
    tier: Tier | None = Field(
        None,
        examples=["primary"],
        description="Preference among inference nodes; by default `primary` with a GPU, `edge` without.",
    )
    connection: Literal["ssh", "local"] = Field(
        "ssh",
        examples=["local"],
        description="How pyinfra reaches the machine: over SSH, or `local` for the one it runs on.",
    )
    ssh_host: str | None = Field(
        None,
        min_length=1,
        examples=["ai-max.lan"],
        description="Name or address for SSH where it is not `address`.",
    )
    hardware: Hardware = Field(
        default_factory=Hardware,
        examples=[{"gpu": "strix-halo", "memory_gib": 128, "vram_gib": 96}],
        description="What the machine has.",
    )
    models: ModelNames = Field(
        (),
        examples=[["llama3", "qwen2.5-coder:7b"]],
        description="Models to pull on this machine, besides those of its groups.",
    )
    ollama: OllamaSettings = Field(
        default_factory=OllamaSettings,
        examples=[{"num_parallel": 2}],
        description="Settings that replace what is derived from the hardware.",
    )
    storage: Storage = Field(
        default_factory=Storage,
        examples=[{"path": "/volume1/jarvis/models"}],
        description="What the machine keeps if its role is `storage`.",
    )
    drain: bool = Field(
        False,
        examples=[True],
        description="Take no new work and let running work finish.",
    )

    @property
    def has_gpu(self) -> bool:
        """Whether Ollama computes on a GPU here."""
        return self.hardware.gpu is not Gpu.NONE

    @property
    def effective_tier(self) -> Tier:
        """The declared tier, or the one that the hardware implies."""
        if self.tier is not None:
            return self.tier
        return Tier.PRIMARY if self.has_gpu else Tier.EDGE

    @model_validator(mode="after")
    def _keys_fit_roles(self) -> Node:
        repeated = [role.value for role, count in Counter(self.roles).items() if count > 1]
        if repeated:
            raise ValueError(f"roles: named twice: {', '.join(repeated)}")
        if Role.INFERENCE in self.roles:
            return self
        if self.models:
            raise ValueError("models are declared, but the node has no role 'inference'")
        if self.drain:
            raise ValueError("drain is set, but the node has no role 'inference'")
        return self


class Group(_Strict):
    """Nodes that share models."""

    nodes: Annotated[tuple[Name, ...], AfterValidator(_unique)] = Field(
        ...,
        examples=[["ai-max", "ai-mini-x1"]],
        description="Names of the nodes in the group.",
    )
    models: ModelNames = Field(
        (),
        examples=[["llama3", "mistral"]],
        description="Models to pull on every node of the group.",
    )


class Model(_Strict):
    """What is known of a model, besides where it is."""

    category: Category = Field(
        Category.GENERAL,
        examples=["code"],
        description="What the model is for: `general`, `code`, `fast` or `embedding`.",
    )
    best_for: str = Field(
        "",
        max_length=120,
        examples=["reasoning"],
        description="In a few words, what it is best for; shown at `/api/models`.",
    )
    lightweight: bool | None = Field(
        None,
        examples=[True],
        description="Whether a CPU node may take its overflow whatever the request's size; "
        "by default true for the categories `fast` and `embedding`.",
    )
    digest: Sha256 | None = Field(
        None,
        examples=["6a0746a1ec1aef3e7ec53868f220ff6e389f6f8ef87a01d77c96807de94ca2aa"],
        description="Expected sha256 of the model's manifest; a pull that brings another one fails.",
    )

    @property
    def is_lightweight(self) -> bool:
        """The declared value, or what the category implies."""
        if self.lightweight is not None:
            return self.lightweight
        return self.category in {Category.FAST, Category.EMBEDDING}


_ASSET = re.compile(r"^ollama-linux-(amd64|arm64)(-[a-z0-9]+)?\.tar\.zst$")


class OllamaRelease(_Strict):
    """Which Ollama the inference nodes run."""

    version: str = Field(
        ...,
        pattern=_VERSION,
        examples=["0.34.2"],
        description="Version of the release, without the `v`. Change it to upgrade or to roll back.",
    )
    sha256: dict[str, Sha256] = Field(
        default_factory=dict,
        examples=[
            {
                "ollama-linux-amd64.tar.zst": "e3b0c44298fc1c149afbf4c8996fb924"
                "27ae41e4649b934ca495991b7852b855"
            }
        ],
        description="Checksum of each archive by its name, 64 hex digits. An archive without one "
        "here is held against the release's own `sha256sum.txt`.",
    )
    release_url: str = Field(
        "https://github.com/ollama/ollama/releases/download",
        pattern=_URL,
        examples=["https://mirror.example.com/ollama"],
        description="Where releases are downloaded from; `/v<version>/<archive>` is added.",
    )
    registry_url: str = Field(
        "https://registry.ollama.ai",
        pattern=_URL,
        examples=["https://registry.ollama.ai"],
        description="Registry that is asked, before a pull, whether a model exists and how large it is.",
    )

    @model_validator(mode="after")
    def _assets_are_known(self) -> OllamaRelease:
        for asset in self.sha256:
            if not _ASSET.match(asset):
                raise ValueError(
                    f"sha256: {asset!r} is not the name of an archive of Ollama for Linux, "
                    "e.g. 'ollama-linux-amd64.tar.zst'"
                )
        return self


class Tls(_Strict):
    """Where the gateway's certificate comes from."""

    mode: Literal["internal", "files", "acme"] = Field(
        "internal",
        examples=["acme"],
        description="`internal`: an authority of the gateway's own; `files`: yours; `acme`: a public one.",
    )
    certificate: AbsolutePath | None = Field(
        None,
        examples=["/etc/ssl/jarvis/fullchain.pem"],
        description="Path on the gateway of the certificate chain, with mode `files`.",
    )
    key: AbsolutePath | None = Field(
        None,
        examples=["/etc/ssl/jarvis/privkey.pem"],
        description="Path on the gateway of the private key, with mode `files`.",
    )
    email: str | None = Field(
        None,
        pattern=r"^[^@\s]+@[^@\s]+$",
        examples=["you@example.com"],
        description="Address for the certificate authority's notices, with mode `acme`.",
    )

    @model_validator(mode="after")
    def _mode_has_what_it_needs(self) -> Tls:
        has_files = self.certificate is not None and self.key is not None
        if self.mode == "files" and not has_files:
            raise ValueError("mode is 'files', so certificate and key must both be set")
        if self.mode != "files" and (self.certificate or self.key):
            raise ValueError(f"certificate and key are for mode 'files', and mode is {self.mode!r}")
        return self


class Gateway(_Strict):
    """The one endpoint."""

    hostname: HostName = Field(
        "jarvis.home.arpa",
        examples=["jarvis.example.com"],
        description="Name that clients use; the certificate is for it and for the node's address.",
    )
    port: Port = Field(443, examples=[443], description="Port of the endpoint.")
    tls: Tls = Field(
        default_factory=Tls,
        examples=[{"mode": "internal"}],
        description="Where the certificate comes from.",
    )
    public_models: bool = Field(
        True,
        examples=[False],
        description="Whether `GET /api/models` answers without a key, with names and categories only.",
    )


class Routing(_Strict):
    """How requests are spread over the nodes."""

    refresh_seconds: float = Field(
        2.0,
        gt=0,
        le=10,
        examples=[2],
        description="Seconds between two looks at what a node has; a hand-pulled model shows after one.",
    )
    connect_timeout_seconds: float = Field(
        2.0,
        gt=0,
        le=60,
        examples=[2],
        description="Seconds to wait for a node to accept a connection.",
    )
    first_token_timeout_seconds: float = Field(
        300.0,
        gt=0,
        le=3600,
        examples=[300],
        description="Seconds without a token of a streamed answer after which a request is moved to "
        "another node; a cold load of a large model has to fit. An answer that is not streamed gets "
        "a second more for every 5 tokens it may have.",
    )
    lightweight_prompt_tokens: int = Field(
        256,
        ge=0,
        examples=[256],
        description="Prompts up to this many tokens count as lightweight if the answer is short too.",
    )
    lightweight_answer_tokens: int = Field(
        128,
        ge=0,
        examples=[128],
        description="Answers limited to this many tokens count as short.",
    )


class ApiKey(_Strict):
    """Who may use the endpoint. Only the hash of a key is kept."""

    sha256: Sha256 = Field(
        ...,
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        description="sha256 of the key, as `make key` prints it.",
    )


class Fleet(_Strict):
    """The whole fleet."""

    schema_version: Literal[1] = Field(1, examples=[1], description="Version of this schema.")
    ollama: OllamaRelease = Field(
        ..., examples=[{"version": "0.34.2"}], description="Which Ollama the nodes run."
    )
    gateway: Gateway = Field(
        default_factory=Gateway,
        examples=[{"hostname": "jarvis.example.com"}],
        description="The one endpoint.",
    )
    routing: Routing = Field(
        default_factory=Routing,
        examples=[{"refresh_seconds": 2}],
        description="How requests are spread over the nodes.",
    )
    nodes: dict[Name, Node] = Field(
        ...,
        examples=[{"ai-max": {"address": "192.168.1.10"}}],
        description="The machines, by name.",
    )
    groups: dict[Name, Group] = Field(
        default_factory=dict,
        examples=[{"gpu": {"nodes": ["ai-max"], "models": ["llama3"]}}],
        description="Groups of nodes that share models.",
    )
    models: dict[ModelName, Model] = Field(
        default_factory=dict,
        examples=[{"llama3": {"category": "general", "best_for": "balanced"}}],
        description="What is known of the models. Each must be declared for at least one node.",
    )
    keys: dict[Name, ApiKey] = Field(
        default_factory=dict,
        examples=[
            {
                "alice": {
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
                }
            }
        ],
        description="API keys by the name of who uses them, as hashes.",
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Fleet:
        lines = [*self._role_errors(), *self._address_errors(), *self._reference_errors()]
        if lines:
            raise FleetError(lines)
        return self

    def _role_errors(self) -> Iterator[str]:
        gateways = [name for name, node in self.nodes.items() if Role.GATEWAY in node.roles]
        if not gateways:
            yield "nodes: no node has the role 'gateway'; give it to one of them"
        if len(gateways) > 1:
            yield f"nodes: more than one node has the role 'gateway': {', '.join(gateways)}"
        if not any(Role.INFERENCE in node.roles for node in self.nodes.values()):
            yield "nodes: no node has the role 'inference'; give it to one of them"
        on_one_machine = all(node.address.is_loopback for node in self.nodes.values())
        for name, node in self.nodes.items():
            if node.address.is_loopback and not on_one_machine:
                yield (
                    f"nodes.{name}.address: {node.address} is this machine's own loopback; "
                    "in a fleet of several nodes the others cannot reach it"
                )

    def _address_errors(self) -> Iterator[str]:
        owner: dict[IPv4Address, str] = {}
        for name, node in self.nodes.items():
            first = owner.setdefault(node.address, name)
            if first != name:
                yield f"nodes.{name}.address: {node.address} is the address of node {first!r} already"

    def _reference_errors(self) -> Iterator[str]:
        for group, members in ((name, item.nodes) for name, item in self.groups.items()):
            if group in self.nodes or group in {role.value for role in Role} or group == "all":
                yield f"groups.{group}: the name is taken by a node or by pyinfra; choose another"
            for node in members:
                if node not in self.nodes:
                    yield f"groups.{group}.nodes: unknown node {node!r}{_hint(node, self.nodes)}"
                elif Role.INFERENCE not in self.nodes[node].roles and self.groups[group].models:
                    yield (
                        f"groups.{group}.nodes: {node!r} has no role 'inference', "
                        "and the group declares models"
                    )
        placed = {model for name in self.nodes for model in self.models_of(name)}
        for model in self.models:
            if model not in placed:
                yield (
                    f"models.{model}: no node has it; add it to a node's or a group's "
                    f"models{_hint(model, placed)}"
                )

    def nodes_with(self, role: Role) -> dict[str, Node]:
        """Return the nodes that have the role, by name, in declared order."""
        return {name: node for name, node in self.nodes.items() if role in node.roles}

    @property
    def gateway_node(self) -> tuple[str, Node]:
        """The name and the node of the gateway."""
        return next(iter(self.nodes_with(Role.GATEWAY).items()))

    def models_of(self, node: str) -> tuple[str, ...]:
        """Return the canonical names of the models declared for a node, its groups' first."""
        of_groups = (
            model for group in self.groups.values() if node in group.nodes for model in group.models
        )
        return tuple(dict.fromkeys((*of_groups, *self.nodes[node].models)))

    def model(self, name: str) -> Model:
        """Return what is known of a model; of an undeclared one, what its name tells."""
        canonical = canonical_model(name)
        return self.models.get(canonical) or Model(category=_category_by_name(canonical))


def _category_by_name(model: str) -> Category:
    if "embed" in model or model.startswith(("bge-", "all-minilm")):
        return Category.EMBEDDING
    if "code" in model or "starcoder" in model:
        return Category.CODE
    return Category.GENERAL


def load_fleet(data: Mapping[str, Any] | str | bytes) -> Fleet:
    """Validate a fleet, from plain data or from JSON text.

    Raises:
        FleetError: with one line per error, each naming the path of the wrong key.

    """
    try:
        if isinstance(data, (str, bytes)):
            return Fleet.model_validate_json(data)
        return Fleet.model_validate(data)
    except ValidationError as error:
        raise FleetError([line for item in error.errors() for line in _lines(item)]) from None


def _lines(error: ErrorDetails) -> Iterator[str]:
    original = error.get("ctx", {}).get("error")
    if isinstance(original, FleetError):
        yield from original.lines
        return
    path = ".".join(str(part) for part in error["loc"] if part != "[key]") or "fleet"
    yield f"{path}: {_sentence(error)}"


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key{_hint(str(error['loc'][-1]), _keys_at(error['loc'][:-1]))}"
    sentence = _TYPE_SENTENCES.get(error["type"]) or _own_words(error)
    given = error.get("input")
    might_be_a_secret = error["loc"][:1] == ("keys",)
    if might_be_a_secret or not isinstance(given, (str, int, float, bool)):
        return sentence
    return f"{sentence} (it is {given!r})"


def _own_words(error: ErrorDetails) -> str:
    pattern = error.get("ctx", {}).get("pattern")
    if pattern in _PATTERN_SENTENCES:
        return _PATTERN_SENTENCES[pattern]
    message = error["msg"].removeprefix("Value error, ").replace("Input ", "", 1)
    return message[:1].lower() + message[1:]


def _hint(word: str, known: Any) -> str:  # noqa: ANN401 - any container of names
    found = nearest(word, known, limit=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def _keys_at(path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the schema knows at a path of an error."""
    model: type[BaseModel] = Fleet
    skip_key = False
    for part in path:
        if skip_key:
            skip_key = False
            continue
        field = model.model_fields.get(str(part))
        if field is None:
            return []
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        found = [item for item in inner if isinstance(item, type) and issubclass(item, BaseModel)]
        if not found:
            return []
        skip_key = found[0] is not field.annotation
        model = found[0]
    return list(model.model_fields)
