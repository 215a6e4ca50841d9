"""Lemma 28: I − A is invertible where ‖A‖ < 1, in the spectral norm and, exactly, in the row-sum norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat
from hypothesis import strategies as st

from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

EPS = float(np.finfo(float).eps)


# -- spectral norm ----------------------------------------------------------------------------------


def build(p: dict[str, Any]) -> np.ndarray:
    """The matrix given by its ``rows``, or a random one with the given singular values times q."""
    if "rows" in p:
        return np.array(p["rows"], dtype=float)
    rng, d = np.random.default_rng(p["seed"]), len(p["values"])
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    if p["normal"]:
        right = left
    return p["q"] * (left * np.array([1.0, *p["values"][1:]])) @ right.T


def norm(A: np.ndarray) -> float:
    """‖A‖₂."""
    return float(np.linalg.norm(A, 2))


def spectral_radius(A: np.ndarray) -> float:
    """The largest |eigenvalue|."""
    return float(np.abs(np.linalg.eigvals(A)).max())


def spectral(
    A: np.ndarray,
    size: Callable[[np.ndarray], float] = norm,
    bound: Callable[[Any], Any] = lambda q: 1 / abs(1 - q),
) -> Measurement:
    """‖(I − A)⁻¹‖₂ against its bound; off the hypothesis 1/|1 − q|, as no bound is stated there."""
    q, inverse = size(A), norm(np.linalg.inv(np.eye(len(A)) - A))
    # inverting is backward stable: 10 d eps ‖I − A‖‖inverse‖²; and the norm's error times d/dq 1/(1 − q)
    rounding = 10 * len(A) * EPS * ((1 + q) * inverse**2 + q * bound(q) ** 2)
    return Measurement(observed=inverse, bound=bound(q), rounding=rounding)


# -- row-sum norm, over the rationals ---------------------------------------------------------------


def build_exact(p: dict[str, Any]) -> fmpq_mat:
    """The integer matrix ``rows`` scaled to ‖A‖_∞ = num/den; a zero matrix stays zero."""
    rows = p["rows"]
    largest = max(sum(map(abs, row)) for row in rows) or 1
    scale = fmpq(p["num"], p["den"]) / largest
    return fmpq_mat([[scale * entry for entry in row] for row in rows])


def row_sums(A: fmpq_mat) -> fmpq:
    """‖A‖_∞."""
    return max(sum((abs(A[i, j]) for j in range(A.ncols())), fmpq(0)) for i in range(A.nrows()))


def column_sums(A: fmpq_mat) -> fmpq:
    """‖A‖_1."""
    return row_sums(A.transpose())


def exact(
    A: fmpq_mat,
    size: Callable[[fmpq_mat], fmpq] = row_sums,
    bound: Callable[[Any], Any] = lambda q: 1 / abs(1 - q),
) -> Measurement:
    """‖(I − A)⁻¹‖_∞ against its bound, exactly."""
    identity = fmpq_mat([[int(i == j) for j in range(A.nrows())] for i in range(A.nrows())])
    return Measurement(observed=row_sums((identity - A).inv()), bound=bound(size(A)))


def _square(d: int) -> st.SearchStrategy[Any]:
    entries = st.lists(st.integers(-9, 9), min_size=d, max_size=d)
    return st.lists(entries, min_size=d, max_size=d)


_below_one = st.integers(0, 99)

CLAIMS = (
    Claim(
        id="contraction/lemma-28",
        title="I minus a matrix of norm q below one has an inverse of norm at most 1/(1 − q)",
        source="contraction, Lemma 28",
        statement=r"\|A\| \le q < 1 \;\Rightarrow\; \|(I-A)^{-1}\| \le \frac{1}{1-q} =: \kappa_q",
        hypotheses=(Hypothesis("A is a contraction", r"\|A\|_2 < 1", lambda A: (norm(A) < 1, norm(A))),),
        strategy=st.fixed_dictionaries(
            {
                "q": st.floats(0, 0.999),
                "values": st.lists(st.floats(0, 1), min_size=1, max_size=6),
                "normal": st.booleans(),
                "seed": st.integers(0, 30),
            }
        ),
        explicit=({"rows": [[0.5]]}, {"rows": [[-0.5]]}, {"rows": [[0.0, 0.5], [0.0, 0.0]]}),
        build=build,
        measure=spectral,
        grade="exact",
        controls=(
            Control("norm above one", params={"rows": [[3.0, 0.0], [0.0, 1.1]]}),
            Control(
                "1 + q for 1 − q", kind="formula", measure=lambda A: spectral(A, bound=lambda q: 1 / (1 + q))
            ),
            Control(
                "q² for q", kind="formula", measure=lambda A: spectral(A, bound=lambda q: 1 / (1 - q**2))
            ),
            Control(
                "spectral radius for the norm",
                kind="formula",
                measure=lambda A: spectral(A, size=spectral_radius),
            ),
        ),
        equality=Equality(params={"rows": [[0.9, 0.0], [0.0, 0.9]]}, reaches=0.999),
        budget=Budget(quick=300, full=6000),
        notes=r"Equality: $A=qI$. Proof: $\|(I-A)x\| \ge \|x\|-\|Ax\| \ge (1-q)\|x\|$. The control outside "
        r"the hypothesis, $A=\mathrm{diag}(3, 1.1)$, is held against $1/|1-q|$; the spectral radius in place "
        r"of the norm fails on nilpotent matrices.",
    ),
    Claim(
        id="contraction/lemma-28@row-sum",
        title="The inverse of I minus a contraction in the row-sum norm, decided in rational arithmetic",
        source="contraction, Lemma 28 (any norm of operators; here the largest row sum)",
        statement=r"\|A\|_\infty \le q < 1 \;\Rightarrow\; \|(I-A)^{-1}\|_\infty \le \frac{1}{1-q}",
        hypotheses=(
            Hypothesis(
                "A is a contraction", r"\|A\|_\infty < 1", lambda A: (bool(row_sums(A) < 1), str(row_sums(A)))
            ),
        ),
        strategy=st.fixed_dictionaries(
            {"rows": st.integers(1, 4).flatmap(_square), "num": _below_one, "den": st.just(100)}
        ),
        explicit=(
            {"rows": [[1]], "num": 1, "den": 2},
            {"rows": [[1, 1], [0, 0]], "num": 9, "den": 10},
        ),
        build=build_exact,
        measure=exact,
        grade="proved",
        controls=(
            Control("norm above one", params={"rows": [[15, 0], [0, 11]], "num": 3, "den": 2}),
            Control(
                "1 + q for 1 − q", kind="formula", measure=lambda A: exact(A, bound=lambda q: 1 / (1 + q))
            ),
            Control("column sums for row sums", kind="formula", measure=lambda A: exact(A, size=column_sums)),
        ),
        equality=Equality(params={"rows": [[1, 0], [0, 1]], "num": 9, "den": 10}, reaches=1.0),
        budget=Budget(quick=300, full=6000),
        notes=r"The proof uses nothing of the norm but $\|Ax\|\le\|A\|\|x\|$, so the lemma holds in every "
        r"operator norm; in this one both sides are rational and the comparison is exact. Equality: $A=qI$, "
        r"and every non-negative $A$ with equal row sums.",
    ),
)
