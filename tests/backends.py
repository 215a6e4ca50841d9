"""Where parametrised tests run: NumPy, read-only NumPy, the strictest array-API library, CuPy on a GPU."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import backend
from refimpl.objective import Movable


@dataclass(frozen=True)
class Place:
    """A backend by its test name: ``move`` an objective, map or problem there, make an ``array`` there."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def backend(self) -> str:
        return "numpy" if self.name == "read-only" else self.name

    def move(self, thing: Any) -> Any:
        return read_only(thing) if self.name == "read-only" else thing.to(self.name)

    def array(self, x: Any) -> Any:
        if self.name == "read-only":
            return read_only(np.array(x, dtype=np.float64))
        return backend(self.name).asarray(np.asarray(x, dtype=np.float64))


def read_only(value: Any) -> Any:
    """The same with every array, also those inside objectives, a copy that raises when written to."""
    if isinstance(value, Movable):
        fields = {f.name: read_only(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)
    if isinstance(value, tuple):
        return tuple(read_only(v) for v in value)
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.setflags(write=False)
    return value


def installed(package: str) -> bool:
    """Can it be imported here?"""
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def round_trip(x: Any) -> Any:
    """x pickled and unpickled, as a process pool sends it."""
    return pickle.loads(pickle.dumps(x))  # noqa: S301 (bytes made in this line)


CPU = [Place("numpy"), Place("read-only"), Place("strict")]
ALL = [*CPU, pytest.param(Place("cupy"), marks=pytest.mark.gpu)]

on_cpu = pytest.mark.parametrize("place", CPU, ids=str)
everywhere = pytest.mark.parametrize("place", ALL, ids=str)  # needs neither scipy, autograd nor flint
