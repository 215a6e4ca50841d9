"""Registrations of experiments at toy size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from verification.experiments import registration


def toy(name: str, sizes: Mapping[str, Any], folder: Path) -> str:
    """Write ``folder``/tiny_``name``.toml and return its name: other sizes, seeds neither registered nor the pilots'.

    An iterator among ``sizes`` gives a key that stands in several tables its values in turn.
    """
    lines: list[str] = []
    for line in (registration.FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines():
        key = line.partition(" = ")[0]
        if key == "seeds":
            line = "seeds = [7003]" if "[pilot]" in "\n".join(lines) else "seeds = [7001, 7002]"
        elif key in sizes:
            size = sizes[key]
            line = f"{key} = {next(size) if isinstance(size, Iterator) else size}"
        lines.append(line)
    (folder / f"tiny_{name}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"tiny_{name}"
