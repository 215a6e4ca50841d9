"""Five hundred fixed instances of eight families: the certified bound against the truth to 60 digits.

    python -m tests.certificate_table [--quick] [--out FILE]

The truth, and the condition number of ∂_w r, are computed by ``certificate_truth`` at 400 bits. Each row: family,
seed, d, condition, error, bound, and why a bound was declined.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flint
import numpy as np
from flint import arb

import refimpl as ri
from refimpl.problem import FixedPointProblem, Problem
from refimpl.zoo import logistic, maps, quadratic, ridge, weighted_softmax
from tests import certificate_truth as truth

COUNT = 500
QUICK = 8  # the default test suite runs every QUICK-th round of families


@dataclass(frozen=True)
class Instance:
    """A family's member: its data follow from the seed, its size and the condition number that it aims at."""

    family: str
    seed: int
    d: int
    aim: float


@dataclass(frozen=True)
class Row:
    """What one instance showed; ``bound`` is None where declined, ``ratio`` is bound/(10 error + 4 ulp)."""

    instance: Instance
    d: int
    condition: float
    error: float
    bound: float | None
    contained: bool
    ratio: float
    why: str


def instances(*, quick: bool = False) -> tuple[Instance, ...]:
    """The fixed list: d uniform on 1 … 40, condition log-uniform on 1e0 … 1e10, families in turn."""
    rng = np.random.default_rng(20_240_601)
    found = []
    for i in range(COUNT):
        d, exponent = int(rng.integers(1, 41)), rng.uniform(0, 10)
        found.append(Instance(tuple(FAMILIES)[i % len(FAMILIES)], i, d, 10.0**exponent))
    return tuple(x for x in found if not quick or (x.seed // len(FAMILIES)) % QUICK == 0)


# -- the instances: floats, which define the problem ----------------------------------------------------
def _quadratic(x: Instance) -> tuple[Problem, Any]:
    rng = np.random.default_rng(x.seed)
    inner = rng.uniform(0, np.log10(x.aim), max(x.d - 2, 0))
    spectrum = 10.0 ** np.sort(np.concatenate([[0.0], inner, [np.log10(x.aim)]]))[: x.d]
    scale = 10.0 ** rng.uniform(-3, 3)
    problem = quadratic.random(n=1 + x.seed % 4, d=x.d, seed=x.seed, spectrum=(scale * spectrum).tolist())
    return problem, problem.start()


def _descent(x: Instance) -> tuple[Problem, Any]:
    problem, lam = _quadratic(x)
    assert isinstance(problem, ri.BilevelProblem)
    largest = float(np.linalg.eigvalsh(problem.lower.mean[0])[-1])  # type: ignore[attr-defined]  # a Quadratic
    return problem.as_fixed_point(1 / largest), lam


def _ridge(x: Instance) -> tuple[Problem, Any]:
    spectrum = np.geomspace(1 / x.aim, 1, x.d).tolist()
    return ridge.random(d=x.d, seed=x.seed, spectrum=spectrum), np.array([1 / x.aim])


def _log_ridge(x: Instance) -> tuple[Problem, Any]:
    spectrum = np.geomspace(1 / x.aim, 1, x.d).tolist()
    problem = ridge.random(d=x.d, seed=x.seed, spectrum=spectrum, per_feature=True, log=True)
    return problem, np.log(1 / x.aim) + np.random.default_rng(x.seed).standard_normal(x.d)


def _logistic(x: Instance) -> tuple[Problem, Any]:
    spectrum = np.geomspace(1 / x.aim, 1, x.d).tolist()
    problem = logistic.random(d=x.d, seed=x.seed, spectrum=spectrum, per_feature=True)
    return problem, np.log(1 / x.aim) + np.random.default_rng(x.seed).standard_normal(x.d)


def _softmax(x: Instance) -> tuple[Problem, Any]:
    rng = np.random.default_rng(x.seed)
    classes = 2 + x.seed % 3
    features = max(1, x.d // classes)
    rows = 6 * features
    X, X_val = rng.standard_normal((2, rows, features))
    y, y_val = rng.integers(0, classes, (2, rows))
    problem = weighted_softmax.problem(X, y, X_val, y_val, classes=classes, reg=1 / (4 * x.aim))
    return problem, rng.standard_normal(rows)


def _nearly_normal(x: Instance, rng: np.random.Generator) -> np.ndarray:
    """I − A with eigenvalues from 1 down to 1/aim and a non-symmetric part that fits them."""
    eigenvalues = np.geomspace(1, 1 / x.aim, x.d)
    root = np.sqrt(eigenvalues)
    skew = np.triu(rng.standard_normal((x.d, x.d)), 1) * np.outer(root, root) / (2 * x.d)
    q = np.linalg.qr(rng.standard_normal((x.d, x.d)))[0]
    return q @ (np.diag(eigenvalues) + skew) @ q.T


def _affine(x: Instance) -> tuple[Problem, Any]:
    rng = np.random.default_rng(x.seed)
    n = 1 + x.seed % 4
    A, B, c = np.eye(x.d) - _nearly_normal(x, rng), rng.standard_normal((x.d, n)), rng.standard_normal(x.d)
    upper = quadratic.random(n=n, d=x.d, seed=x.seed).upper
    return FixedPointProblem(upper, maps.affine(A, B, c)), rng.standard_normal(n)


def _tanh(x: Instance) -> tuple[Problem, Any]:
    """Inputs so small that tanh' is near 1 and I − ∂_wΦ as ill-conditioned as I − A."""
    rng = np.random.default_rng(x.seed)
    n, small = 1 + x.seed % 4, x.aim**-1.5
    A = np.eye(x.d) - _nearly_normal(x, rng)
    B, c = small * rng.standard_normal((x.d, n)), small * rng.standard_normal(x.d)
    upper = quadratic.random(n=n, d=x.d, seed=x.seed).upper
    return FixedPointProblem(upper, maps.tanh(A, B, c)), rng.standard_normal(n)


FAMILIES: dict[str, tuple[Callable[[Instance], tuple[Any, Any]], Callable[[Any, Any], truth.Truth]]] = {
    "quadratic": (_quadratic, truth.quadratic_truth),
    "descent map": (_descent, truth.descent_truth),
    "ridge, penalty": (_ridge, truth.ridge_truth),
    "ridge, log penalties": (_log_ridge, truth.log_ridge_truth),
    "logistic": (_logistic, truth.logistic_truth),
    "weighted softmax": (_softmax, truth.softmax_truth),
    "affine map": (_affine, truth.affine_truth),
    "tanh map": (_tanh, truth.tanh_truth),
}


def evaluate(x: Instance) -> Row:
    """One instance, certified by the package and judged by the truth."""
    make, truth_of = FAMILIES[x.family]
    problem, lam = make(x)
    found = ri.exact_hypergradient(problem, lam)
    with flint.ctx.workprec(truth.BITS):
        value, jacobian = truth.solved(truth_of(problem, lam), found.w)
        gap = sum(((arb(float(a)) - b) ** 2 for a, b in zip(found.value, value, strict=True)), arb(0)).sqrt()
        error, condition = float(gap.mid()), truth.condition_number(jacobian)
        bounded = found.kind == "bounded"
        contained = not bounded or bool(gap.upper() <= arb(float(found.bound)))
    ulp = float(np.spacing(np.linalg.norm(found.value)))
    ratio = float(found.bound) / (10 * error + 4 * ulp) if bounded else float("nan")
    bound = float(found.bound) if bounded else None
    return Row(
        x, problem.d, condition, error, bound, contained, ratio, found.why_not_bounded.replace("\n", " ")
    )


def lines(rows: list[Row]) -> Iterator[str]:
    """The table, and below it what the rows say together."""
    numbers = "".join(f"{name:>11}" for name in ("condition", "error", "bound"))
    yield f"{'family':<22}{'seed':>5}{'d':>4}{numbers}  contained  ratio  declined because"
    for r in rows:
        bound = "declined" if r.bound is None else f"{r.bound:.2e}"
        yield (
            f"{r.instance.family:<22}{r.instance.seed:>5}{r.d:>4}{r.condition:>11.1e}{r.error:>11.2e}{bound:>11}"
            f"  {r.contained!s:<9}{r.ratio:>7.3f}  {r.why}"
        )
    yield from summary(rows)


def summary(rows: list[Row]) -> Iterator[str]:
    """The four numbers of the promise."""
    moderate = [r for r in rows if r.condition <= 1e8]
    declined, beyond = ([r for r in rs if r.bound is None] for rs in (moderate, rows))
    conditions = [r.condition for r in rows]
    yield f"instances {len(rows)}, condition {min(conditions):.1e} to {max(conditions):.1e}"
    yield f"truth outside the bound: {sum(not r.contained for r in rows)}"
    yield f"largest bound/(10 error + 4 ulp): {np.nanmax([r.ratio for r in rows]):.3f}"
    yield f"declined at condition <= 1e8: {len(declined)} of {len(moderate)}; in all: {len(beyond)}"


def main() -> int:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description="The certificate's instances, one line each.")
    parser.add_argument("--quick", action="store_true", help="the share that the default test suite runs")
    parser.add_argument("--out", type=Path, help="write here instead of printing")
    options = parser.parse_args()
    text = "\n".join(lines([evaluate(x) for x in instances(quick=options.quick)]))
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
