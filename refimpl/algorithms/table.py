"""Table 1 of contraction from the code's own attributes: how the algorithms differ, a row for each."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass

from refimpl.algorithms.protocol import Algorithm


@dataclass(frozen=True)
class Row:
    """What an algorithm's class says of itself.

    lower, linear: does it keep w, does it keep v, from one λ to the next? linear_system: how it solves ∂_w rᵀ v = ∇_wF:
    by a "product" or a "sum" of drawn Hessians anew, by "steps", by "inversion" of a matrix, by "SID". batches: the
    fields that say how many data are drawn.
    """

    name: str
    source: str
    lower: bool
    linear: bool
    linear_system: str
    batches: tuple[str, ...]


def table() -> tuple[Row, ...]:
    """A row for every algorithm that ``refimpl.algorithms`` exports and that solves a linear system, by source.

    >>> [row.linear_system for row in table() if row.name == "BSGM"]
    ['SID']
    """
    import refimpl.algorithms  # here: it may export this module's names

    kinds = (x for x in vars(refimpl.algorithms).values() if isinstance(x, type) and issubclass(x, Algorithm))
    rows = (_row(kind) for kind in kinds if not inspect.isabstract(kind) and kind.linear_system != "none")
    return tuple(sorted(rows, key=lambda row: (row.source, row.name)))


def _row(kind: type[Algorithm]) -> Row:
    lower, linear = kind.warm_start
    fields = (f.name for f in dataclasses.fields(kind))  # type: ignore[arg-type]  # every algorithm is a dataclass
    batches = tuple(name for name in fields if name.endswith("batch") or name == "J")
    return Row(kind.__name__, kind.source, lower, linear, kind.linear_system, batches)
