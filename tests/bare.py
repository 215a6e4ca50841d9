"""A pytest plugin (``-p tests.bare``): this machine as a GPU machine without SciPy, autograd and flint.

It blocks their import, and keeps of each test that also runs on CuPy the one on the strict backend: what passes here
passes there as far as imports go.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

ABSENT = ("scipy", "autograd", "flint")


class Blocked:
    """Refuses the import of what is absent, as a machine without it does."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


def pytest_configure() -> None:
    """Block them: only where this module is a plugin, not where it is merely imported."""
    sys.meta_path.insert(0, Blocked())  # type: ignore[arg-type]  # a finder needs no more than this


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the strict siblings of the `gpu` tests."""
    on_gpu = {_function(item) for item in items if item.get_closest_marker("gpu")}
    kept = [item for item in items if _function(item) in on_gpu and _place(item) == "strict"]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _function(item: pytest.Item) -> tuple[str, str]:
    return str(item.path), getattr(item, "originalname", item.name)


def _place(item: pytest.Item) -> str:
    return str(getattr(item, "callspec", None) and item.callspec.params.get("place"))  # type: ignore[attr-defined]
