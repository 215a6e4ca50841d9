"""Lemmas 22 and 24 (iv), inequalities between means and norms, on finite spaces whose norms are rational."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.contraction._spaces import Pair, Params, build, square, variance
from verification.claims.contraction.lemmas_22_27 import applied, diagonal_norm
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

TURNS = ((3, 4, 5), (5, 12, 13), (1, 0, 1), (0, 1, 1))  # rational rotations: (cos, sin) = (a, b)/c


@dataclass(frozen=True)
class Product:
    """A = R diag(s_a) S with fixed rotations R, S, whose spectral norm is rational, and X, independent or not."""

    pair: Pair
    diagonals: Array

    @property
    def sizes(self) -> tuple[fmpq, fmpq]:
        """V[A] and ‖EA‖², spectral."""
        p = self.pair.marginal
        centre = (p[:, None] * self.diagonals).sum(axis=0)
        spread = (p * diagonal_norm(self.diagonals - centre)).sum()
        return spread, diagonal_norm(centre)


def product(p: Params) -> Product:
    """``diagonals`` (a, d), ``x`` (b, d), ``weights`` (a, b), ``turns``: two numbers of rotations (d = 2)."""
    s = np.array([[fmpq(e) for e in row] for row in p["diagonals"]], dtype=object)
    A = np.array([np.diag(row) for row in s], dtype=object) * fmpq(1)
    if s.shape[1] == 2:
        R, S = (_rotation(i) for i in p["turns"])
        A = R @ A @ S
    pair = build({"weights": p["weights"], "x": [[0]] * len(s), "y": p["x"]})
    return Product(dataclasses.replace(pair, x=A), s)


def _rotation(i: int) -> Array:
    a, b, c = TURNS[i]
    return np.array([[fmpq(a, c), -fmpq(b, c)], [fmpq(b, c), fmpq(a, c)]], dtype=object)


def product_bound(first: int = 1, second: int = 1) -> Callable[[Product], Measurement]:
    """V[AX] <= V[A]E‖X‖² + ‖EA‖²V[X], whose other form is equal to it; the terms' factors."""

    def measure(one: Product) -> Measurement:
        pair, (of_A, norm_A) = one.pair, one.sizes
        of_x = variance(pair, pair.y)
        bound = first * of_A * pair.mean(square(pair.y)) + second * norm_A * of_x
        return Measurement(observed=variance(pair, applied(pair.X, pair.y)), bound=bound)

    return measure


def pairs() -> st.SearchStrategy[Params]:
    """Two outcomes each, diagonals of 2 x 2 matrices, independent."""
    value = st.tuples(*[st.integers(-3, 3)] * 2).map(list)
    row = st.tuples(value, value).map(list)
    split = st.tuples(*[st.integers(1, 3)] * 4).map(
        lambda p: [[p[0] * p[2], p[0] * p[3]], [p[1] * p[2], p[1] * p[3]]]
    )
    return st.fixed_dictionaries({"weights": split, "x": row, "y": row})


@dataclass(frozen=True)
class Rays:
    """X = c_a u_a with rational unit vectors u_a of the plane, so that ‖X‖ = |c_a|."""

    weights: Array
    lengths: Array
    x: Array


def rays(p: Params) -> Rays:
    """``weights``, ``lengths`` and ``turns`` (numbers of directions), one of each per outcome."""
    weights, lengths = (np.array([fmpq(e) for e in p[name]], dtype=object) for name in ("weights", "lengths"))
    units = np.array([_rotation(i)[:, 0] for i in p["turns"]], dtype=object)
    return Rays(weights / weights.sum(), lengths, lengths[:, None] * units)


def mean_norm(mutated: str = "") -> Callable[[Rays], Measurement]:
    """‖EX‖² <= (E‖X‖)²."""

    def measure(one: Rays) -> Measurement:
        p, centre = one.weights, (one.weights[:, None] * one.x).sum(axis=0)
        sizes = np.abs(one.lengths)
        if mutated == "largest coordinate":
            sizes = np.abs(one.x).max(axis=-1)
        bound = min(sizes) if mutated == "smallest" else (p * sizes).sum()
        return Measurement(observed=(centre * centre).sum(), bound=bound**2)

    return measure


CLAIMS = (
    Claim(
        id="contraction/lemma-22",
        title="The mean of a random vector is no longer than its mean length",
        source="contraction, Lemma 22",
        statement=r"E\|X\|<\infty\;\Rightarrow\;EX\text{ exists and }\|EX\|\le E\|X\|",
        strategy=st.fixed_dictionaries(
            {
                "weights": st.tuples(*[st.integers(1, 9)] * 4).map(list),
                "lengths": st.tuples(*[st.integers(-9, 9)] * 4).map(list),
                "turns": st.tuples(*[st.integers(0, 3)] * 4).map(list),
            }
        ),
        explicit=(
            {"weights": [1, 1], "lengths": [1, 1], "turns": [2, 3]},
            {"weights": [1, 2], "lengths": [3, -2], "turns": [0, 1]},
        ),
        build=rays,
        measure=mean_norm(),
        grade="proved",
        controls=(
            Control(
                "the largest coordinate for the length",
                kind="formula",
                measure=mean_norm("largest coordinate"),
            ),
            Control("the smallest length", kind="formula", measure=mean_norm("smallest")),
        ),
        equality=Equality(params={"weights": [1, 2], "lengths": [3, 2], "turns": [0, 0]}, reaches=1.0),
        budget=Budget(quick=100, full=3000),
        notes=r"Both sides squared, in rationals: four outcomes along rational directions of the plane, whose "
        r"lengths are rational. On a finite space the mean exists. Equality where all values lie on one ray. Proof: "
        r"$\langle EX,u\rangle=E\langle X,u\rangle\le E\|X\|$ for $u=EX/\|EX\|$.",
    ),
    Claim(
        id="contraction/lemma-24-iv",
        title="Variance of a random matrix times an independent vector",
        source="contraction, Lemma 24 (iv)",
        statement=r"A\perp X\;\Rightarrow\;V[AX]\le V[A]E\|X\|^2+\|EA\|^2V[X]=V[A]V[X]+\|EA\|^2V[X]+\|EX\|^2V[A]",
        hypotheses=(Hypothesis("independent", r"A\perp X", lambda one: one.pair.independent),),
        strategy=st.tuples(pairs(), st.integers(0, 3), st.integers(0, 3)).map(
            lambda drawn: {
                "weights": drawn[0]["weights"],
                "diagonals": drawn[0]["x"],
                "x": drawn[0]["y"],
                "turns": drawn[1:],
            }
        ),
        explicit=(
            {"weights": [[1, 1], [1, 1]], "diagonals": [[0], [1]], "x": [[0], [1]]},
            {
                "weights": [[1, 2], [2, 4]],
                "diagonals": [[1, 1], [-2, 2]],
                "x": [[1, -1], [3, 0]],
                "turns": [0, 1],
            },
        ),
        build=product,
        measure=product_bound(),
        grade="proved",
        controls=(
            Control(
                "A = X ∈ {0, 1}",
                params={"weights": [[1, 0], [0, 1]], "diagonals": [[0], [1]], "x": [[0], [1]]},
            ),
            Control("without V[X]", kind="formula", measure=product_bound(second=0)),
            Control("without V[A]", kind="formula", measure=product_bound(first=0)),
        ),
        equality=Equality(
            params={"weights": [[1, 1], [1, 1]], "diagonals": [[0], [1]], "x": [[0], [1]]}, reaches=1.0
        ),
        budget=Budget(quick=60, full=1500),
        notes=r"$V[A]$ and $\|EA\|$ in the spectral norm, which is rational here: $A=R\,\mathrm{diag}(s)\,S$ with "
        r"fixed rational rotations. Equality for $d=1$. The two forms are equal by (i). $A=X\in\{0,1\}$ with equal "
        r"probabilities: $\frac14>\frac3{16}$. The identity behind it: @identity.",
    ),
)
