"""Five hundred fixed instances of eight families: the certified bound against the truth to 60 digits.

    python -m tests.certificate_table [--quick] [--out FILE]

The truth is computed here at 400 bits (120 digits) from the instances' own floats, with formulas written out
for this table: nothing of the zoo, the operators or the certificate enters it. So are the condition numbers of
∂_w r. Each row: family, seed, d, condition, error, bound, and why a bound was declined.
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
from flint import arb, arb_mat

import refimpl as ri
from refimpl.problem import FixedPointProblem, Problem
from refimpl.zoo import logistic, maps, quadratic, ridge, weighted_softmax

BITS = 400
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


# -- the truth: arithmetic at 400 bits on those floats ------------------------------------------------------
def _m(x: Any) -> arb_mat:
    """A matrix of the floats themselves; a vector is a column."""
    x = np.asarray(x, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    return arb_mat(x.shape[0], x.shape[1], x.ravel().tolist())


def _col(entries: list[arb]) -> arb_mat:
    return arb_mat(len(entries), 1, entries)


def _list(x: arb_mat) -> list[arb]:
    return list(x.entries())


def _diagonal(entries: list[arb]) -> arb_mat:
    return arb_mat([[e if i == j else arb(0) for j in range(len(entries))] for i, e in enumerate(entries)])


def _rows(x: arb_mat, scale: list[arb]) -> arb_mat:
    """diag(scale) x."""
    c = x.ncols()
    return arb_mat(x.nrows(), c, [e * scale[i // c] for i, e in enumerate(x.entries())])


@dataclass(frozen=True)
class Truth:
    """The lower level r(w) and its Jacobians, and the upper level's gradients, at 400 bits and one λ."""

    residual: Callable[[arb_mat], arb_mat]
    jacobian: Callable[[arb_mat], arb_mat]
    by_lam: Callable[[arb_mat, arb_mat], arb_mat]  # (∂_λ r)ᵀ v
    upper: Callable[[arb_mat], tuple[arb_mat, arb_mat]]  # ∇_λF, ∇_wF


def _quadratic_upper(F: Any, lam: Any) -> Callable[[arb_mat], tuple[arb_mat, arb_mat]]:
    P, Q, M, b, c, x = _m(F.ww[0]), _m(F.lw[0]), _m(F.ll[0]), _m(F.w1[0]), _m(F.l1[0]), _m(lam)
    return lambda w: (Q * w + M * x + c, P * w + Q.transpose() * x + b)


def _quadratic_truth(problem: Any, lam: Any, step: Any = 1) -> Truth:
    G, step = getattr(problem, "lower", None) or problem.phi.lower, arb(step)
    A, K, a, x = _m(G.ww[0]), _m(G.lw[0]), _m(G.w1[0]), _m(lam)
    return Truth(
        lambda w: (A * w + K.transpose() * x + a) * step,
        lambda w: A * step,
        lambda w, v: K * v * step,
        _quadratic_upper(problem.upper, lam),
    )


def _descent_truth(problem: Any, lam: Any) -> Truth:
    return _quadratic_truth(problem, lam, problem.phi.step)


def _squares_upper(F: Any, n: int) -> Callable[[arb_mat], tuple[arb_mat, arb_mat]]:
    X, y, N = _m(F.X), _m(F.y), len(F.y)
    return lambda w: (arb_mat(n, 1), X.transpose() * (X * w - y) * (1 / arb(N)))


def _ridge_truth(problem: Any, lam: Any) -> Truth:
    X, y, N, x = (
        _m(problem.lower.data.X),
        _m(problem.lower.data.y),
        len(problem.lower.data.y),
        arb(float(lam[0])),
    )
    eye = _diagonal([arb(1)] * X.ncols())
    return Truth(
        lambda w: X.transpose() * (X * w - y) * (1 / arb(N)) + w * x,
        lambda w: X.transpose() * X * (1 / arb(N)) + eye * x,
        lambda w, v: w.transpose() * v,
        _squares_upper(problem.upper, 1),
    )


def _log_ridge_truth(problem: Any, lam: Any) -> Truth:
    X, y, N = _m(problem.lower.data.X), _m(problem.lower.data.y), len(problem.lower.data.y)
    penalty = [arb(e).exp() for e in lam.tolist()]
    return Truth(
        lambda w: X.transpose() * (X * w - y) * (1 / arb(N)) + _rows(w, penalty),
        lambda w: X.transpose() * X * (1 / arb(N)) + _diagonal(penalty),
        lambda w, v: _col([p * a * b for p, a, b in zip(penalty, _list(w), _list(v), strict=True)]),
        _squares_upper(problem.upper, len(lam)),
    )


def _logistic_gradient(X: arb_mat, y: list[arb], w: arb_mat) -> arb_mat:
    slopes = [-t / (1 + (t * z).exp()) / len(y) for t, z in zip(y, _list(X * w), strict=True)]
    return X.transpose() * _col(slopes)


def _logistic_truth(problem: Any, lam: Any) -> Truth:
    G, F = problem.lower.data, problem.upper
    X, y, X_val, y_val = _m(G.X), _list(_m(G.y)), _m(F.X), _list(_m(F.y))
    penalty = [arb(e).exp() for e in lam.tolist()]

    def jacobian(w: arb_mat) -> arb_mat:
        curvature = [1 / (2 + z.exp() + (-z).exp()) / len(y) for z in _list(X * w)]
        return X.transpose() * _rows(X, curvature) + _diagonal(penalty)

    return Truth(
        lambda w: _logistic_gradient(X, y, w) + _rows(w, penalty),
        jacobian,
        lambda w, v: _col([p * a * b for p, a, b in zip(penalty, _list(w), _list(v), strict=True)]),
        lambda w: (arb_mat(len(lam), 1), _logistic_gradient(X_val, y_val, w)),
    )


def _probabilities(X: arb_mat, w: arb_mat, classes: int) -> list[list[arb]]:
    """Softmax of each sample's scores, w class by class."""
    features = X.ncols()
    W = arb_mat(classes, features, _list(w))
    scores = (X * W.transpose()).tolist()
    exps = [[z.exp() for z in row] for row in scores]
    return [[e / sum(row, arb(0)) for e in row] for row in exps]


def _softmax_gradient(X: arb_mat, y: Any, w: arb_mat, weights: list[arb]) -> arb_mat:
    """(1/N) Σ_i s_i (p_i − e_{y_i}) ⊗ x_i."""
    classes, N = len(y), X.nrows()
    p = _probabilities(X, w, classes)
    excess = [[(p[i][k] - int(y[k][i])) * weights[i] / N for i in range(N)] for k in range(classes)]
    return _col(_list(arb_mat(excess) * X))


def _softmax_truth(problem: Any, lam: Any) -> Truth:
    G, F = problem.lower, problem.upper
    X, y, N, classes, reg = _m(G.X), G.y, len(G.X), G.classes, arb(G.reg)
    weights = [1 / (1 + (-arb(e)).exp()) for e in lam.tolist()]

    def jacobian(w: arb_mat) -> arb_mat:
        p = _probabilities(X, w, classes)
        f = X.ncols()
        out = [[arb(0)] * (classes * f) for _ in range(classes * f)]
        for k in range(classes):
            for m in range(classes):
                share = [weights[i] * (int(k == m) * p[i][k] - p[i][k] * p[i][m]) / N for i in range(N)]
                block = (X.transpose() * _rows(X, share)).tolist()
                for a in range(f):
                    for b in range(f):
                        out[k * f + a][m * f + b] = block[a][b] + reg * int(k == m and a == b)
        return arb_mat(out)

    def by_lam(w: arb_mat, v: arb_mat) -> arb_mat:
        p, V = _probabilities(X, w, classes), arb_mat(classes, X.ncols(), _list(v))
        through = (X * V.transpose()).tolist()
        slopes = [s * (1 - s) / N for s in weights]
        return _col(
            [
                slopes[i] * sum(((p[i][k] - int(y[k][i])) * through[i][k] for k in range(classes)), arb(0))
                for i in range(N)
            ]
        )

    ones = [arb(1)] * len(F.X)
    return Truth(
        lambda w: _softmax_gradient(X, y, w, weights) + w * reg,
        jacobian,
        by_lam,
        lambda w: (arb_mat(N, 1), _softmax_gradient(_m(F.X), F.y, w, ones)),
    )


def _affine_truth(problem: Any, lam: Any) -> Truth:
    A, B, c, x = _m(problem.phi.A[0]), _m(problem.phi.B[0]), _m(problem.phi.c[0]), _m(lam)
    eye = _diagonal([arb(1)] * A.nrows())
    return Truth(
        lambda w: w - (A * w + B * x + c),
        lambda w: eye - A,
        lambda w, v: B.transpose() * v * -1,
        _quadratic_upper(problem.upper, lam),
    )


def _tanh_truth(problem: Any, lam: Any) -> Truth:
    A, B, c, x = _m(problem.phi.A), _m(problem.phi.B), _m(problem.phi.c), _m(lam)
    eye = _diagonal([arb(1)] * A.nrows())

    def slopes(w: arb_mat) -> list[arb]:
        return [1 / u.cosh() ** 2 for u in _list(A * w + B * x + c)]

    return Truth(
        lambda w: w - _col([u.tanh() for u in _list(A * w + B * x + c)]),
        lambda w: eye - _rows(A, slopes(w)),
        lambda w, v: B.transpose() * _rows(v, slopes(w)) * -1,
        _quadratic_upper(problem.upper, lam),
    )


FAMILIES: dict[str, tuple[Callable[[Instance], tuple[Any, Any]], Callable[[Any, Any], Truth]]] = {
    "quadratic": (_quadratic, _quadratic_truth),
    "descent map": (_descent, _descent_truth),
    "ridge, penalty": (_ridge, _ridge_truth),
    "ridge, log penalties": (_log_ridge, _log_ridge_truth),
    "logistic": (_logistic, _logistic_truth),
    "weighted softmax": (_softmax, _softmax_truth),
    "affine map": (_affine, _affine_truth),
    "tanh map": (_tanh, _tanh_truth),
}


def solved(truth: Truth, w: Any) -> tuple[list[arb], arb_mat]:
    """∇f and ∂_w r at w(λ), by Newton at 400 bits from floats; 60 digits are checked, not assumed."""
    at = _m(w)
    for _ in range(100):
        step = truth.jacobian(at).solve(truth.residual(at)).mid()
        at = (at - step).mid()
        size = max(abs(e) for e in _list(step))
        if size <= max(abs(e) for e in _list(at)) * arb(2) ** (-BITS // 2):
            break
    jacobian = truth.jacobian(at)
    # the last step was below 2^-200 of w, and Newton squares it: what is left of r is rounding
    by_lam, by_w = truth.upper(at)
    v = jacobian.transpose().solve(by_w)
    value = _list(by_lam - truth.by_lam(at, v))
    scale = max(abs(e.mid()) for e in value)
    assert all(e.rad() <= scale * arb(10) ** -60 for e in value), "the truth has less than 60 digits"
    return value, jacobian


def condition_number(jacobian: arb_mat) -> float:
    """Largest over smallest singular value, from the eigenvalues of JᵀJ at 400 bits."""
    eigenvalues = flint.acb_mat((jacobian.transpose() * jacobian).mid()).eig(algorithm="approx")
    squares = [float(e.real.mid()) for e in eigenvalues]
    return float((max(squares) / min(squares)) ** 0.5)


def evaluate(x: Instance) -> Row:
    """One instance, certified by the package and judged by the truth."""
    make, truth_of = FAMILIES[x.family]
    problem, lam = make(x)
    found = ri.exact_hypergradient(problem, lam)
    with flint.ctx.workprec(BITS):
        value, jacobian = solved(truth_of(problem, lam), found.w)
        gap = sum(((arb(float(a)) - b) ** 2 for a, b in zip(found.value, value, strict=True)), arb(0)).sqrt()
        error, condition = float(gap.mid()), condition_number(jacobian)
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
