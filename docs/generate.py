"""Write the tables of `docs/nodes.md` from the schema. Run it with `make docs`."""

from __future__ import annotations

import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel

from litellm_plugins import schema

if typing.TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = Path(__file__).parent / "nodes.md"
BEGIN = "<!-- Made by `make docs` from litellm_plugins/schema.py; do not edit below. -->"
END = "<!-- End of what `make docs` makes. -->"

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The fleet", schema.Fleet),
    ("`ollama`", schema.OllamaRelease),
    ("`gateway`", schema.Gateway),
    ("`gateway.tls`", schema.Tls),
    ("`routing`", schema.Routing),
    ("`nodes.<name>`", schema.Node),
    ("`nodes.<name>.hardware`", schema.Hardware),
    ("`nodes.<name>.ollama`", schema.OllamaSettings),
    ("`nodes.<name>.storage`", schema.Storage),
    ("`groups.<name>`", schema.Group),
    ("`models.<name>`", schema.Model),
    ("`keys.<name>`", schema.ApiKey),
)

_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    types.NoneType: "null",
}


def page() -> str:
    """Return the page as it should be: its own text, with the tables made anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """Return one table of keys per section of the schema, in Markdown."""
    return "\n".join(_section(title, model) for title, model in SECTIONS)


def _section(title: str, model: type[BaseModel]) -> str:
    rows = [_row(name, field) for name, field in model.model_fields.items()]
    head = ["| key | type | default | example | meaning |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([f"### {title}", "", model.__doc__ or "", "", *head, *rows, ""])


def _row(name: str, field: FieldInfo) -> str:
    bounds = _bounds(field)
    kind = f"{_kind(field.annotation)}{bounds}"
    example = f"`{json.dumps(field.examples[0])}`" if field.examples else ""
    cells = (f"`{name}`", kind, _default(field), example, field.description or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _bounds(field: FieldInfo) -> str:
    texts = []
    for item in field.metadata:
        if isinstance(item, Ge):
            texts.append(f"at least {item.ge}")
        if isinstance(item, Gt):
            texts.append(f"more than {item.gt}")
        if isinstance(item, Le):
            texts.append(f"at most {item.le}")
    return f", {', '.join(texts)}" if texts else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its own"
    if isinstance(value, tuple):
        value = [item.value if isinstance(item, enum.Enum) else item for item in value]
    if isinstance(value, enum.Enum):
        value = value.value
    return f"`{json.dumps(value)}`"


def _kind(annotation: Any) -> str:  # noqa: ANN401 - any annotation
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_kind(item) for item in arguments if item is not types.NoneType)
    if origin is typing.Literal:
        return ", ".join(f"`{json.dumps(item)}`" for item in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping of {_kind(arguments[0])} to {_kind(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f'`"{item.value}"`' for item in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping, see below"
    return _NAMES.get(annotation, "IPv4 address")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
