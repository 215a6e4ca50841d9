"""Remark 3's first sentence, on the rate of convergence; the family and the proofs are in ``_upper_rate``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.dropout_bilevel._upper_rate import (
    EPSILON,
    PATH,
    STEP,
    WITHIN,
    Scalar,
    scalar,
)
from verification.claims.dropout_bilevel._upper_rate_exact import (
    as_printed,
    by_problem,
    factor,
    growth,
    slower,
)
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, rate, reals


def by_curvature(c: Callable[[Scalar], float] = lambda s: s.curvature) -> Callable[[Scalar], Measurement]:
    """|N αc/ln(1/ε) − 1|."""

    def measure(s: Scalar) -> Measurement:
        ratio = s.iterations * STEP * c(s) / -math.log(EPSILON)
        # an eigenvalue 1 − x is rounded by some eps; relative to x, and as the matrix is not normal, d·eps/x · 10
        rounding = 30 * np.finfo(float).eps / (STEP * s.curvature)
        detail = {"iterations": s.iterations, "c": c(s)}
        return Measurement(
            observed=abs(ratio - 1), bound=s.correction, rounding=float(rounding), detail=detail
        )

    return measure


def fitted(s: Scalar, of: Callable[[Scalar], float]) -> float:
    """Least squares of the logarithm against that of the keep probability along the path."""
    values = [math.log(of(s.along(t))) for t in PATH]
    return float(np.polyfit(np.log(PATH), values, 1)[0])


def exponent(predicted: Callable[[Scalar], float]) -> Callable[[Scalar], Measurement]:
    """The fitted exponent of N in the keep probability along the path."""

    def measure(s: Scalar) -> Measurement:
        return rate(fitted(s, lambda s: s.iterations), predicted(s), WITHIN, window=[PATH[-1], PATH[0]])

    return measure


def powers(s: Scalar) -> int:
    """How many of p_λ and p_w the path moves."""
    return 2 if s.path == "both" else 1


def of_square(s: Scalar) -> float:
    """Exponent of (p_λ²p_w)⁻¹ along the path."""
    return -{"both": 3, "lam": 2, "w": 1}[s.path]


def curve(s: Scalar) -> dict[str, Any]:
    """N and ln(1/ε)/(αc) along the path."""
    places = [s.along(t) for t in np.geomspace(PATH[-1], 1, 20)]
    return {
        "x": [place.p_lam if s.path == "lam" else place.p_w for place in places],
        "predicted": [-math.log(EPSILON) / (STEP * place.curvature) for place in places],
        "measured": [place.iterations for place in places],
        "xlabel": "keep probability",
        "ylabel": "iterations",
        "logx": True,
        "logy": True,
    }


def _convex(s: Scalar) -> tuple[bool, float]:
    least = min(s.curvature, Scalar(s.A, s.C).curvature)
    return least > 0, least


def _fast(s: Scalar) -> tuple[bool, list[float]]:
    places = s, Scalar(s.A, s.C, kappa=s.kappa)
    lag = max(place.lag for place in places)
    if lag > 1 / 8 or not _convex(s)[0]:
        return False, [lag]
    off = max(place.correction for place in places)
    return off <= 1 / 2, [lag, off]


def _through_w(s: Scalar) -> tuple[bool, float]:
    return s.C == 0, s.C


CONVEX = Hypothesis("convex upper level", r"\bar F'' > 0 \text{ with dropout and without}", _convex)
FAST = Hypothesis(
    "fast lower level", r"\alpha\bar F''/(\gamma\alpha\,p_w) \le \tfrac{1}{8},\ R \le \tfrac{1}{4}", _fast
)
THROUGH_W = Hypothesis("λ enters through w", "C = 0", _through_w)
KEEP = st.integers(1, 8).map(lambda k: k / 8)
FAMILIES = {"A": reals(-1, 2), "C": reals(0, 2)}
PLAIN = {"A": 1.0, "C": 0.0}  # F = (w − 1)²/2
FASTER = {"A": -0.5, "C": 1.0}  # F = λ²/2 − w²/4 + …
SOURCE = "dropout-bilevel, remark 3"
FAMILY = r"G = \tfrac{1}{2}w^2 - \lambda w,\ F = \tfrac{A}{2}(w-1)^2 + \tfrac{C}{2}\lambda^2"
CURVATURE = Correction(
    tex=r"$$\Big|N(\epsilon)\,\frac{\alpha\bar F''}{\ln(1/\epsilon)} - 1\Big| \le x + \frac{2p_\lambda^2p_w|A|}{\bar "
    r"F''}\max\{2x,\ (1-y)^{-2} - 1\}$$ with $\bar F'' = p_\lambda C + p_\lambda^2p_wA$, $x = 2\alpha\bar F''$, $y = "
    r"x/(\gamma\alpha\,p_w)$",
    measure=by_curvature(),
    proof="A mode $1-x$ of the mean recursion has $x = \\alpha\\{p_\\lambda C + p_\\lambda^2p_wA[(1-x)/(1-y)]^2\\}$. "
    "Dropout changes the problem, and with it the curvature of $\\bar F$; that may be larger than without.",
)

FACTOR = Correction(
    tex=r"$$\Big|\frac{x}{\alpha\bar F''} - 1\Big| \le \frac{p_\lambda^2p_w|A|}{\bar F''}\max\{2X,\ (1-Y)^{-2} - "
    r"1\}$$ with $\bar F'' = p_\lambda C + p_\lambda^2p_wA$, $X = 2\alpha\bar F''$, $Y = X/(\gamma\alpha\,p_w)$; for "
    "N: @curvature",
    measure=factor(),
    proof=CURVATURE.proof,
)

CLAIMS = (
    Claim(
        id="dropout-bilevel/remark-3-rate",
        title="As said: the less is kept, the slower",
        source=SOURCE,
        statement=rf"$${FAMILY}:$$ "
        r"$$N(\epsilon; p_\lambda, p_w) \ge N(\epsilon; 1, 1)$$ the iterations of Algorithm 1's mean to relative "
        r"error $\epsilon$, constant steps; decided by the slowest factor $1-x$, $N = \ln\epsilon/\ln(1-x)$",
        printed=r"\text{the convergence rate is slower when } p_\lambda p_w \text{ is small}",
        hypotheses=(CONVEX, FAST),
        strategy=st.fixed_dictionaries({**FAMILIES, "p_lam": KEEP, "p_w": KEEP}),
        explicit=({**PLAIN, "p_lam": 0.5, "p_w": 0.5}, {**FASTER, "p_w": 0.5}),
        build=scalar,
        measure=slower,
        grade="proved",
        corrected=FACTOR,
        controls=(
            Control("correction with p_λ p_w for p_λ² p_w", kind="formula", measure=factor(square=False)),
        ),
        curve=curve,
        budget=Budget(quick=150, full=2000),
        notes="True where the upper level is convex in w, as in $F = \\frac{1}{2}(w-1)^2$. False where the part "
        "through w is concave: $F = \\frac{1}{2}\\lambda^2 - \\frac{1}{4}(w-1)^2$ with $p_\\lambda = 1$ has $\\bar "
        "F'' = 1 - \\frac{1}{2}p_w$, and dropout of w makes the method up to twice as fast. x is enclosed by the "
        "signs of the characteristic "
        "polynomial of the mean recursion at rational points and Jury's conditions, all in rational arithmetic.",
    ),
    Claim(
        id="dropout-bilevel/remark-3-rate@exponent",
        title="As printed: the steps needed grow like 1/(p_λ p_w)",
        source=SOURCE + " and theorem 2",
        statement=rf"$${FAMILY}:$$ "
        r"$$\alpha N(\epsilon) \sim (p_\lambda p_w)^{-1}$$ as keep probabilities fall from $2^{-3}$ to $2^{-7}$: the "
        r"factor by which $N$ grows within 2.8 %, the exponent within 0.01",
        printed=r"\frac{1}{\sqrt T}\,\frac{1}{p_wp_\lambda}\,I_0",
        hypotheses=(CONVEX, FAST),
        strategy=st.fixed_dictionaries({**FAMILIES, "path": st.sampled_from(["both", "lam", "w"])}),
        explicit=({**PLAIN, "path": "w"}, {**PLAIN, "path": "both"}, {"A": 0.0, "C": 1.0, "path": "w"}),
        build=scalar,
        measure=growth(as_printed),
        grade="proved",
        corrected=Correction(
            tex=CURVATURE.tex + r"; so $N$ grows by the factor by which $\bar F''$ falls",
            measure=growth(by_problem),
            proof=CURVATURE.proof,
        ),
        curve=curve,
        budget=Budget(quick=60, full=800),
        notes=r"With $\alpha_k = \delta/\sqrt{k+1}$ the printed $\sqrt T$ stands for $\sum_{k \le T}\alpha_k$, so "
        r"this is its first term in any schedule. $F = \frac{1}{2}(w-1)^2$, one p: $p^{-3} = (p_\lambda p_w)^{-3/2}$ "
        r"(and $T \sim p^{-6}$, not $p^{-4}$); $F = w + \frac{1}{2}\lambda^2$: $p_\lambda^{-1}$, whatever $p_w$.",
    ),
    Claim(
        id="dropout-bilevel/remark-3-rate@curvature",
        title="The iterations of the mean are set by the curvature of the dropout problem",
        source=SOURCE + "; corrected form derived here",
        statement=rf"$${FAMILY}:\quad \Big|N(\epsilon)\,\frac{{\alpha\bar F''}}{{\ln(1/\epsilon)}} - 1\Big| \le "
        r"x + \frac{2p_\lambda^2p_w|A|}{\bar F''}\max\{2x,\ (1-y)^{-2} - 1\}$$ $$\bar F'' = p_\lambda C + "
        r"p_\lambda^2p_wA,\qquad x = 2\alpha\bar F'',\qquad y = \frac{x}{\gamma\alpha\,p_w}$$",
        hypotheses=(CONVEX, FAST),
        strategy=st.fixed_dictionaries({**FAMILIES, "p_lam": KEEP, "p_w": KEEP}),
        explicit=({**PLAIN, "p_lam": 0.5, "p_w": 0.5}, {**FASTER, "p_w": 0.5}),
        build=scalar,
        measure=by_curvature(),
        grade="exact",
        controls=(
            Control("slow lower level", params={**PLAIN, "kappa": 1.1e-4}),
            Control(
                "p_λ p_w for p_λ² p_w",
                kind="formula",
                measure=by_curvature(lambda s: s.p_lam * s.C + s.p_lam * s.p_w * s.A),
            ),
            Control(
                "p_w for p_w² forgotten",
                kind="formula",
                measure=by_curvature(lambda s: s.p_lam * s.C + s.p_lam**2 * s.A),
            ),
        ),
        curve=curve,
        budget=Budget(quick=150, full=2000),
        notes="The mean recursion is exact: fresh masks for the cross derivative, where $Ed = Eh$. Dropout "
        "multiplies the curvature of F in w by $p_\\lambda^2p_w$, not by $p_\\lambda p_w$, and that in λ by "
        "$p_\\lambda$.",
    ),
    Claim(
        id="dropout-bilevel/remark-3-rate@sharp",
        title="Exponents of the iterations where F sees w alone",
        source=SOURCE + "; corrected form derived here",
        statement=r"$$F = \tfrac{A}{2}(w-1)^2:\quad N(\epsilon) \sim p_w^{-1},\ p_\lambda^{-2},\ p^{-3}$$ as $p_w$, "
        r"$p_\lambda$, or both, fall: "
        "fitted exponents within 0.01",
        hypotheses=(CONVEX, FAST, THROUGH_W),
        strategy=st.fixed_dictionaries(
            {"A": reals(0.1, 2), "C": st.just(0.0), "path": st.sampled_from(["both", "lam", "w"])}
        ),
        explicit=tuple({**PLAIN, "path": path} for path in ("w", "lam", "both")),
        build=scalar,
        measure=exponent(of_square),
        grade="exact",
        controls=(
            Control("λ in F", params={**PLAIN, "C": 1.0, "path": "both"}),
            Control("as printed", kind="formula", measure=exponent(lambda s: -powers(s))),
            Control("one power more", kind="formula", measure=exponent(lambda s: of_square(s) - 1)),
        ),
        curve=curve,
        budget=Budget(quick=40, full=500),
        notes="Fit window fixed beforehand: keep probabilities $2^{-3}$ to $2^{-7}$; the lag of the lower level "
        "changes the exponents by less than 0.01.",
    ),
)
