"""The `options` of a request, as Ollama reads them: unknown ones are ignored, wrong types an error."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from lab.simulated_ollama.engine import Options
from lab.simulated_ollama.errors import ApiError

__all__ = ["options_of"]

_RUNNER_INTEGERS = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
)
_INTEGERS = (*_RUNNER_INTEGERS, "num_predict", "num_keep", "seed", "top_k", "repeat_last_n")
_FLOATS = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def options_of(given: dict[str, Any], defaults: dict[str, Any]) -> Options:
    """Return the options of a request over those of the model.

    Raises:
        ApiError: 500, as in Ollama, where an option has a wrong type.

    """
    values = {**defaults, **given}
    for name in _INTEGERS:
        if name in values and (isinstance(values[name], bool) or not _is_number(values[name])):
            raise _wrong(name, "integer")
    for name in _FLOATS:
        if name in values and not _is_number(values[name]):
            raise _wrong(name, "float32")
    stop = values.get("stop") or []
    if not isinstance(stop, list) or not all(isinstance(item, str) for item in stop):
        raise _wrong("stop", "array of strings")
    runner = {name: int(values[name]) for name in _RUNNER_INTEGERS if name in values}
    if isinstance(values.get("use_mmap"), bool):
        runner["use_mmap"] = values["use_mmap"]
    return Options(
        runner=runner,
        num_predict=int(values.get("num_predict", -1)),
        num_keep=int(values.get("num_keep", 4)),
        stop=tuple(stop),
    )


def _is_number(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(name: str, kind: str) -> ApiError:
    message = f'option "{name}" must be of type {kind}'
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message)
