"""Lemmas 24, 26 and 27: identities between means and variances, proved for every finite space.

They are about vectors, and so about matrices in the Frobenius norm, the Euclidean norm of the entries. In the spectral
norm, which comes from no inner product, none of 24 (i) to (iii) and 26 holds: controls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from verification.claims.contraction._spaces import Pair, Params, build, square, vanishes, variance
from verification.model import Claim, Control, Hypothesis, Measurement

Difference = Callable[[Pair], Any]
Norm = Callable[[Array], Array]


# -- identities ---------------------------------------------------------------------------------------


def second_moment(pair: Pair, norm: Norm = square, drop: bool = False) -> Any:
    """E‖X‖² − V[X] − ‖EX‖²; ``drop``: without the last."""
    centre = pair.mean(pair.X)
    spread = pair.mean(norm(pair.X - centre))
    return pair.mean(norm(pair.X)) - spread - (0 if drop else norm(centre[None, None])[0, 0])


def about_a_point(pair: Pair, norm: Norm = square, sign: int = 1) -> Any:
    """E‖X − y‖² − V[X] − ‖EX − y‖², y the first value of Y."""
    y, centre = pair.y[0, 0], pair.mean(pair.X)
    spread = pair.mean(norm(pair.X - centre))
    return pair.mean(norm(pair.X - y)) - spread - norm((centre - sign * y)[None, None])[0, 0]


def never_above_spectral(pair: Pair) -> Measurement:
    """V[X] <= E‖X − y‖² in the spectral norm."""
    spread = pair.mean(diagonal_norm(pair.X - pair.mean(pair.X)))
    return Measurement(observed=spread, bound=pair.mean(diagonal_norm(pair.X - pair.y[0, 0])))


def of_a_sum(pair: Pair, norm: Norm = square, sign: int = 1) -> Any:
    """V[X + Y] − V[X] − V[Y]."""

    def V(values: Array) -> Any:
        return pair.mean(norm(values - pair.mean(values)))

    return V(pair.X + pair.y) - V(pair.X) - sign * V(pair.y)


def of_a_product(pair: Pair, centred: bool = True) -> Any:
    """V[AX] − E‖(A − EA)X‖² − E‖EA(X − EX)‖², A in the place of X and X in that of Y."""
    A, x = pair.X, pair.y
    mean_A, mean_x = pair.mean(A), pair.mean(x)
    inner = x - mean_x if centred else x
    return (
        variance(pair, applied(A, x))
        - pair.mean(square(applied(A - mean_A, x)))
        - pair.mean(square(applied(0 * A + mean_A, inner)))
    )


def applied(A: Array, x: Array) -> Array:
    """Ax at every outcome: A (a, b, rows, columns), x (a, b, columns)."""
    return (A * x[:, :, None, :]).sum(axis=-1)


def total_variance(pair: Pair, norm: Norm = square, drop: str = "") -> Any:
    """V[Y] − E V[Y | X] − V[E[Y | X]]: X is known by the number of its outcome."""
    given = pair.conditional
    within = pair.mean(norm(pair.y - given[:, None]))
    between = pair.mean(norm(np.repeat(given[:, None], pair.y.shape[1], axis=1) - pair.mean(pair.y)))
    whole = pair.mean(norm(pair.y - pair.mean(pair.y)))
    return whole - (0 if drop == "within" else within) - (0 if drop == "between" else between)


def centred_factor(pair: Pair, centred: bool = True) -> Any:
    """E[ψ(η)(φ(ζ) − Eφ(ζ))ϕ(η)]: X holds the row ψ and the column ϕ at every η, Y the matrix φ(ζ)."""
    psi, column = pair.X[..., 0, :], pair.X[..., 1, :]
    phi = pair.y - pair.mean(pair.y) if centred else pair.y
    return pair.mean((psi[..., :, None] * phi * column[..., None, :]).sum(axis=(-2, -1)))


def is_zero(difference: Callable[..., Any], **options: Any) -> Callable[[Pair], Measurement]:
    """The difference vanishes."""
    return lambda pair: vanishes(difference(pair, **options))


def diagonal_norm(x: Array) -> Array:
    """The squared spectral norm of diagonal matrices, given by their diagonals."""
    return np.abs(x).max(axis=-1) ** 2


# -- claims ------------------------------------------------------------------------------------------------

INDEPENDENT = Hypothesis("independent", r"X\perp Y", lambda pair: pair.independent)
EVERY_SPACE = (
    "polynomial identity in all weights and values, decided by its coefficients; no monomial holds more than three "
    "outcomes of either variable, so larger spaces bring no other coefficient, and coordinates add up"
)


def sizes(*outcomes: list[int], shapes: Any = ((1,), (1,)), **more: Any) -> tuple[Params, ...]:
    """Symbolic spaces."""
    return tuple({"outcomes": o, "shapes": [list(s) for s in shapes], **more} for o in outcomes)


SQUARE_SPACES = sizes([1, 1], [2, 2], [3, 3]) + sizes([2, 2], shapes=((2,), (2,)))
SIGNS = [[1, 1], [1, -1], [-1, 1], [-1, -1]]
DEPENDENT = {"weights": [[1, 0], [0, 1]], "x": [[1], [-1]], "y": [[1], [-1]]}  # X = Y = ±1
COMMON: dict[str, Any] = {"build": build, "grade": "proved"}


def spectral(measure: Callable[[Pair], Measurement], **space: Any) -> Control:
    """The lemma in the spectral norm, on diagonal matrices."""
    return Control("diagonal matrices, spectral norm", kind="formula", measure=measure, params=space)


CLAIMS = (
    Claim(
        id="contraction/lemma-24-i",
        title="Second moment as variance plus the squared mean",
        source="contraction, Lemma 24 (i)",
        statement=r"E\|X\|^2=V[X]+\|EX\|^2",
        explicit=SQUARE_SPACES,
        measure=is_zero(second_moment),
        complete=EVERY_SPACE,
        controls=(
            Control("without the mean", kind="formula", measure=is_zero(second_moment, drop=True)),
            spectral(
                is_zero(second_moment, norm=diagonal_norm),
                weights=[[1], [1]],
                x=[[1, 1], [1, -1]],
                y=[[0, 0]],
            ),
        ),
        notes=r"With definition 23, $V[X]=E\|X-EX\|^2$. Weights and values are indeterminates. For matrices it holds "
        r"in the Frobenius norm, not in the spectral one: $X=\mathrm{diag}(1,\pm1)$, $1\ne1+1$. Of matrices the "
        r"theorems need $E\|N^{\top}v\|^2\le\sigma'\|v\|^2$ for vectors $v$ alone, see spectral-variance.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-24-ii",
        title="Mean square distance to a point as variance plus the squared distance of the mean",
        source="contraction, Lemma 24 (ii)",
        statement=r"E\|X-x\|^2=V[X]+\|EX-x\|^2\;\Rightarrow\;V[X]\le E\|X-x\|^2",
        explicit=SQUARE_SPACES,
        measure=is_zero(about_a_point),
        complete=EVERY_SPACE,
        controls=(
            Control("EX + x for EX − x", kind="formula", measure=is_zero(about_a_point, sign=-1)),
            spectral(
                never_above_spectral, weights=[[1], [1], [1]], x=[[4, 0], [-2, 3], [-2, -3]], y=[[1, 0]]
            ),
        ),
        notes=r"$x$ is an indeterminate as well. The consequence: the last term is a square. In the spectral norm the "
        r"mean is not the nearest point: $X=\mathrm{diag}(4,0)$, $\mathrm{diag}(-2,\pm3)$ and "
        r"$x=\mathrm{diag}(1,0)$ give $\frac{34}3>9$.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-24-iii",
        title="Variances of independent vectors add up",
        source="contraction, Lemma 24 (iii)",
        statement=r"X\perp Y\;\Rightarrow\;V[X+Y]=V[X]+V[Y]",
        hypotheses=(INDEPENDENT,),
        explicit=SQUARE_SPACES,
        measure=is_zero(of_a_sum),
        complete=EVERY_SPACE,
        controls=(
            Control("X = Y = ±1", params=DEPENDENT),
            Control("V[X] − V[Y]", kind="formula", measure=is_zero(of_a_sum, sign=-1)),
            spectral(is_zero(of_a_sum, norm=diagonal_norm), weights=[[1] * 4] * 4, x=SIGNS, y=SIGNS),
        ),
        notes=r"The laws of $X$ and $Y$ are indeterminate, their joint law is the product. Uncorrelated is enough; "
        r"$X=Y=\pm1$ gives 4 for 2. In the spectral norm diagonals of independent signs have $V[X+Y]=3$, not 2.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-24-iv@identity",
        title="Variance of a product as two mean squares, the identity behind the bound",
        source="contraction, Lemma 24 (iv), sharper",
        statement=r"A\perp X\;\Rightarrow\;V[AX]=E\|(A-EA)X\|^2+E\|EA\,(X-EX)\|^2",
        hypotheses=(INDEPENDENT,),
        explicit=sizes([1, 1], [2, 2], [3, 3], shapes=((1, 2), (2,))),
        measure=is_zero(of_a_product),
        complete=EVERY_SPACE,
        controls=(
            Control(
                "A = X ∈ {0, 1}", params={"weights": [[1, 0], [0, 1]], "x": [[[0]], [[1]]], "y": [[0], [1]]}
            ),
            Control("X for X − EX", kind="formula", measure=is_zero(of_a_product, centred=False)),
        ),
        notes=r"One row of $A$ and two columns: rows add up, and a term holds at most two columns. $\|(A-EA)X\|$ is at "
        r"most $\|A-EA\|\|X\|$ in either norm, whence (iv).",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-26",
        title="Law of total variance",
        source="contraction, Lemma 26, (38)",
        statement=r"V[Y]=E\,V[Y\mid X]+V\bigl[E[Y\mid X]\bigr]",
        explicit=sizes([1, 1], [2, 2], [3, 3], joint=True) + sizes([2, 2], shapes=((1,), (2,)), joint=True),
        measure=is_zero(total_variance),
        complete=EVERY_SPACE,
        controls=(
            Control("without E V[Y | X]", kind="formula", measure=is_zero(total_variance, drop="within")),
            Control("without V[E[Y | X]]", kind="formula", measure=is_zero(total_variance, drop="between")),
            spectral(
                is_zero(total_variance, norm=diagonal_norm),
                weights=[[1, 1], [1, 1]],
                x=[[0], [0]],
                y=[SIGNS[:2], SIGNS[2:]],
                joint=True,
            ),
        ),
        notes=r"Definition 25 for the conditional variance. $X$ has any law, and $Y$ given $X=a$ any law of its own. "
        r"In the spectral norm $Y=\mathrm{diag}(\varepsilon_1,\varepsilon_2)$ given $X=\varepsilon_1$ has $1\ne1+1$.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-27",
        title="A centred independent factor makes the mean of a product vanish",
        source="contraction, Lemma 27, (39)",
        statement=r"\zeta\perp\eta\;\Rightarrow\;E\bigl[\psi(\eta)\,(\varphi(\zeta)-E\varphi(\zeta))\,\phi(\eta)"
        r"\bigr]=0",
        hypotheses=(INDEPENDENT,),
        explicit=sizes([1, 1], [2, 2], [3, 3], shapes=((2, 1), (1, 1)))
        + sizes([2, 2], shapes=((2, 2), (2, 2))),
        measure=is_zero(centred_factor),
        complete=EVERY_SPACE,
        controls=(
            Control(
                "ζ = η², uncorrelated with η",
                params={
                    "weights": [[0, 1], [1, 0], [0, 1]],
                    "x": [[[1], [1]], [[1], [0]], [[1], [1]]],
                    "y": [[[0]], [[1]]],
                },
            ),
            Control("not centred", kind="formula", measure=is_zero(centred_factor, centred=False)),
        ),
        notes=r"$\psi$ a row, $\varphi$ a matrix and $\phi$ a column suffice: entries of products of matrices. "
        r"Uncorrelated is not enough: $\eta\in\{-1,0,1\}$, $\zeta=\eta^2$, $\psi=1$, $\phi=\eta^2$ gives $\frac29$.",
        **COMMON,
    ),
)
