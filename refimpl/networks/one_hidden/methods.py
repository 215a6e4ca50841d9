"""The ways of taking the expectation by name: which one to use, what it cannot do, and what it would cost."""

from __future__ import annotations

import math
import time
from concurrent.futures import Executor
from dataclasses import replace

from refimpl.arrays import Backend
from refimpl.errors import BadInput, TooLarge
from refimpl.networks.one_hidden import halves, literal, nodes
from refimpl.networks.one_hidden.tables import Moments, Sums, columns

NAMES = ("literal", "split", "nodes", "closed")
FEW = 14  # free units up to which visiting every mask takes no longer than the nodes
PROBE = 8  # free units of the enumeration that is timed in order to say how long a large one would take


def moments(method: str, sums: Sums, executor: Executor | None) -> tuple[Moments, Moments | None]:
    """E ℓ, E ℓ', E ℓ' m by that method, and bounds of their errors where it has them."""
    if method == "nodes":
        return nodes.moments(sums)
    if method == "closed":
        return _closed(sums), None
    return (literal if method == "literal" else halves).moments(sums, executor), None


def _closed(sums: Sums) -> Moments:
    """With r = E z − y and v = var z: E ℓ = (r² + v)/2, E ℓ' = r, E ℓ' m_j = p_j (r + (1 − p_j) A_bj)."""
    B, A = sums.backend, sums.terms
    p, q = B.asarray(sums.keep), B.asarray(1 - sums.keep)
    r = sums.offset - sums.y + B.sum(A * p, axis=-1)
    variance = B.sum(p * q * A * A, axis=-1)
    return Moments(B.sum(r * r + variance, axis=0) / 2, r, p * (r[:, None] + q * A))


def chosen(method: str, sums: Sums, max_masks: int) -> str:
    """The method to use; refuses what it cannot do, or not within ``max_masks``."""
    host = sums.backend == Backend()
    if method == "auto":
        fast = ("split" if sums.n <= FEW else "nodes") if host else "literal"
        method = "closed" if sums.loss == "squared" else fast
    if method in ("split", "nodes") and not host:
        raise BadInput(
            f'method "{method}" works in place, on the host and in double precision',
            measured=f"backend {sums.backend.name!r}, {sums.backend.dtype}",
            required='backend "numpy", float64',
            advice='use method="literal" or "closed" here, or pass NumPy arrays',
        )
    needs = {"closed": "squared", "nodes": "logistic"}.get(method, sums.loss)
    if needs != sums.loss:
        raise BadInput(
            f'method "{method}" is not for this loss',
            measured=sums.loss,
            required=needs,
            advice='method="auto" takes the closed form for the squared loss and nodes for the logistic one',
        )
    visits = {"closed": 0, "nodes": nodes.MOST * 2 ** (sums.n - sums.n // 2)}.get(method, 2**sums.n)
    if visits > max_masks:
        raise _too_large(method, sums, visits, max_masks)
    return method


def _too_large(method: str, sums: Sums, visits: int, max_masks: int) -> TooLarge:
    """The error, with a time that is extrapolated from the first few units."""
    some = list(range(min(PROBE, sums.n)))
    few = replace(sums, terms=columns(sums.backend, sums.terms, some), keep=sums.keep[some])
    begun = time.perf_counter()
    moments(method, few, None)
    doublings = (sums.n - len(some)) / (2 if method == "nodes" else 1)
    log10_seconds = math.log10(time.perf_counter() - begun) + doublings * math.log10(2)
    held = {"literal": literal.held, "split": halves.held, "nodes": nodes.held}[method](sums.n, sums.batch)
    what = "pairs of a node and a mask of half the units" if method == "nodes" else "masks"
    return TooLarge(
        f"too many {what} for each sample",
        measured=f"{sums.n} units, {_power(math.log10(visits))} {what}; about {_power(log10_seconds)} s, "
        f"{_power(math.log10(held))} bytes",
        required=f"<= max_masks = {max_masks}",
        advice='the closed form serves the squared loss (method="closed") and nodes the logistic one (method="nodes"); '
        "beyond them sample with a stated confidence (refimpl.spaces.estimate), or raise max_masks and share the "
        "blocks among the workers of an executor",
    )


def _power(log10: float) -> str:
    return f"10^{log10:.1f}" if abs(log10) > 4 else f"{10**log10:.3g}"
