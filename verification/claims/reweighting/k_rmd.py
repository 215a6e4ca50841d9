"""K-step truncated reverse mode (17): its error against the whole sum, and whether it is a descent direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays.backend import Array
from refimpl.problem import BilevelProblem
from refimpl.solvers import GradientDescent
from refimpl.zoo.quadratic import Quadratic
from verification.claims.reweighting._shared import spectrum, worst
from verification.claims.reweighting._systems import RATIONAL, System
from verification.instances import EPS, Case, case, cases, point, size, tidy
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement

# -- the error ------------------------------------------------------------------------------------------------


def step(case: Case) -> float:
    """α = share/L."""
    return float(case.params["share"]) / spectrum(case)[1]


def left_out(case: Case) -> tuple[np.ndarray, float]:
    """‖h_{T−K} − h_0‖ for K = 0 … T, and ‖∇_wF(w_T)‖."""
    options: dict[str, Any] = {"lower": GradientDescent(case.t, step=step(case)), "w0": case.w0}
    whole = ri.approximate.reverse(case.problem, case.lam, **options)
    curve = ri.approximate.reverse(case.problem, case.lam, exact=whole.value, **options).curve
    return np.asarray(curve), size(case.problem.upper.grad_w(case.lam, whole.w))


def bound(case: Case, gradient: float, K: np.ndarray) -> np.ndarray:
    """C ((1 − αμ)^K − (1 − αμ)^T), C = ‖∇_wF(w_T)‖ sup‖∇²_λwG‖/μ."""
    mu, q = spectrum(case)[0], 1 - step(case) * spectrum(case)[0]
    cross = case.problem.lower.bounds(case.region).cross  # type: ignore[union-attr]  # minimisations only
    return gradient * cross / mu * (q**K - q**case.t)


def bounded(
    plus: int = 0, scale: Callable[[Case], float] = lambda case: 1.0, power: int = 1
) -> Callable[[Case], Measurement]:
    def measure(case: Case) -> Measurement:
        errors, gradient = left_out(case)
        K = power * np.arange(case.t + 1) + plus
        limit = np.maximum(bound(case, gradient, K), 0) * scale(case)
        # a short step amplifies by 1/(αμ), where the best one amplifies by κ_q
        return worst(errors, limit, case.rounding / min(1.0, case.params["share"]))

    return measure


def curve(case: Case) -> Mapping[str, Any]:
    errors, gradient = left_out(case)
    K = np.arange(case.t + 1)
    labels = {"xlabel": f"last K of {case.t} steps", "ylabel": "what truncation leaves out", "logy": True}
    return {"x": K, "predicted": bound(case, gradient, K), "measured": errors, **labels}


def _short(case: Case) -> tuple[bool, Any]:
    return 0 < case.params["share"] <= 1, f"αL = {case.params['share']}"


def _convex(case: Case) -> tuple[bool, Any]:
    ends = (case.exact.w, case.w0)
    least = min(float(np.linalg.eigvalsh(case.problem.residual_w(case.lam, w).dense())[0]) for w in ends)
    mu = spectrum(case)[0]
    return 0 < mu <= least + 10 * case.problem.d * EPS * spectrum(case)[1], f"{least:.6g} against {mu:.6g}"


def start(kind: str, **more: Any) -> dict[str, Any]:
    return {**point(kind, t=10), "share": 0.5, **more}


# -- the direction --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Direction:
    """G = ½wᵀHw + λᵀCw with H's integer spectrum known, F = b·w (so ∇_λF = 0), α = 1/(``slower`` L), K steps kept."""

    system: System
    cross: Array
    slower: int
    K: int

    @property
    def extremes(self) -> tuple[int, int]:
        return min(self.system.spectrum), max(self.system.spectrum)

    @property
    def step(self) -> fmpq:
        return fmpq(1, self.slower * self.extremes[1])

    @cached_property
    def problem(self) -> BilevelProblem:
        n, d = self.cross.shape
        H, zero = self.system.a, RATIONAL.zeros
        lower = Quadratic(H[None], self.cross[None], zero((1, n, n)), zero((1, d)), zero((1, n)), RATIONAL)
        upper = Quadratic(
            zero((1, d, d)), zero((1, n, d)), zero((1, n, n)), self.system.b[None], zero((1, n)), RATIONAL
        )
        return BilevelProblem(upper, lower)

    @cached_property
    def exact(self) -> Array:
        """∇f."""
        return ri.exact_hypergradient(self.problem, RATIONAL.zeros((len(self.cross),))).value

    @cached_property
    def kept(self) -> Array:
        """h: the last K terms (H is constant and F linear, so they are the same whatever T >= K is)."""
        lower = GradientDescent(self.K + 1, self.step)
        lam = RATIONAL.zeros((len(self.cross),))
        return ri.approximate.truncated(self.problem, lam, lower=lower, last=self.K).value


def direction(params: Mapping[str, Any]) -> Direction:
    system = System(tuple(params["spectrum"]), tuple(params["b"]), tuple(params["mirror"]))
    return Direction(system, RATIONAL.asarray(np.array(params["cross"])), params["slower"], params["K"])


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


def _rank(d: Direction) -> int:
    from flint import fmpq_mat

    rows = [[int(x) for x in row] for row in d.cross]
    return int(fmpq_mat(len(rows), len(rows[0]), [x for row in rows for x in row]).rref()[1])


def _full(d: Direction) -> tuple[bool, Any]:
    n, w = d.cross.shape
    rank = _rank(d)
    return n >= w == rank, f"n = {n}, d = {w}, rank {rank}"


def _few(d: Direction) -> tuple[bool, Any]:
    n, w = d.cross.shape
    rank = _rank(d)
    return n < w and rank == n, f"n = {n}, d = {w}, rank {rank}"


def _isotropic(d: Direction) -> tuple[bool, Any]:
    gram = d.cross.T @ d.cross
    gap = abs(gram - gram[0, 0] * RATIONAL.eye(len(gram))).max()
    return gap == 0 and gram[0, 0] != 0, str(gap)


def _steps_short(d: Direction) -> tuple[bool, Any]:
    return d.slower >= 1 and d.K >= 1 and d.extremes[0] > 0, f"α = {d.step}, L = {d.extremes[1]}, K = {d.K}"


SHORT = Hypothesis("globally strongly convex, short steps", r"\alpha \le 1/L,\ K \ge 1,\ \nabla_uf = 0", _steps_short)


def directions(extra_rows: tuple[int, int], isotropic: bool = False) -> Any:
    """Strategy: d <= 3, n between d + extra_rows; with ``isotropic`` C is a multiple of a signed permutation."""

    def sized(d: int) -> Any:
        few, many = (max(1, d + e) for e in extra_rows)
        row = st.lists(st.integers(-3, 3), min_size=d, max_size=d)
        rows = st.integers(few, many).flatmap(lambda n: st.lists(row, min_size=n, max_size=n))
        if isotropic:
            rows = st.builds(
                lambda order, signs, c: [[c * signs[i] * (order[i] == j) for j in range(d)] for i in range(d)],
                st.permutations(range(d)),
                st.lists(st.sampled_from((1, -1)), min_size=d, max_size=d),
                st.integers(1, 3),
            )
        entries = {
            "spectrum": st.lists(st.integers(1, 9), min_size=d, max_size=d),
            "b": st.lists(st.integers(-3, 3), min_size=d, max_size=d),
            "mirror": st.lists(st.integers(-2, 2), min_size=d, max_size=d),
            "cross": rows,
            "slower": st.integers(1, 4),
            "K": st.integers(1, 6),
        }
        return st.fixed_dictionaries(entries)

    return st.integers(1, 3).flatmap(sized)


def small(cross: list[list[int]], spectrum: list[int], b: list[int], **more: Any) -> dict[str, Any]:
    return {"cross": cross, "spectrum": spectrum, "b": b, "mirror": [0] * len(b), "slower": 1, "K": 1, **more}


PROOF = (
    "$\\|h - \\nabla f\\| \\le C(1-\\alpha\\mu)^K$ with $C = \\|\\nabla_vf\\|\\|\\nabla^2_{uv}g\\|/\\mu$, so "
    "$h^\\top\\nabla f \\ge \\|\\nabla f\\|(\\|\\nabla f\\| - C(1-\\alpha\\mu)^K)$: at least $\\frac12\\|\\nabla f\\|^2$ once K is so "
    "large that the second term is at most half of the first. No smaller K is safe in general."
)
LATE = Correction(
    tex=r"h_{T-K}^\top\nabla f \ge \|\nabla f\|^2 - \|\nabla f\|\, C(1-\alpha\mu)^K; \quad \text{so a descent direction as "
    r"soon as } C(1-\alpha\mu)^K < \|\nabla f\|",
    measure=late,
    proof=PROOF,
)
ATTRIBUTION = (
    "The note cites Shaban et al. for K-RMD and states no such claim; this is the claim as it is commonly recalled "
    "(their text is not among the documents): hypotheses $g$ globally strongly convex, $\\nabla_uf = 0$, the $B_t$ of full "
    "rank $d \\le n$, $\\alpha$ small, T large. "
)

CLAIMS = (
    Claim(
        id="reweighting/k-rmd-error",
        title="What K-step truncation leaves out",
        source="reweighting, (17)",
        statement=r"\|h_{T-K} - h_0\| \le C\bigl((1-\alpha\mu)^K - (1-\alpha\mu)^T\bigr), \qquad "
        r"C = \frac{\|\nabla_vf(v_T)\|\,\sup\|\nabla^2_{uv}g\|}{\mu}, \quad \alpha \le 1/L",
        hypotheses=(
            Hypothesis("step", r"0 < \alpha \le 1/L", _short),
            Hypothesis("strongly convex", r"\nabla^2_{vv}g \succeq \mu I,\ \mu > 0", _convex),
        ),
        strategy=st.builds(
            lambda p, share: {**p, "share": share},
            cases(("well", "eigenvector", "quadratic", "logistic"), t=20),
            st.floats(0.05, 1).map(tidy),
        ),
        explicit=(start("well"), start("eigenvector", d=2), start("quadratic", d=3, n=2), start("logistic", d=2)),
        build=case,
        measure=bounded(),
        grade="exact",
        controls=(
            Control("a step of 1.9/L", params=start("quadratic", d=2, kappa=1.5, share=1.9, upper="w")),
            Control("K + 1 for K", kind="formula", measure=bounded(plus=1)),
            Control("2K for K", kind="formula", measure=bounded(power=2)),
            Control("L for μ in C", kind="formula", measure=bounded(scale=lambda c: spectrum(c)[0] / spectrum(c)[1])),
            Control("α in place of 1/μ", kind="formula", measure=bounded(scale=lambda c: step(c) * spectrum(c)[0])),
        ),
        equality=Equality(params=start("well"), reaches=0.999),
        curve=curve,
        budget=Budget(quick=100, full=2000),
        notes="The terms left out are $\\sum_{t \\le T-K} B_t^\\top A_{t+1}^\\top … A_T^\\top\\nabla_vf$ with $\\|B_t\\| \\le "
        "\\alpha\\|\\nabla^2_{uv}g\\|$ and $\\|A_t\\| \\le 1-\\alpha\\mu$: a geometric sum. C does not depend on α, K or T. "
        "The error against the exact hypergradient is rate-truncated. Equality: one variable.",
    ),
    Claim(
        id="reweighting/k-rmd-descent",
        title="Truncated reverse mode as a descent direction for every K",
        source="reweighting, after (17), citing Shaban et al. 2018",
        statement=r"n \ge d,\ \nabla^2_{uv}g \text{ of rank } d,\ \nabla_uf = 0,\ \alpha \le 1/L:\quad "
        r"h_{T-K}^\top\nabla f \ge 0 \text{ for every } K \ge 1",
        hypotheses=(SHORT, Hypothesis("full rank", r"\operatorname{rank}\nabla^2_{uv}g = d \le n", _full)),
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
        budget=Budget(quick=150, full=3000),
        notes=ATTRIBUTION + "With $S_K = \\alpha\\sum_{j<K}(I-\\alpha H)^j$ and $C = \\nabla^2_{uv}g$, $h^\\top\\nabla f = "
        "\\nabla_vf^\\top S_K\\, C^\\top C\\, H^{-1}\\nabla_vf$: a product of three positive matrices that need not be "
        "positive. Smaller α does not help, as $S_K \\to \\alpha KI$.",
    ),
    Claim(
        id="reweighting/k-rmd-descent@few-hyperparameters",
        title="The same with fewer hyperparameters than weights",
        source="reweighting, after (17), citing Shaban et al. 2018",
        statement=r"n < d,\ \nabla^2_{uv}g \text{ of rank } n,\ \nabla_uf = 0,\ \alpha \le 1/L:\quad "
        r"h_{T-K}^\top\nabla f \ge 0 \text{ for every } K \ge 1",
        hypotheses=(SHORT, Hypothesis("few hyperparameters", r"\operatorname{rank}\nabla^2_{uv}g = n < d", _few)),
        strategy=directions((-2, -1)),
        explicit=(small([[1, -2]], [1, 4], [1, 1]),),
        build=direction,
        measure=descends,
        grade="proved",
        corrected=LATE,
        budget=Budget(quick=150, full=3000),
        notes=ATTRIBUTION + "Without the rank condition even one hyperparameter is enough: $h$ and $\\nabla f$ are numbers of "
        "opposite sign.",
    ),
    Claim(
        id="reweighting/k-rmd-descent@isotropic",
        title="A case in which every K gives a sufficient descent direction",
        source="reweighting, after (17); sufficient condition derived here",
        statement=r"(\nabla^2_{uv}g)^\top\nabla^2_{uv}g = \sigma^2I,\ \nabla_uf = 0,\ \alpha \le 1/L:\quad "
        r"h_{T-K}^\top\nabla f \ge \sigma^2\,\frac{1-(1-\alpha L)^K}{L^2}\,\|\nabla_vf\|^2 \text{ for every } K \ge 1",
        hypotheses=(
            SHORT,
            Hypothesis("isotropic", r"(\nabla^2_{uv}g)^\top\nabla^2_{uv}g = \sigma^2I,\ \sigma > 0", _isotropic),
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
            Control(
                "μ for L",
                kind="formula",
                measure=isotropic(lambda d: (1 - (1 - d.step * d.extremes[0]) ** d.K) / fmpq(d.extremes[0]) ** 2),
            ),
            Control("twice as much", kind="formula", measure=isotropic(scale=2)),
        ),
        equality=Equality(params=small([[1, 0], [0, 1]], [1, 4], [0, 1], slower=2, K=3), reaches=1.0),
        budget=Budget(quick=150, full=3000),
        notes="Then $h^\\top\\nabla f = \\sigma^2\\nabla_vf^\\top S_KH^{-1}\\nabla_vf$ with commuting positive factors, whose smallest "
        "eigenvalue belongs to L; it suffices that $C^\\top C$ commutes with H. Equality: $\\nabla_vf$ an eigenvector to L.",
    ),
)
