"""Exact E‖∇f(λ_k)‖² of the plans of table 1, through the iterations' own maps of second moments, and their samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refimpl.algorithms.ghadimi2018bsa import BSA
from refimpl.approximate.inverse import ProductNeumann
from refimpl.arrays.backend import Array
from refimpl.counting import counted
from refimpl.problem import BilevelProblem
from verification.claims.contraction._table_1_bounds import EPS, Moving, Steady
from verification.claims.contraction._table_1_plans import START, Plan, problem


def squares(algorithm: Any, on: BilevelProblem, N: int) -> Array:
    """E f'(λ_k)², k < N."""
    run, found = Moving(algorithm, on), []
    s = run.start
    for operator in run.operators(N):
        found.append(run.square @ s)
        s = operator @ s
    return np.array(found)


def samples(algorithm: Any, on: BilevelProblem, N: int) -> Array:
    """Data of both levels drawn in the first 1, …, N iterations, counted; of PROD as many as it uses in the mean."""
    watched, tally = counted(on)
    state, spent, run = algorithm.init(on, [START]), dict[Any, float](), Moving(algorithm, on)
    total = []
    for k in range(N):
        key = run.draws(k)
        if key not in spent:
            tally.clear()
            sample = algorithm.space(on, k).sample(np.random.default_rng(0), ())
            algorithm.step(watched, replace(state, k=k), sample)
            spent[key] = tally["lower.data"] + tally["upper.data"] - _unused(algorithm, k)
        total.append(spent[key])
    return np.cumsum(total)


def _unused(algorithm: Any, k: int) -> float:
    """Hessians drawn for PROD beyond its mean length."""
    inverse = getattr(algorithm, "inverse", None)
    if not isinstance(inverse, ProductNeumann):
        return 0.0
    if isinstance(algorithm, BSA):
        inverse = replace(inverse, terms=max(1, algorithm.terms(k)))
    return float(inverse.products - inverse.mean_used) * (algorithm.lower_batch or 1)


@dataclass(frozen=True)
class Point:
    """N iterations: samples T, the exact mean of E‖∇f‖², what it is at most, and the rounding of both, relative.

    above: without the transient where the iterations repeat themselves; else the mean itself.
    """

    samples: float
    mean: float
    above: float
    rounding: float


def points(plan: Plan, pair: Sequence[int], *, without: bool = False) -> list[Point]:
    """Of the plan, or of its control, for both numbers of iterations."""
    make, on = plan.without if without else plan.make, problem(exact_matrices=plan.exact_matrices)
    found, whole = [], squares(make(pair[-1]), on, pair[-1]) if plan.later else None
    for N in pair:
        algorithm = make(N)
        spent, run = float(samples(algorithm, on, N)[-1]), Moving(algorithm, on)
        if whole is None and run.returns is not None and N % run.returns[1] == 0:
            steady = Steady(run, *run.returns)
            rounding = 10 * len(run.start) * steady.condition * EPS
            found.append(Point(spent, *steady.mean(N), rounding))
            continue
        each = squares(algorithm, on, N) if whole is None else whole[N // 2 : N]
        mean = float(each.mean()) / (1 + np.log(N) if plan.logs else 1)
        found.append(Point(spent, mean, mean, 10 * N * len(run.start) * run.spread(N) * EPS))
    return found
