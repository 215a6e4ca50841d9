r"""The assumption ∇(ε_i²) = 0 for every sample, on which the proof of theorem 2 drops its cross term.

∇(ε²) = 2ε∇f, and the output bias has ∂f/∂c = 1: so |ε_i| <= ½‖∇(ε_i²)‖, and the assumption says that all errors
vanish. Then a_i = sF_i, b_i = 0, and the true matrix is another (theorem-2@interpolation has it).

With assumption 1: f^j = w_ja_j is linear in w_j, so w_j ∂f/∂w_j = f^j, w_j ∂f^k/∂w_j = f^j [j = k], and

    w_j ∂E_ηR/∂w_j = (1/n) Σ_i [ε_i f^j_i + s_j (f^j_i)²].

At a stationary point Σ_i ε_i f^j_i = −s_j Σ_i (f^j_i)²; if all ε_i = 0 too, all f^j_i = 0: both matrices are 0 and
nothing is said; for p_j = 1 the errors alone vanish, and f^j is free. By Cauchy–Schwarz s_j² Σ(f^j)² <= Σ ε².

With proposition 1: y ∈ {0, 1} and f ∈ [δ, 1−δ] give |ε_i| >= δ, so ‖∇(ε_i²)‖ >= 2δ: no θ satisfies both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._minima import either, minima, pair
from verification.claims.dropout_flatness._noise import AWAY, STATIONARY, Noise, build, keeps, points
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_2 import PRINTED
from verification.claims.dropout_flatness.theorem_2_limits import at_interpolation, interpolating
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity

SOURCE = "dropout-flatness, appendix B.2, assumption ∇(ε_i²) = 0"
ANY = points()
TINY = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[2], p="2/3")
UNDROPPED = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[1], p="1")
INTERPOLATED = at((1, 1, 1), "linear", theta=[0, 0, 1, 1], X=[[1]], y=[1], p="1/2")  # ε = 0, and f¹ = 0


def slopes(of: Noise) -> Array:
    """∇(ε_i²) over the trained parameters, (n, P): without the output bias where ``bias`` is false."""
    t = of.at.terms
    found = 2 * t.errors[:, None] * t.whole
    return found if of.at.params.get("bias", True) else found[:, :-1]


def forces_zero(factor: int = 4) -> Callable[[Noise], Measurement]:
    """4ε_i² <= ‖∇(ε_i²)‖², the worst sample."""

    def measure(of: Noise) -> Measurement:
        squares = (slopes(of) ** 2).sum(axis=1)
        pairs = [
            Measurement(observed=factor * e**2, bound=b) for e, b in zip(of.at.errors, squares, strict=True)
        ]
        return max(pairs, key=lambda found: found.used)

    return measure


def printed_second(of: Noise) -> Measurement:
    """(1/n) Σ E ggᵀ is the printed matrix."""
    return identity(of.second, of.printed)


def last_layer(of: Noise, *, weight: int = 1) -> Measurement:
    """w_j ∂E_ηR/∂w_j, mask by mask, against (1/n) Σ [ε f^j + s_j (f^j)²]."""
    m = of.at.m
    slope = of.means.sum(axis=0)[-m - 1 : -1] / of.at.n
    expected = [(x.e * x.f + weight * x.s * x.f * x.f) for x in of.samples]
    return identity(of.at.w * slope, np.stack(expected).sum(axis=0) / of.at.n)


def balance(of: Noise, *, factor: int = 1) -> Measurement:
    """Σ ε f^j = −s Σ (f^j)² at stationary points, for every unit."""
    left = np.stack([x.e * x.f for x in of.samples]).sum(axis=0)
    right = np.stack([factor * x.s * x.f * x.f for x in of.samples]).sum(axis=0)
    return identity(left, -right)


def silenced(of: Noise, *, factor: int = 1) -> Measurement:
    """s_j² Σ(f^j)² <= Σ ε² for every unit; where all errors vanish, Σ(f^j)² <= 0."""
    total, squares = (of.at.errors**2).sum(), (of.at.terms.parts**2).sum(axis=1)
    weights = (factor * of.at.spread) ** 2 if total else 1 + 0 * of.at.spread
    return Measurement(observed=max(weights * squares), bound=total)


def stationary(of: Noise) -> Measurement:
    """The balance, and what follows from it."""
    return max(balance(of), silenced(of), key=lambda found: found.used)


DROPPED = Hypothesis(
    "every unit may be dropped", r"p_j < 1", lambda of: (max(of.at.keep) < 1, float(max(of.at.keep)))
)


def in_unit_interval(of: Noise) -> tuple[bool, float]:
    """All y are 0 or 1 and 0 < f < 1; measured: δ = min(f, 1−f)."""
    f = of.at.run.output[0]
    delta = min(min(f), min(1 - f))
    return bool(delta > 0 and all(y in (0, 1) for y in of.at.y)), float(delta)


LABELS = Hypothesis(
    "labels and outputs", r"y_i \in \{0, 1\},\; f(x_i) \in [\delta, 1-\delta],\; \delta > 0", in_unit_interval
)


def excluded(factor: int = 2) -> Callable[[Noise], Measurement]:
    """(2δ)² <= ‖∇(ε_i²)‖², δ the largest that the outputs allow."""

    def measure(of: Noise) -> Measurement:
        f = of.at.run.output[0]
        delta = min(min(f), min(1 - f))
        return Measurement(observed=factor**2 * delta**2, bound=min((slopes(of) ** 2).sum(axis=1)))

    return measure


CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-2-hypothesis@forces-zero",
        title="If the gradient of every squared error vanishes, so does every error",
        source=SOURCE,
        statement=r"|\varepsilon_i| \le \tfrac12\|\nabla_\theta(\varepsilon_i^2)\|, \quad \text{so } "
        r"\nabla(\varepsilon_i^2) = 0 "
        r"\;\Leftrightarrow\; \varepsilon_i = 0",
        hypotheses=(
            Hypothesis(
                "output bias",
                r"\theta \text{ contains the output bias}",
                lambda of: (of.at.params.get("bias", True), of.at.params.get("bias", True)),
            ),
        ),
        strategy=points(
            activation=st.sampled_from(["linear", "leaky_relu"])
        ),  # dead units are the equality case
        explicit=(TINY,),
        build=build,
        measure=forces_zero(),
        grade="proved",
        controls=(
            Control(
                "no output bias, a dead unit",
                params=at((1, 1, 1), "relu", theta=[-1, 0, 1, 0], X=[[1]], y=[1], bias=False),
            ),
            Control("16 for 4", kind="formula", measure=forces_zero(16)),
        ),
        equality=Equality(
            params=at((1, 1, 1), "relu", theta=[-1, 0, 1, 0], X=[[1]], y=[1]),
            reaches=1.0,
        ),
        budget=Budget(quick=80, full=300),
        notes="Compared as squares. Equality: a dead unit, so that $\\nabla f = e_c$. Without an output bias a "
        "sample may also have "
        "$\\nabla f = 0$ and add nothing to either matrix.",
    ),
    Claim(
        id="dropout-flatness/theorem-2-hypothesis@what-remains",
        title="Under its own assumption, theorem 2's matrix is the second moment of dropout gradients",
        source=SOURCE,
        statement=r"$$\varepsilon_i = 0 \text{ for all } i \;\Rightarrow\; \frac1n\sum_iE_\eta\,gg^\top = "
        r"\frac1n\sum_i s\sum_j(f^j)^2\; "
        r"\nabla f\nabla f^\top$$, which is what remains of the printed matrix",
        printed=PRINTED,
        strategy=ANY,
        explicit=(TINY,),
        build=interpolating,
        measure=printed_second,
        grade="proved",
        corrected=Correction(
            tex=r"\frac1n\sum_iE_\eta\,gg^\top = \frac1n\sum_i\left[\sum_j s f_j^2(g_0 + (s-1)g_j)(g_0 + "
            r"(s-1)g_j)^\top + "
            r"\sum_{j<l}s^2N_{jl}N_{jl}^\top + qq^\top\right], \quad q = s\sum_jf_jg_j",
            measure=at_interpolation,
            proof="theorem-2@exact at ε = 0: $c_j = f_jg_0 + (s-1)f_jg_j$, mean q.",
        ),
        budget=Budget(quick=25, full=250),
        notes="Counterexamples satisfy $\\nabla(\\varepsilon_i^2) = 0$ but not assumption 1: $\\nabla E_\\eta R \\ne "
        "0$; both together leave 0 = 0 (@stationary), and theorem-2@minima satisfies assumption 1. "
        "$a_i = s\\sum_j(f^j)^2$ and $b_i = 0$ remain. One linear unit, one sample: "
        "$f^2[s(g_0+(s-1)g_1)(g_0+(s-1)g_1)^\\top + "
        "s^2g_1g_1^\\top]$ against $sf^2g_0g_0^\\top$.",
    ),
    Claim(
        id="dropout-flatness/theorem-2-hypothesis@last-layer",
        title="What the last layer's gradient says of errors and unit outputs",
        source=SOURCE + ", derived here",
        statement=r"w_j\,\partial_{w_j}E_\eta R = \frac1n\sum_i\left[\varepsilon_i f^j_i + s_j(f^j_i)^2\right]",
        strategy=ANY,
        explicit=(TINY,),
        build=build,
        measure=last_layer,
        grade="proved",
        controls=(
            Control("s_j left out", kind="formula", measure=lambda of: last_layer(of, weight=0)),
            Control("2s_j for s_j", kind="formula", measure=lambda of: last_layer(of, weight=2)),
        ),
        budget=Budget(quick=60, full=300),
        notes="Any θ, any depth, any keep probabilities. If all errors vanish and $\\|\\nabla E_\\eta R\\| "
        "\\le \\tau$ then "
        "$\\frac1n\\sum_i\\sum_js_j(f^j_i)^2 \\le \\|w\\|\\tau$.",
    ),
    Claim(
        id="dropout-flatness/theorem-2-hypothesis@stationary",
        title="At stationary points errors vanish only with the units' outputs: with assumption 1 theorem 2 "
        "says 0 = 0",
        source=SOURCE + ", with assumption 1; derived here",
        statement=r"\nabla E_\eta R = 0, \; p_j < 1 \;\Rightarrow\; \sum_i\varepsilon_if^j_i = "
        r"-s_j\sum_i(f^j_i)^2, \quad s_j^2\sum_i(f^j_i)^2 \le \sum_i\varepsilon_i^2, \quad \text{so } "
        r"\varepsilon = 0 \Rightarrow f^j_i = 0 \text{ and } \Sigma = 0",
        hypotheses=(STATIONARY, AWAY, DROPPED),
        strategy=minima(keep=keeps(7)),
        explicit=(pair("1/2"), INTERPOLATED),
        build=either,
        measure=stationary,
        grade="proved",
        controls=(
            Control("a point that is not stationary", params=TINY),
            Control("p = 1: interpolation with a unit that speaks", params=UNDROPPED),
            Control("2s_j for s_j", kind="formula", measure=lambda of: balance(of, factor=2)),
            Control("2s_j in the bound", kind="formula", measure=lambda of: silenced(of, factor=2)),
        ),
        equality=Equality(params=pair("1/2"), reaches=1.0),
        budget=Budget(quick=30, full=300),
        notes="By @last-layer, then Cauchy–Schwarz: near interpolation every unit is silent, or p is near 1. For "
        "$p_j = 1$ nothing follows: θ = (1, 0, 1, 0), x = y = 1 has ε = 0 and f¹ = 1. Equality: one linear unit, "
        "x = ±1, labels 1 and 0.",
    ),
    Claim(
        id="dropout-flatness/theorem-2-hypothesis@proposition-1",
        title="The assumption excludes every θ of proposition 1",
        source=SOURCE + ", with Proposition 1; derived here",
        statement=r"y_i \in \{0,1\},\; f(x_i) \in [\delta, 1-\delta] \;\Rightarrow\; "
        r"\|\nabla(\varepsilon_i^2)\| \ge 2\delta > 0",
        hypotheses=(LABELS,),
        strategy=minima(),
        explicit=(pair("1/2"),),
        build=either,
        measure=excluded(),
        grade="proved",
        controls=(
            Control(
                "an output beside its label 1/4",
                params=at((1, 1, 1), "linear", theta=[1, 0, 0, "1/4"], X=[[1]], y=["1/4"]),
            ),
            Control("4δ for 2δ", kind="formula", measure=excluded(4)),
        ),
        equality=Equality(params=at((1, 1, 1), "relu", theta=[-1, 0, 1, "1/4"], X=[[1]], y=[0]), reaches=1.0),
        budget=Budget(quick=30, full=300),
        notes="So proposition 1 has no instance to which the proof of theorem 2 applies. Compared as squares. "
        "Equality: a dead unit, "
        "f = c = δ.",
    ),
)
