r"""Alignment of noise and Hessian as a theorem: when is Tr(HΣ) at least that of isotropic noise of the same trace?

Σ = κH: D Tr(H²) − (Tr H)² = D ‖H − (Tr H/D) I‖_F² >= 0 (Cauchy–Schwarz for the eigenvalues), with equality for H = hI
only. In general positive semidefinite H and Σ may have orthogonal ranges, and Tr(HΣ) = 0.

αH ⪯ Σ ⪯ βH and H ⪰ 0: H^½(Σ − αH)H^½ ⪰ 0 has a trace >= 0, so Tr(HΣ) >= α Tr(H²); Tr Σ <= β Tr H; hence

    Tr(HΣ) >= (α/β) · (D/r) · Tr H Tr Σ/D,   r = (Tr H)²/Tr(H²) <= rank H .

So a ratio far above 1 takes D ≫ r: few directions of large curvature. The printed Σ has α = min ε_i², β = max a_i
at any θ. One sample's gradient g = ε_η ∇f_η has E ggᵀ = E ε_η² ∇f_η∇f_ηᵀ between the least and largest ε_η² times
E ∇f_η∇f_ηᵀ, and at stationary points with H = (1/n) Σ_i E ∇f_η∇f_ηᵀ that orders Σ and H: α is 0 where some masked
output meets its label. Noise of the full batch has no α > 0 at all, and β as before (over n for own masks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from verification.claims.dropout_flatness._aligned import Pair, Which, of_network, ordered, written
from verification.claims.dropout_flatness._minima import either, minima
from verification.claims.dropout_flatness._noise import AWAY, STATIONARY, Noise, build
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_1_two_layers import SEMIDEFINITE
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement

SOURCE = "dropout-flatness, section 3.6"
BUDGET = Budget(quick=60, full=600)


def at_least(pair: Pair, share: Callable[[Pair], Any] = lambda pair: len(pair.H)) -> Measurement:
    """Tr H Tr Σ/D <= Tr(HΣ); ``share`` stands for D."""
    t = pair.traces
    ratio = float(t.ratio) if t.noise > 0 and t.hessian > 0 else 0.0
    return Measurement(observed=t.hessian * t.noise / share(pair), bound=t.trace, detail={"ratio": ratio})


def sandwich(
    pair: Pair, constant: Callable[[Pair], tuple[Any, Any]] = lambda p: (p.alpha, p.beta)
) -> Measurement:
    """α Tr(H²) Tr Σ <= β Tr H Tr(HΣ)."""
    t, (alpha, beta) = pair.traces, constant(pair)
    return Measurement(observed=alpha * t.hessian_squared * t.noise, bound=beta * t.hessian * t.trace)


def no_rank(pair: Pair) -> Measurement:
    """The same with r = 1."""
    t = pair.traces
    return Measurement(observed=pair.alpha * t.hessian**2 * t.noise, bound=pair.beta * t.hessian * t.trace)


def between(pair: Pair) -> Measurement:
    """0 <= Tr(HΣ) <= β Tr(H²)."""
    t = pair.traces
    return Measurement(observed=max(-t.trace, t.trace - pair.beta * t.hessian_squared), bound=0)


def of(
    which: Which, measure: Callable[[Pair], Measurement] = at_least, layer: int | None = None
) -> Callable[[Noise], Measurement]:
    """The measure on a network's matrices."""
    return lambda case: measure(of_network(case, which, layer))


def both_draws(measure: Callable[[Pair], Measurement]) -> Callable[[Noise], Measurement]:
    """The worse of the full batch's two, as a difference: exact numbers."""

    def found(case: Noise) -> Measurement:
        each = [measure(of_network(case, which)) for which in ("own masks", "shared mask")]
        return Measurement(observed=max(m.observed - m.bound for m in each), bound=0)

    return found


def stated(params: Mapping[str, Any]) -> Pair:
    """A network's pair (``which``, ``layer``), α multiplied by ``stated``."""
    pair = of_network(either(params), params["which"], params.get("layer"))
    return Pair(pair.H, pair.noise, params.get("stated", 1) * pair.alpha, pair.beta)


def one_sided(X: int) -> dict[str, Any]:
    """A ReLU unit u = w = 1 that sees x = X alone of (X, −1), y = (2X, −X), p = ½: ε = (−X, X), a global minimum."""
    return at([1, 1, 1], theta=[1, 0, 1, 0], X=[[X], [-1]], y=[2 * X, -X])


def ratios(case: Noise) -> dict[str, Any]:
    """Tr(HΣ) D/(Tr H Tr Σ) of the family ``one_sided``, exact and printed."""
    inputs = [2**k for k in range(8)]
    cases = [build(one_sided(X)) for X in inputs]
    found = {w: [float(of_network(c, w).traces.ratio) for c in cases] for w in ("one sample", "printed")}
    return {
        "x": inputs,
        "predicted": [2 / (X * X + 1) for X in inputs],
        "measured": found["one sample"],
        "xlabel": "input of the sample that the unit sees",
        "ylabel": "Tr(HΣ) beside isotropic noise",
        "logx": True,
        "logy": True,
    }


PROPORTIONAL = Hypothesis(
    "proportional",
    r"\Sigma = \kappa H",
    lambda pair: (
        bool((pair.noise * pair.traces.hessian == pair.H * pair.traces.noise).all()),
        float(abs(pair.noise * pair.traces.hessian - pair.H * pair.traces.noise).max()),
    ),
)
ORDERED = Hypothesis("ordered", r"\alpha H \preceq \Sigma \preceq \beta H, \; H \succeq 0", ordered)
SECOND = Hypothesis(
    "H is positive semidefinite",
    r"H \succeq 0",
    lambda case: SEMIDEFINITE.predicate(case.at) if AWAY.predicate(case)[0] else (False, "no H at a kink"),
)
MINIMUM = (STATIONARY, AWAY, SECOND)

ROWS = st.integers(1, 3).flatmap(
    lambda D: st.lists(st.lists(st.integers(-4, 4), min_size=D, max_size=D), min_size=1, max_size=3)
)
SMALL = st.integers(-4, 4)
LABELLED = st.integers(2, 4).flatmap(
    lambda n: minima(
        (n, n),
        d=1,
        X=st.lists(st.lists(SMALL, min_size=1, max_size=1), min_size=n, max_size=n),
        y=st.lists(SMALL, min_size=n, max_size=n),
    )
)
LINEAR = {
    "d": 1,
    "m": 1,
    "n": 2,
    "activation": "linear",
    "seed": 0,
    "X": [[1], [0]],
    "y": [0, 1],
    "keep": [4],
}
LEAKY = {
    "d": 1,
    "m": 1,
    "n": 4,
    "activation": "leaky_relu",
    "seed": 307,
    "X": [[3], [0], [4], [-3]],
    "y": [-1, 0, -1, -4],
    "keep": [4],
}
BLOCK = {**LEAKY, "n": 3, "seed": 0, "X": [[1], [-1], [1]], "y": [-2, 2, 1]}
EQUAL = at([1, 1, 1], theta=[1, 0, 1, 0], X=[[1], [2]], y=[0, 1], keep=[8], which="printed")  # ε = (1, 1)
UNDROPPED = at([1, 1, 1], n=1, seed=1, keep=[8], which="printed")

ISOTROPIC = r"\operatorname{Tr}(H\Sigma) \ge \frac{\operatorname{Tr} H\,\operatorname{Tr}\Sigma}{D}"
AT_A_MINIMUM = r"\nabla E_\eta R = 0, \; H \succeq 0: \quad " + ISOTROPIC
PRINTED_CONSTANTS = (
    r"\alpha = \min_i\varepsilon_i^2, \; \beta = \max_i\left(\varepsilon_i^2 + s\sum_j(f^j_i)^2\right)"
)
EXACT_CONSTANTS = r"\alpha = \min_{i,\eta}(f_\eta(x_i)-y_i)^2, \; \beta = \max_{i,\eta}(f_\eta(x_i)-y_i)^2"
BOUND = (
    r"\operatorname{Tr}(H\Sigma) \ge \frac{\alpha}{\beta}\,\frac{D}{r}\,\frac{\operatorname{Tr} "
    r"H\,\operatorname{Tr}"
    r"\Sigma}{D}, \quad r = \frac{(\operatorname{Tr} H)^2}{\operatorname{Tr} H^2}, \quad "
)
PROOF = (
    "$\\alpha H \\preceq \\Sigma \\preceq \\beta H$ gives $\\operatorname{Tr}(H\\Sigma) \\ge "
    "\\alpha\\operatorname{Tr} H^2$ "
    "and $\\operatorname{Tr}\\Sigma \\le \\beta\\operatorname{Tr} H$. "
)
OF_PRINTED = (
    "$\\Sigma - \\alpha H = \\frac1n\\sum_i[(a_i - \\alpha)\\nabla f\\nabla f^{\\top} + (\\varepsilon_i^2 - "
    "\\alpha)s\\sum_j\\nabla f^j(\\nabla f^j)^{\\top}]$, and $\\varepsilon_i^2 \\le a_i$."
)
OF_EXACT = (
    "$E gg^{\\top} = E \\varepsilon_\\eta^2\\nabla f_\\eta\\nabla f_\\eta^{\\top}$, and $E\\nabla f_\\eta"
    "\\nabla f_\\eta^{\\top}$ averages to H at second-order stationary points of one hidden layer "
    "(theorem-1@minima)."
)

CLAIMS = (
    Claim(
        id="dropout-flatness/alignment@proportional",
        title="Noise proportional to the Hessian is aligned at least as well as isotropic noise",
        source=SOURCE + ", and section 8's closing remark",
        statement=r"\Sigma = \kappa H \succeq 0 \;\Rightarrow\; " + ISOTROPIC,
        hypotheses=(PROPORTIONAL,),
        strategy=st.fixed_dictionaries({"rows": ROWS, "kappa": st.integers(1, 3)}),
        explicit=({"rows": [[1]], "kappa": 1}, {"rows": [[1, 2], [0, 1]], "kappa": 2}),
        build=written,
        measure=at_least,
        grade="proved",
        controls=(
            Control("orthogonal ranges", params={"rows": [[1, 0]], "noise": [[0, 1]]}),
            Control(
                "D − 1 for D", kind="formula", measure=lambda p: at_least(p, lambda p: max(len(p.H) - 1, 1))
            ),
        ),
        equality=Equality(params={"rows": [[2, 0], [0, 2]], "kappa": 3}, reaches=1.0),
        budget=Budget(quick=100, full=1000),
        notes="$\\operatorname{Tr}(H\\Sigma) - \\operatorname{Tr} H\\operatorname{Tr}\\Sigma/D = "
        "\\kappa\\left\\|H - "
        "\\frac{\\operatorname{Tr} H}{D}I\\right\\|_F^2$: equality for isotropic H only. The factor is $D/r$, "
        "$r = "
        "(\\operatorname{Tr} H)^2/\\operatorname{Tr} H^2$ the effective rank: “much larger” says that H has "
        "few large "
        "eigenvalues. Without proportionality diag(1, 0) and diag(0, 1) have $\\operatorname{Tr}(H\\Sigma) = "
        "0$.",
    ),
    Claim(
        id="dropout-flatness/alignment@ordered",
        title="How well noise between two multiples of the Hessian is aligned",
        source=SOURCE + " with proposition 1, derived here",
        statement=r"0 \le \alpha, \; 0 < \beta, \; \alpha H \preceq \Sigma \preceq \beta H, \; H \succeq 0 "
        r"\;\Rightarrow\; " + BOUND.removesuffix(r", \quad "),
        hypotheses=(ORDERED,),
        strategy=st.sampled_from(("printed", "one sample")).flatmap(
            lambda which: minima(n=(1, 4), activation=st.just("linear"), which=st.just(which))
        ),
        explicit=(
            UNDROPPED,
            EQUAL,
            {**LINEAR, "which": "one sample"},
            {**LINEAR, "which": "printed", "layer": 0},
        ),
        build=stated,
        measure=sandwich,
        grade="proved",
        controls=(
            Control("α twice as large as it is", params={**UNDROPPED, "stated": 2}),
            Control(
                "β/α for α/β", kind="formula", measure=lambda p: sandwich(p, lambda p: (p.beta, p.alpha))
            ),
            Control("effective rank 1", kind="formula", measure=no_rank),
        ),
        equality=Equality(params=UNDROPPED, reaches=1.0),
        budget=BUDGET,
        notes="On the printed matrices, "
        + f"${PRINTED_CONSTANTS}$; on one sample's exact ones ${EXACT_CONSTANTS}$. "
        "The order itself is checked, exactly. Blocks of ordered matrices are ordered: it holds for a layer "
        "too. "
        "Equality for Σ proportional to H, as without dropout for one sample.",
    ),
    Claim(
        id="dropout-flatness/alignment@printed",
        title="Alignment as a theorem on the printed matrices, at minima",
        source=SOURCE + ", with H and Σ of theorems 1 and 2",
        statement=AT_A_MINIMUM + r", \quad H, \Sigma \text{ as printed}",
        hypotheses=MINIMUM,
        strategy=LABELLED,
        explicit=(one_sided(1), LEAKY),
        build=either,
        measure=of("printed"),
        grade="proved",
        corrected=Correction(
            tex=BOUND + PRINTED_CONSTANTS, measure=of("printed", sandwich), proof=PROOF + OF_PRINTED
        ),
        budget=BUDGET,
        notes="Leaky ReLU 1-1-1 with all biases, four samples, p = ½, all errors exact: the ratio is 0.683. "
        "The measure is not "
        "invariant under rescaling either (see dropout-flatness/invariance@ratio), so the parametrisation "
        "belongs to the claim.",
    ),
    Claim(
        id="dropout-flatness/alignment@exact",
        title="Alignment as a theorem on the exact Hessian and the exact noise of one sample, at minima",
        source=SOURCE + ", with the exact matrices",
        statement=AT_A_MINIMUM,
        hypotheses=MINIMUM,
        strategy=LABELLED,
        explicit=(one_sided(1), one_sided(2), LINEAR),
        build=either,
        measure=of("one sample"),
        grade="proved",
        corrected=Correction(
            tex=BOUND + EXACT_CONSTANTS, measure=of("one sample", sandwich), proof=PROOF + OF_EXACT
        ),
        curve=ratios,
        budget=BUDGET,
        notes="At a global minimum with errors of equal size: a ReLU unit u = w = 1 that sees x = X alone of "
        "(X, −1), y = (2X, "
        "−X), p = ½. There $\\varepsilon_\\eta\\nabla f_\\eta$ vanishes on the first sample but for the output "
        "bias, Σ is a "
        "multiple of $e_ce_c^{\\top}$, and the ratio is $2/(X^2+1)$, without a lower bound; the printed Σ has "
        "3.52 at X = "
        "2. So “much larger” is no theorem, whatever factor it means.",
    ),
    Claim(
        id="dropout-flatness/alignment@full-batch",
        title="Alignment as a theorem on the exact noise of the full batch's gradient, at minima",
        source=SOURCE + ": what its experiments sample, with one mask for each sample or one for all",
        statement=AT_A_MINIMUM,
        hypotheses=MINIMUM,
        strategy=LABELLED,
        explicit=(one_sided(1), one_sided(2)),
        build=either,
        measure=both_draws(at_least),
        grade="proved",
        corrected=Correction(
            tex=r"0 \le \operatorname{Tr}(H\Sigma) \le \beta\operatorname{Tr} H^2, \quad \beta = \max_{i,\eta}"
            r"(f_\eta(x_i)-y_i)^2 \text{, over } n \text{ for own masks}",
            measure=both_draws(between),
            proof="$\\Sigma_{\\text{shared}} \\preceq n\\Sigma_{\\text{own}} \\preceq \\Sigma_{\\text{one}} "
            "\\preceq \\beta H$ "
            "(convexity of the square); nothing bounds it from below: Σ = 0 with H ≠ 0 occurs.",
        ),
        budget=BUDGET,
        notes="The same networks: all three noise matrices are multiples of $e_ce_c^{\\top}$, so the ratio is "
        "again $2/(X^2+1)$.",
    ),
    Claim(
        id="dropout-flatness/alignment@one-layer",
        title="Alignment as a theorem on one layer's blocks, exact, at minima",
        source=SOURCE + ": the layer that figure 4 measures, weights and biases",
        statement=r"\nabla E_\eta R = 0, \; H \succeq 0: \quad \operatorname{Tr}(H_1\Sigma_1) \ge "
        r"\frac{\operatorname{Tr} "
        r"H_1\operatorname{Tr}\Sigma_1}{D_1}, \quad \text{layer 1}",
        hypotheses=MINIMUM,
        strategy=LABELLED,
        explicit=(one_sided(1), BLOCK),
        build=either,
        measure=of("one sample", at_least, 0),
        grade="proved",
        corrected=Correction(
            tex=BOUND.replace("H", "H_1").replace(r"\Sigma", r"\Sigma_1").replace("D", "D_1")
            + EXACT_CONSTANTS,
            measure=of("one sample", sandwich, 0),
            proof=PROOF + "Blocks of ordered matrices are ordered. " + OF_EXACT,
        ),
        budget=BUDGET,
        notes="Leaky ReLU 1-1-1, x = (1, −1, 1), y = (−2, 2, 1), p = ½: the ratio is 2/33 on the block of the "
        "unit's weight and bias, "
        "which that of the printed matrices puts at 1.81. The document measures a layer of 2500 weights, or "
        "2550 with biases.",
    ),
)
