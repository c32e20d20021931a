"""Operations, case by case: `operations/<module>.<operation>/<behaviour>.yaml`.

In the commands a script of `jarvis_ops/scripts` stands as its name in angle brackets.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra_testing.operations import make_operation_tests

from jarvis_ops import text

for directory in sorted((Path(__file__).parent / "operations").iterdir()):
    cases = make_operation_tests("jarvis_ops.operations", directory.name, directory)
    globals()[f"Test_{directory.name}"] = cases


@pytest.fixture(autouse=True)
def scripts_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_source", lambda name: f"<{name}>")
