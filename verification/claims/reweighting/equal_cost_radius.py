"""What an update of the augmented Lagrangian by gradient descent leaves of its error, and when that is less than 1."""

from __future__ import annotations

from collections.abc import Callable

from verification.claims.reweighting._priced import EXPLICIT, OURS, STRATEGY, Priced, point, priced
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


def convergent(
    settles: Callable[[Priced], bool] = lambda p: p.settles,
) -> Callable[[Priced], Measurement]:
    """R against 1, on the side of it that ``settles`` says."""

    def measure(p: Priced) -> Measurement:
        radius, rounding = p.radius
        observed, bound = (radius, 1.0) if settles(p) else (1.0, radius)
        return Measurement(observed=observed, bound=bound, rounding=rounding, detail={"radius": radius})

    return measure


def slow(
    kappa: Callable[[float], float] = lambda k: k * k, power: float = 0.5
) -> Callable[[Priced], Measurement]:
    """((κ² − 1)/(κ² + 1))^{j/2} against the radius; mutants: κ for κ², another power."""

    def measure(p: Priced) -> Measurement:
        radius, rounding = p.radius
        k = kappa(p.kappa)
        return Measurement(
            observed=((k - 1) / (k + 1)) ** (p.j * power),
            bound=radius,
            rounding=rounding,
            detail={"per unit": radius ** (1 / (2 * p.j + 1))},
        )

    return measure


DIVERGES = point(q=1.0, j=3)
SETTLES = r"|\rho| < 1,\ \rho^j > -\tfrac{2-\theta}{2+\theta}"
CONVERGENT = Hypothesis(
    "convergent", SETTLES, lambda p: (p.settles, f"ρ = {p.shrunk:.4g}, R = {p.radius[0]:.4g}")
)

CLAIMS = (
    Claim(
        id="reweighting/equal-cost@converges",
        title="When the augmented Lagrangian by descent converges",
        source=OURS,
        statement=r"$$R < 1 \iff " + SETTLES + r"$$ $$\rho = 1 - \tau(q+\mu)\kappa^2,\quad \theta = "
        r"\frac{\mu}{q+\mu},\quad Q = qH^2,\ j \text{ inner steps of length } \tau$$",
        strategy=STRATEGY,
        explicit=(*EXPLICIT, DIVERGES, point(q=1.0, j=4), point(j=2, share=1.5), point(j=1, d=20, share=1.1)),
        build=priced,
        measure=convergent(),
        grade="exact",
        controls=(
            Control(
                "wherever the inner steps converge",
                kind="formula",
                measure=convergent(lambda p: abs(p.shrunk) < 1),
                params=DIVERGES,
            ),
            Control(
                "θ = 1 at every μ",
                kind="formula",
                measure=convergent(lambda p: p.shrunk**p.j > -1 / 3),
                params=point(q=8.0, j=1, share=0.8),
            ),
        ),
        budget=Budget(quick=40, full=400),
        notes="The eigenvalues of an eigenvector's $2 \\times 2$ block (@radius) lie in the unit circle iff "
        "$|\\det| < 1$ and $|\\text{trace}| < 1 + \\det$: the first is $|\\rho_h^j| < 1$, the second "
        "$\\rho_h^j(2+\\theta) > \\theta - 2$, hardest for the largest $h$. So an even $j$ converges with "
        "every step for which descent does, and every $j$ where $\\tau(q+\\mu)\\kappa^2 \\le 1$. The best "
        "step for descent, $\\frac{2}{(q+\\mu)(\\kappa^2+1)}$, is too long for $\\kappa = 4$, $q = \\mu$ "
        "and $j = 3$: $\\rho^3 = -0.69 < -0.6$, $R = 1.13$. The multiplier's step is $\\mu$ throughout; the exact "
        "inner minimiser would allow it (auglag-rate@half-mu).",
    ),
    Claim(
        id="reweighting/equal-cost@radius",
        title="How fast the augmented Lagrangian by descent can be",
        source=OURS,
        statement=r"$$R \ge \left(\frac{\kappa^2-1}{\kappa^2+1}\right)^{j/2}, \quad Q = qH^2,\ j \ge 1 \text{ "
        r"inner steps of any length},\ \mu > 0$$",
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=priced,
        measure=slow(),
        grade="exact",
        controls=(
            Control("the power j/4", kind="formula", measure=slow(power=0.25)),
            Control("κ⁴ for κ²", kind="formula", measure=slow(lambda k: k**4)),
        ),
        equality=Equality(params=point(), reaches=0.999),
        budget=Budget(quick=15, full=400),
        notes="In an eigenvector of $H$ to $h$ the map is $y^+ = \\rho^jy + "
        "(1-\\rho^j)\\frac{\\delta}{q+\\mu}$, $\\delta^+ = \\delta - \\mu y^+$ with $y = h e$, $\\rho = "
        "1 - \\tau(q+\\mu)h^2$: its determinant is $\\rho^j$, and some $|\\rho| \\ge "
        "\\frac{\\kappa^2-1}{\\kappa^2+1}$ whatever the step $\\tau$ is. Equality: $q = 0$, the best "
        "step and even $j$, where the eigenvalues are complex. The condition number is squared, as for "
        "the normal equations.",
    ),
)
