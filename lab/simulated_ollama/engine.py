"""From a request to the tokens of its answer: what all the HTTP interfaces have in common."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from lab.simulated_ollama.answers import Answer, Piece, answer, tokens_of
from lab.simulated_ollama.embedding import embedding
from lab.simulated_ollama.errors import ApiError, not_pulled
from lab.simulated_ollama.names import parse_name
from lab.simulated_ollama.runner import Metrics
from lab.simulated_ollama.scheduler import RunnerOptions
from lab.simulated_ollama.store import StoreError, Weights

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from lab.simulated_ollama.faults import Fault
    from lab.simulated_ollama.scheduler import Loaded, Scheduler
    from lab.simulated_ollama.store import Model, Store

__all__ = ["Engine", "Finish", "Inference", "Message", "Options", "Tools"]

_ENDLESS_FACTOR = 10
"""Ollama bounds an answer without a limit to ten contexts."""

_TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; "
    "shorten the prompt or increase the context length"
)

Tools = tuple[str, ...]


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Options:
    """The options of a request that the simulation heeds; `num_predict` below zero is no limit."""

    runner: dict[str, Any] = field(default_factory=dict)
    num_predict: int = -1
    num_keep: int = 4
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inference:
    """One request for text, whatever interface it came through.

    `keep_alive` is in seconds, None where the request says nothing; `think` is None likewise;
    `before` is text that an earlier answer handed out as its context; `slowdown` comes from a
    fault that is switched on for the request.
    """

    model: str
    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)
    keep_alive: float | None = None
    think: bool | None = None
    tools: Tools = ()
    form: Any = None
    truncate: bool = True
    shift: bool = True
    raw: bool = False
    before: str = ""
    suffix: str = ""
    slowdown: float = 1.0


@dataclass(frozen=True)
class Finish:
    """The end of an answer; times in seconds from the request's arrival."""

    prompt: str
    reason: str
    total: float
    load: float
    metrics: Metrics
    tool_calls: tuple[dict[str, Any], ...] = ()


class Engine:
    """Answers requests on one machine."""

    def __init__(self, store: Store, scheduler: Scheduler, node: str) -> None:
        self.store = store
        self.scheduler = scheduler
        self.node = node
        self._capabilities: dict[tuple[str, str], tuple[str, ...]] = {}

    def find(
        self, name: str, missing: Callable[[str], ApiError], unnamed: ApiError, fault: Fault
    ) -> Model:
        """Return a model of the store.

        Raises:
            ApiError: `missing` of the name where there is none, `unnamed` where none is named.

        """
        if not name:
            raise unnamed
        if fault.mode == "not_found":
            raise missing(name)
        parsed = parse_name(name)
        if not parsed.is_valid:
            raise ApiError(HTTPStatus.BAD_REQUEST, "invalid model name")
        try:
            found = self.store.model(parsed)
        except StoreError as error:
            raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
        if found is None:
            raise missing(name)
        return self._as_first_seen(found)

    def _as_first_seen(self, model: Model) -> Model:
        """Give a model the capabilities that it had when it was first asked for.

        Ollama remembers them by name and digest: a model first seen without its weights stays
        unable to chat until a restart, even when the weights come.
        """
        key = (model.name.full, model.manifest.digest)
        first = self._capabilities.setdefault(key, model.header.capabilities)
        return replace(model, header=replace(model.header, capabilities=first))

    @asynccontextmanager
    async def load(
        self,
        model: Model,
        asked: str,
        options: Options,
        keep_alive: float | None,
        *,
        shift: bool = True,
    ) -> AsyncIterator[Loaded]:
        """Have a model in memory while inside.

        Raises:
            ApiError: where its weights are not there as a whole.

        """
        if model.weights is Weights.MISSING:
            raise not_pulled(asked)
        if model.weights is Weights.SHORT:
            raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "EOF")
        loaded = await self.scheduler.acquire(
            model, self._runner_options(options, shift=shift), keep_alive
        )
        try:
            yield loaded
        finally:
            self.scheduler.release(loaded)

    async def generate(
        self, model: Model, request: Inference, arrived: float
    ) -> AsyncGenerator[Piece | Finish, None]:
        """Answer: the pieces one by one, then the `Finish`.

        `arrived` is the time of the request by `time.monotonic`.
        """
        async with self.load(
            model, request.model, request.options, request.keep_alive, shift=request.shift
        ) as loaded:
            load_seconds = time.monotonic() - arrived
            limit = loaded.options.num_ctx
            prompt = _prompt(model, request, limit)
            said = self._answer(model, request)
            pieces, reason = _limited(said, request.options, limit)
            metrics = Metrics()
            calls = said.tool_calls if reason == "stop" else ()
            spoken = loaded.runner.complete(prompt, pieces, metrics, request.slowdown)
            async with aclosing(spoken):
                async for piece in spoken:
                    if not calls:
                        yield piece
            yield Finish(
                "".join(prompt), reason, time.monotonic() - arrived, load_seconds, metrics, calls
            )

    async def embed(
        self,
        model: Model,
        asked: str,
        texts: Sequence[str],
        *,
        options: Options,
        keep_alive: float | None,
        truncate: bool,
        slowdown: float,
    ) -> tuple[list[list[float]], int, float]:
        """Return a vector per text, the number of tokens in all, and the seconds until loaded.

        Raises:
            ApiError: where a text is longer than the context and must not be cut.

        """
        arrived = time.monotonic()
        async with self.load(model, asked, options, keep_alive) as loaded:
            _check_embeds(model)
            load_seconds = time.monotonic() - arrived
            cut = [_cut_text(text, loaded.options.num_ctx, truncate=truncate) for text in texts]
            await asyncio.gather(*(loaded.runner.evaluate(item, slowdown) for item in cut))
        length = model.header.embedding_length
        vectors = [embedding("".join(item), length) for item in cut]
        return vectors, sum(map(len, cut)), load_seconds

    def _runner_options(self, options: Options, *, shift: bool) -> RunnerOptions:
        given = dict(options.runner)
        context = given.pop("num_ctx", None)
        return RunnerOptions(
            num_ctx=max(4, context or self.scheduler.default_context()),
            num_ctx_auto=context is None,
            shift=shift,
            **given,
        )

    def _answer(self, model: Model, request: Inference) -> Answer:
        continues = _continues(model, request)
        spoken = request.messages[:-1] if continues else request.messages
        asked = next((item.content for item in reversed(spoken) if item.role == "user"), "")
        return answer(
            model=request.model,
            node=self.node,
            conversation=_rendered(spoken),
            asked=asked,
            thinks=model.can("thinking") and request.think is not False,
            tools=request.tools,
            form=request.form,
            already=request.messages[-1].content if continues else "",
        )


def _check_embeds(model: Model) -> None:
    if not model.can("embedding"):
        message = "This server does not support embeddings. Start it with `--embeddings`"
        raise ApiError(HTTPStatus.NOT_IMPLEMENTED, message)


def _limited(said: Answer, options: Options, context: int) -> tuple[Sequence[Piece], str]:
    """Cut an answer at its stop texts and its limit; the reason is ``stop`` or ``length``."""
    pieces = _stopped(said.pieces, options.stop)
    limit = options.num_predict
    most = context * _ENDLESS_FACTOR if limit < 0 else min(limit, context * _ENDLESS_FACTOR)
    if len(pieces) > most:
        return pieces[:most], "length"
    return pieces, "stop"


def _stopped(pieces: Sequence[Piece], stop: Sequence[str]) -> Sequence[Piece]:
    text = "".join(piece.text for piece in pieces if not piece.thinking)
    ends = [at for word in stop if word and (at := text.find(word)) >= 0]
    if not ends:
        return pieces
    kept: list[Piece] = []
    left = min(ends)
    for piece in pieces:
        if piece.thinking:
            kept.append(piece)
            continue
        if left <= 0:
            break
        kept.append(Piece(piece.text[:left]))
        left -= len(piece.text)
    return kept


def _continues(model: Model, request: Inference) -> bool:
    """Whether the last message is the beginning of the answer."""
    return request.messages[-1].role == "assistant" and model.continues_answers


def _prompt(model: Model, request: Inference, limit: int) -> list[str]:
    """Return the tokens of the prompt, shortened to the context as Ollama shortens it.

    Raises:
        ApiError: where it does not fit and the request forbids what would make it fit.

    """
    messages = list(request.messages)
    continues = _continues(model, request)
    if model.system and not request.raw and (not messages or messages[0].role != "system"):
        messages.insert(0, Message("system", model.system))
    tokens = tokens_of(request.before + _rendered(messages, continues=continues))
    while request.truncate and len(tokens) > limit:
        dropped = next((i for i, item in enumerate(messages[:-1]) if item.role != "system"), None)
        if dropped is None:
            break
        del messages[dropped]
        tokens = tokens_of(request.before + _rendered(messages, continues=continues))
    if len(tokens) <= limit:
        return tokens
    if not request.shift:
        raise ApiError(HTTPStatus.BAD_REQUEST, _TOO_LONG)
    keep = min(request.options.num_keep, limit - 1)
    tail = math.ceil((limit - keep) / 2)
    return tokens[:keep] + tokens[-tail:]


def _rendered(messages: Sequence[Message], *, continues: bool = False) -> str:
    text = "".join(f"\n<{item.role}>{item.content}" for item in messages)
    return text if continues else f"{text}\n<assistant>"


def _cut_text(text: str, limit: int, *, truncate: bool) -> list[str]:
    tokens = tokens_of(text)
    if len(tokens) <= limit:
        return tokens
    if not truncate:
        raise ApiError(HTTPStatus.BAD_REQUEST, "the input length exceeds the context length")
    return tokens[:limit]
