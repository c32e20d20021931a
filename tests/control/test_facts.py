"""Facts, case by case: `facts/<module>.<Fact>/<behaviour>.yaml`.

In the commands a script of `jarvis_ops/scripts` stands as its name in angle brackets; what the
scripts do is tested in `test_scripts.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pyinfra_testing.facts import make_fact_tests

from jarvis_ops import text

for directory in sorted((Path(__file__).parent / "facts").iterdir()):
    globals()[f"Test_{directory.name}"] = make_fact_tests(
        "jarvis_ops.facts", directory.name, directory
    )


@pytest.fixture(autouse=True)
def scripts_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_source", lambda name: f"<{name}>")
