"""K-step truncated reverse mode (17): is it a descent direction for every K?"""

from __future__ import annotations

from collections.abc import Callable

from flint import fmpq

from verification.claims.reweighting._directions import (
    SHORT,
    Direction,
    direction,
    directions,
    few,
    full,
    orthogonal_columns,
    small,
)
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement


def descends(d: Direction) -> Measurement:
    """−hᵀ∇f <= 0."""
    return Measurement(observed=-(d.kept @ d.exact), bound=0)


def late(d: Direction) -> Measurement:
    """‖∇f‖² − hᵀ∇f <= ‖∇f‖ C(1−αμ)^K, squared where the left side is positive; Frobenius norm of C for its own."""
    gradient = d.exact @ d.exact
    gap = gradient - d.kept @ d.exact
    size = (d.system.b @ d.system.b) * (d.cross * d.cross).sum() / fmpq(d.extremes[0]) ** 2
    allowed = gradient * size * (1 - d.step * d.extremes[0]) ** (2 * d.K)
    return Measurement(observed=gap * abs(gap), bound=allowed)


def isotropic(
    factor: Callable[[Direction], fmpq] | None = None, scale: int = 1
) -> Callable[[Direction], Measurement]:
    """σ² (1 − (1−αL)^K)/L² ‖∇_wF‖² <= hᵀ∇f, where CᵀC = σ² I."""

    def measure(d: Direction) -> Measurement:
        sigma = (d.cross * d.cross).sum() / fmpq(d.cross.shape[1])
        L = fmpq(d.extremes[1])
        least = (1 - (1 - d.step * L) ** d.K) / L**2 if factor is None else factor(d)
        inner = d.kept @ d.exact
        claimed = scale * sigma * least * (d.system.b @ d.system.b)
        return Measurement(observed=claimed - min(inner, 0), bound=max(inner, 0))

    return measure


PROOF = (
    "$\\|h - \\nabla f\\| \\le C(1-\\alpha\\mu)^K$ with $C = \\|\\nabla_vf\\|\\|\\nabla^2_{uv}g\\|/\\mu$, so "
    "$h^\\top\\nabla f \\ge \\|\\nabla f\\|(\\|\\nabla f\\| - C(1-\\alpha\\mu)^K)$: at least "
    "$\\frac{1}{2}\\|\\nabla f\\|^2$ once K is so large that the second term is at most half of the first. "
    "Checked with the Frobenius norm of $\\nabla^2_{uv}g$, which keeps both sides rational."
)
LATE = Correction(
    tex=r"$$h_{T-K}^\top\nabla f \ge \|\nabla f\|^2 - \|\nabla f\|\, C(1-\alpha\mu)^K$$ so it is a descent "
    r"direction as soon as $C(1-\alpha\mu)^K < \|\nabla f\|$.",
    measure=late,
    proof=PROOF,
)
ATTRIBUTION = (
    "The note cites Shaban et al. for K-RMD and states no such claim; this is the claim as it is commonly "
    "recalled (their text is not among the documents): hypotheses $g$ globally strongly convex, $\\nabla_uf "
    "= 0$, the $B_t$ of full rank $d \\le n$, $\\alpha$ small, T large. "
)

CLAIMS = (
    Claim(
        id="reweighting/k-rmd-descent",
        title="Truncated reverse mode gives a descent direction for every K",
        source="reweighting, after (17), citing Shaban et al. 2018",
        statement=r"$$n \ge d,\ \nabla^2_{uv}g \text{ of rank } d,\ \nabla_uf = 0,\ \alpha \le 1/L:$$ "
        r"$$h_{T-K}^\top\nabla f \ge 0 \text{ for every } K \ge 1$$",
        hypotheses=(SHORT, Hypothesis("full rank", r"\operatorname{rank}\nabla^2_{uv}g = d \le n", full)),
        strategy=directions((0, 1)),
        explicit=(
            small([[1]], [1], [1]),
            small([[2, 0], [0, 1]], [1, 4], [1, 1]),
            small([[4, -8], [1, 0]], [1, 4], [1, 1]),
        ),
        build=direction,
        measure=descends,
        grade="proved",
        corrected=LATE,
        budget=Budget(quick=150, full=1000),
        notes=ATTRIBUTION
        + "With $S_K = \\alpha\\sum_{j<K}(I-\\alpha H)^j$ and $C = \\nabla^2_{uv}g$, $h^\\top\\nabla f = "
        "\\nabla_vf^\\top S_K\\, C^\\top C\\, H^{-1}\\nabla_vf$: a product of three positive matrices that "
        "need not be positive. A smaller α does not help, as $S_K \\to \\alpha KI$ (only with T fixed as "
        "well, so that the whole sum tends to $\\alpha TI$ too, is the claim trivial).",
    ),
    Claim(
        id="reweighting/k-rmd-descent@few-hyperparameters",
        title="Truncated reverse mode gives a descent direction with fewer hyperparameters than weights",
        source="reweighting, after (17), citing Shaban et al. 2018",
        statement=r"$$n < d,\ \nabla^2_{uv}g \text{ of rank } n,\ \nabla_uf = 0,\ \alpha \le 1/L:$$ "
        r"$$h_{T-K}^\top\nabla f \ge 0 \text{ for every } K \ge 1$$",
        hypotheses=(
            SHORT,
            Hypothesis("few hyperparameters", r"\operatorname{rank}\nabla^2_{uv}g = n < d", few),
        ),
        strategy=directions((-2, -1)),
        explicit=(small([[1, -2]], [1, 4], [1, 1]),),
        build=direction,
        measure=descends,
        grade="proved",
        corrected=LATE,
        budget=Budget(quick=150, full=1000),
        notes=ATTRIBUTION
        + "Without the rank condition even one hyperparameter is enough: $h$ and $\\nabla f$ are numbers of "
        "opposite sign.",
    ),
    Claim(
        id="reweighting/k-rmd-descent@isotropic",
        title="A case in which every K gives a sufficient descent direction",
        source="reweighting, after (17); sufficient condition derived here",
        statement=r"$$(\nabla^2_{uv}g)^\top\nabla^2_{uv}g = \sigma^2I,\ \nabla_uf = 0,\ \alpha \le 1/L,\ K "
        r"\ge 1:$$ $$h_{T-K}^\top\nabla f \ge \sigma^2\,\frac{1-(1-\alpha L)^K}{L^2}\,\|\nabla_vf\|^2$$",
        hypotheses=(
            SHORT,
            Hypothesis(
                "isotropic",
                r"(\nabla^2_{uv}g)^\top\nabla^2_{uv}g = \sigma^2I,\ \sigma > 0",
                orthogonal_columns,
            ),
        ),
        strategy=directions((0, 0), isotropic=True),
        explicit=(
            small([[1]], [1], [1]),
            small([[0, 2], [-2, 0]], [1, 4], [1, 1]),
        ),
        build=direction,
        measure=isotropic(),
        grade="proved",
        controls=(
            Control("not isotropic", params=small([[4, -8], [1, 0]], [1, 4], [1, 1])),
            Control("∇_uf not 0", params=small([[1]], [1], [1], slope=1)),
            Control(
                "μ for L",
                kind="formula",
                measure=isotropic(
                    lambda d: (1 - (1 - d.step * d.extremes[0]) ** d.K) / fmpq(d.extremes[0]) ** 2
                ),
            ),
            Control("twice as much", kind="formula", measure=isotropic(scale=2)),
        ),
        equality=Equality(params=small([[1, 0], [0, 1]], [1, 4], [0, 1], slower=2, K=3), reaches=1.0),
        budget=Budget(quick=150, full=1000),
        notes="Then $h^\\top\\nabla f = \\sigma^2\\nabla_vf^\\top S_KH^{-1}\\nabla_vf$ with commuting "
        "positive factors, whose smallest eigenvalue belongs to L; it suffices that $C^\\top C$ commutes "
        "with H. Equality: $\\nabla_vf$ an eigenvector to L.",
    ),
)
