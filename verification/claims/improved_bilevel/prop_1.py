r"""Proposition 1: do the sets S_λ = Argmin G(λ, ·) move continuously? Under each reading of what is lost from (iv).

δ = sup |G(λ, ·) − G(μ, ·)| over S_λ ∪ S_μ. For w ∈ S_μ and u ∈ S_λ: G(λ, w) <= G(μ, w) + δ = min G(μ, ·) + δ <=
G(μ, u) + δ <= min G(λ, ·) + 2δ. That is the outer half, under convexity alone or less; with growth σ at λ it is
dist(w, S_λ) <= 2√(δ/σ), with one σ for both it is the Hausdorff distance.

With G(λ, ·) L-smooth and growth σ: dist(w, S) <= (2/σ − 1/L)‖∇G(w)‖. On the ray from the projection p through w, D =
‖w − p‖, φ = G, g = φ'(D): φ(D) − min <= gD − g²/(2L) and φ(D + g/L) <= φ(D) + 3g²/(2L), so growth at D + g/L gives
(σ/2)(D + g/L)² <= g(D + g/L).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from hypothesis import strategies as st

from verification.claims.improved_bilevel._intervals import CONVEX, GROWTH, Pair, cut, pair, pairs, stated
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement

SOURCE = "improved-bilevel, Proposition 1"

# -- the readings -------------------------------------------------------------------------------------------------


def inner_half(case: Pair) -> Measurement:
    """The excess of S_λ over lim S_{λ_n}, λ_n → λ from μ's side: 0 if every point of S_λ is a limit."""
    low, high = case.approached.argmin
    return Measurement(observed=max(abs(w - cut(w, low, high)) for w in case.first.argmin), bound=0)


def outer_half(factor: int = 2) -> Callable[[Pair], Measurement]:
    """G(λ, w) − min G(λ, ·) for w ∈ S_μ against 2δ."""

    def measure(case: Pair) -> Measurement:
        gap = max(case.first(w) for w in case.second.argmin) - case.first.least
        return Measurement(observed=gap, bound=factor * case.delta)

    return measure


def swapped(case: Pair) -> Measurement:
    """The gap of S_μ in G(λ, ·) against the gap of S_λ in G(μ, ·)."""
    gaps = [
        max(of(w) for w in other.argmin) - of.least
        for of, other in ((case.first, case.second), (case.second, case.first))
    ]
    return Measurement(observed=gaps[0], bound=gaps[1])


def hausdorff(factor: Fraction | int = 4) -> Callable[[Pair], Measurement]:
    """Haus² against 4δ/σ."""
    return lambda case: Measurement(observed=case.hausdorff**2, bound=factor * case.delta / stated(case))


# -- @c on the line, and what it forces in the plane ----------------------------------------------------------------


@dataclass(frozen=True)
class Moving:
    """G = (σ/2)dist(w, [p, p + r])² + k at two λ: curvature σ everywhere off its minimisers."""

    params: Mapping[str, Any]

    @cached_property
    def sets(self) -> tuple[tuple[Fraction, Fraction], tuple[Fraction, Fraction]]:
        first, second = (
            (Fraction(p), Fraction(p + r)) for p, r in (self.params["first"], self.params["second"])
        )
        return first, second

    @property
    def hausdorff(self) -> Fraction:
        (a, b), (c, d) = self.sets
        return max(abs(a - c), abs(b - d))

    @property
    def sigma(self) -> Fraction:
        return Fraction(self.params["sigma"])

    @property
    def delta(self) -> Fraction:
        """The difference is k and ±(σ/2)dist², largest or smallest at the ends of the sets or in both."""
        shift = Fraction(self.params["k"], 4)

        def dist(w: Fraction, of: tuple[Fraction, Fraction]) -> Fraction:
            return max(of[0] - w, w - of[1], Fraction(0))

        first, second = self.sets
        ends = [*first, *second]
        if max(first[0], second[0]) <= min(first[1], second[1]):
            ends.append(max(first[0], second[0]))
        values = [self.sigma * (dist(w, first) ** 2 - dist(w, second) ** 2) / 2 + shift for w in ends]
        return max(abs(v) for v in values)


def moved(factor: int = 4) -> Callable[[Moving], Measurement]:
    """Haus² against 4δ/σ."""
    return lambda case: Measurement(observed=case.hausdorff**2, bound=factor * case.delta / case.sigma)


@dataclass(frozen=True)
class Disc:
    """G = φ(dist(w, B_r)) in the plane, φ(0) = 0, φ'(0) = ``kink``; φ'' = slopes[i] on the i-th piece, the last
    endless."""

    r: Fraction
    eps: Fraction
    pieces: tuple[tuple[Fraction, Fraction], ...]  # width and slope
    last: Fraction
    kink: Fraction

    @property
    def L(self) -> Fraction:
        """sup φ'', which φ'/ρ does not exceed where φ'(0) = 0."""
        return max(self.last, *(slope for _, slope in self.pieces))

    @property
    def smallest(self) -> Fraction:
        """inf of the smallest eigenvalue of ∇²G over the annulus of distances [ε, 2ε].

        Across the circles it is φ'', along them φ'/ρ, ρ = r + distance: on each piece monotone, so at the ends.
        """
        ends = (self.eps, 2 * self.eps)
        at, rise, found = Fraction(0), self.kink, []
        for width, slope in (*self.pieces, (ends[1], self.last)):
            inside = [min(max(e, at), at + width) for e in ends]
            if inside[0] < inside[1]:
                found += [slope, *((rise + slope * (e - at)) / (self.r + e) for e in inside)]
            at, rise = at + width, rise + slope * width
        return min(found)


def disc(p: Mapping[str, Any]) -> Disc:
    """The disc of the parameters: r in quarters, ε a fraction, widths in quarters of ε, slopes and kink in quarters."""
    eps, slopes = Fraction(*p["eps"]), [Fraction(x, 4) for x in p["slopes"]]
    pieces = tuple((eps * width / 4, slope) for width, slope in zip(p["widths"], slopes[:-1], strict=True))
    return Disc(Fraction(p["r"], 4), eps, pieces, slopes[-1], Fraction(p.get("kink", 0), 4))


def flattened(numerator: int = 4) -> Callable[[Disc], Measurement]:
    """The smallest curvature at distances in [ε, 2ε] against 4Lε/(2r + 3ε)."""
    return lambda of: Measurement(
        observed=of.smallest, bound=numerator * of.L * of.eps / (2 * of.r + 3 * of.eps)
    )


# -- the error bound ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Staircase:
    """G with G(0) = 0, G' odd, continuous, piecewise linear: slopes[i] in quarters on [knots[i], knots[i+1]], from "
    "0."""

    params: Mapping[str, Any]

    @cached_property
    def pieces(self) -> list[tuple[Fraction, Fraction, Fraction, Fraction]]:
        """(start, G, G', G'') at the start of each piece."""
        u, value, slope, found = Fraction(0), Fraction(0), Fraction(0), []
        for width, quarters in zip(self.params["widths"], self.params["slopes"], strict=True):
            curvature, step = Fraction(quarters, 4), Fraction(width, 3)
            found.append((u, value, slope, curvature))
            value, slope = value + slope * step + curvature * step**2 / 2, slope + curvature * step
            u += step
        found.append((u, value, slope, Fraction(self.params["last"], 4)))
        return found

    @property
    def L(self) -> Fraction:
        return max(piece[3] for piece in self.pieces)

    @cached_property
    def sigma(self) -> Fraction:
        """min 2G(u)/u²: on a piece G = A + Bu + ½Cu², a parabola 2Av² + 2Bv + C in v = 1/u."""
        found = [self.pieces[0][3], self.pieces[-1][3]]
        ends = [piece[0] for piece in self.pieces[1:]] + [None]
        for (u, value, slope, C), end in zip(self.pieces, ends, strict=True):
            A, B = value - slope * u + C * u * u / 2, slope - C * u
            candidates = [x for x in (u, end) if x]
            if A:
                v = -B / (2 * A)
                if v > 0 and u <= 1 / v and (end is None or 1 / v <= end):
                    candidates.append(1 / v)
            found += [2 * (A + B * x + C * x * x / 2) / x**2 for x in candidates]
        return min(found)

    @property
    def sizes(self) -> list[tuple[Fraction, Fraction]]:
        """(u, G'(u)) at the ends of the pieces, between which u/G' is monotone, and one far out."""
        far = [piece[0] for piece in self.pieces if piece[0]]
        u, _, slope, C = self.pieces[-1]
        return [(p[0], p[2]) for p in self.pieces if p[0] in far] + [(2 * u, slope + C * u)]


def error_bound(
    constant: Callable[[Staircase], Fraction] = lambda of: 2 / of.sigma - 1 / of.L,
) -> Callable[[Staircase], Measurement]:
    """dist against the constant times |G'|, at the point where it is largest."""

    def measure(of: Staircase) -> Measurement:
        c = constant(of)
        u, slope = max(of.sizes, key=lambda pair: pair[0] - c * pair[1])
        return Measurement(observed=u, bound=c * slope, detail={"sigma": float(of.sigma), "L": float(of.L)})

    return measure


def _grows(of: Staircase) -> tuple[bool, str]:
    return of.sigma > 0, str(of.sigma)


STAIRS = {"widths": [1, 2, 1], "slopes": [8, 0, 8], "last": 4}
DROP = pair()
ATTAINED = pair(h=[0, 2], e=[0, -2], k=[0, -1])
DISC = {"r": 4, "eps": [1, 8], "widths": [1, 1, 4], "slopes": [4, 4, 4, 4]}
INTERVAL = {"first": [0, 2], "second": [2, 0], "sigma": 1, "k": 4}
CURVED = Hypothesis("smooth", r"G \in C^{1,1}", lambda of: (of.kink == 0, f"φ'(0) = {of.kink}"))
COMMON: dict[str, Any] = {"grade": "proved", "budget": Budget(quick=60, full=4000)}

CLAIMS = (
    Claim(
        id="improved-bilevel/prop-1@a",
        title="Under convexity alone the sets of lower minimisers are continuous",
        source=SOURCE + ", (iv) read as convexity alone",
        statement=r"\lambda_n \to \lambda \ \Rightarrow\ \sup_{w\in S_\lambda}\operatorname{dist}(w, S_{\lambda_n}) "
        r"\to 0, "
        r"\quad S_\lambda = \operatorname{Argmin}G(\lambda,\cdot)",
        printed=r"\lambda_n \to \lambda \ \Rightarrow\ \operatorname{Argmin}G(\lambda_n,\cdot) \to "
        r"\operatorname{Argmin}G(\lambda,\cdot) \text{ in Kuratowski's sense}",
        hypotheses=(CONVEX,),
        strategy=pairs(),
        explicit=(DROP, pair(h=[0, 0], e=[0, 1])),
        build=Pair,
        measure=inner_half,
        corrected=Correction(
            tex=r"w \in S_\mu \Rightarrow G(\lambda, w) - \min G(\lambda,\cdot) \le 2\sup_{S_\lambda\cup S_\mu}"
            r"|G(\lambda,\cdot)-G(\mu,\cdot)|: \text{ the outer half}",
            measure=outer_half(),
            proof="$G(\\lambda,w) \\le G(\\mu,w)+\\delta \\le G(\\mu,u)+\\delta \\le \\min "
            "G(\\lambda,\\cdot)+2\\delta$ "
            "with $u \\in S_\\lambda$.",
        ),
        notes="Smallest: $G = \\frac12\\lambda w^2$ on $W = [-1,1]$, $S_0 = W$ and $S_\\lambda = \\{0\\}$: the inner "
        "half fails, every point of W but one is not reached. Its growth is σ = λ: a constant for each λ is not "
        "enough. With Λ, W compact $S_\\lambda$ is continuous exactly when one modulus ψ serves all: $G - \\min G \\ge "
        "\\psi(\\operatorname{dist}(\\cdot,S_\\lambda))$.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/prop-1@a-outer",
        title="The outer half: limits of lower minimisers are lower minimisers",
        source=SOURCE + ", the half that convexity alone gives",
        statement=r"w \in S_\mu \Rightarrow G(\lambda, w) - \min G(\lambda,\cdot) \le 2\delta, \quad \delta = "
        r"\sup_{S_\lambda\cup S_\mu}|G(\lambda,\cdot)-G(\mu,\cdot)|",
        strategy=pairs(),
        explicit=(DROP, pair(h=[0, 0], e=[0, 1], lam=[1, 1], mu=[0, 1])),
        build=Pair,
        measure=outer_half(),
        controls=(
            Control("δ for 2δ", kind="formula", measure=outer_half(1)),
            Control("G(μ, ·) for G(λ, ·)", kind="formula", measure=swapped),
        ),
        equality=Equality(params=pair(h=[0, 0], e=[0, 1], lam=[1, 1], mu=[0, 1]), reaches=0.999),
        notes="Where G is jointly continuous, δ → 0 and limits of minimisers are minimisers; neither compactness nor "
        "convexity is needed for that. Equality: $G(\\mu,\\cdot) = 0$, $G(\\lambda, w) = \\lambda w$.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/prop-1@b",
        title="With one growth constant the sets of lower minimisers are Hölder continuous",
        source=SOURCE + ", (iv) read as uniform quadratic growth",
        statement=r"\operatorname{Haus}(S_\lambda, S_\mu) \le 2\sqrt{\delta/\sigma}, \quad \delta = "
        r"\sup_{S_\lambda\cup S_\mu}|G(\lambda,\cdot)-G(\mu,\cdot)|",
        hypotheses=(GROWTH,),
        strategy=pairs(),
        explicit=(pair(h=[1, 1], e=[1, -1]), pair(h=[0, 1], e=[0, -1], k=[0, 0])),
        build=Pair,
        measure=hausdorff(),
        controls=(
            Control("σ stated twice too large", params={**ATTAINED, "stated": [4, 1]}),
            Control("2 for 4 below the root", kind="formula", measure=hausdorff(2)),
            Control("3 for 4 below the root", kind="formula", measure=hausdorff(3), params=ATTAINED),
        ),
        equality=Equality(params=ATTAINED, reaches=0.999),
        notes="Compared squared, over the rationals. $\\frac\\sigma2\\operatorname{dist}^2 \\le 2\\delta$ is the "
        "outer half "
        "used twice. Equality: $G(\\lambda,\\cdot) = 0$, $G(\\mu,\\cdot) = (w-1)^2-2$, $\\sigma = \\delta = 2$. In "
        "gradients "
        "the modulus is Lipschitz: @lipschitz.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/prop-1@lipschitz",
        title="With growth and a smooth G the distance to the minimisers is at most a multiple of the gradient",
        source=SOURCE + ", modulus derived here",
        statement=r"\operatorname{dist}(w, S_\mu) \le \left(\frac2\sigma-\frac1L\right)\|\nabla_wG(\mu, w)\|, "
        r"\text{ so } "
        r"\operatorname{Haus}(S_\lambda, S_\mu) \le \left(\frac2\sigma-\frac1L\right)\sup_{S_\lambda\cup S_\mu}"
        r"\|\nabla_wG(\lambda,\cdot)-\nabla_wG(\mu,\cdot)\|",
        hypotheses=(Hypothesis("quadratic growth", r"\sigma > 0", _grows),),
        strategy=st.fixed_dictionaries(
            {
                "widths": st.tuples(*[st.integers(1, 6)] * 3).map(list),
                "slopes": st.tuples(*[st.integers(0, 8)] * 3).map(list),
                "last": st.integers(1, 8),
            }
        ),
        explicit=(STAIRS, {"widths": [1, 1, 1], "slopes": [4, 4, 4], "last": 4}),
        build=Staircase,
        measure=error_bound(),
        controls=(
            Control("no growth", params={"widths": [1, 1, 1], "slopes": [-4, 4, 4], "last": 4}),
            Control("1/σ", kind="formula", measure=error_bound(lambda of: 1 / of.sigma), params=STAIRS),
            Control("2/σ − 2/L", kind="formula", measure=error_bound(lambda of: 2 / of.sigma - 2 / of.L)),
        ),
        equality=Equality(params=STAIRS, reaches=0.999),
        notes="For $w \\in S_\\lambda$ the gradient at λ is 0, so the second part is the first: $S_\\lambda$ is "
        "Lipschitz "
        "in λ where $\\nabla_wG$ is. On the line G' is a staircase: the proof lives on one ray. $1/\\sigma$ is "
        "right for "
        "quadratics, not here: $G' = 2u, \\frac23, \\frac23+2(u-1), u$ with knots $\\frac13, 1, \\frac43$ has σ = "
        "1, L = "
        "2 and $u = 1 = \\frac32G'(1)$.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/prop-1@c",
        title="With curvature off the minimisers they move continuously, with the modulus of quadratic growth",
        source=SOURCE + ", (iv) read as curvature off the minimisers",
        statement=r"\nabla^2_{ww}G \succeq \sigma I \text{ off } S_\lambda: \quad \operatorname{Haus}(S_\lambda, "
        r"S_\mu) "
        r"\le 2\sqrt{\delta/\sigma}",
        strategy=st.fixed_dictionaries(
            {
                "first": st.tuples(st.integers(-4, 4), st.integers(0, 4)).map(list),
                "second": st.tuples(st.integers(-4, 4), st.integers(0, 4)).map(list),
                "sigma": st.integers(1, 3),
                "k": st.integers(-9, 9),
            }
        ),
        explicit=(INTERVAL, {"first": [0, 1], "second": [3, 0], "sigma": 2, "k": 0}),
        build=Moving,
        measure=moved(),
        controls=(
            Control("2 for 4 below the root", kind="formula", measure=moved(2)),
            Control("3 for 4 below the root", kind="formula", measure=moved(3), params=INTERVAL),
        ),
        equality=Equality(params=INTERVAL, reaches=0.999),
        notes="$\\varphi'' \\ge \\sigma$ on the ray from the projection gives growth σ, so this is @b. Instances: $G = "
        "\\frac\\sigma2\\operatorname{dist}(w,[p,r])^2+k$ on the line. In more dimensions the reading is nearly empty: "
        "@c-forces.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/prop-1@c-forces",
        title="In the plane, curvature off a disc of minimisers is impossible for a smooth lower level: radial ones",
        source=SOURCE + ", (iv) read as curvature off the minimisers",
        statement=r"G \in C^{1,1},\ S \text{ a disc of radius } r: \quad \inf\left\{\lambda_{\min}(\nabla^2G(w)): "
        r"\epsilon \le \operatorname{dist}(w, S) \le 2\epsilon\right\} \le \frac{4L\epsilon}{2r+3\epsilon}",
        hypotheses=(CURVED,),
        strategy=st.fixed_dictionaries(
            {
                "r": st.integers(0, 40),
                "eps": st.integers(1, 64).map(lambda i: [1, i]),
                "widths": st.tuples(*[st.integers(1, 4)] * 3).map(list),
                "slopes": st.tuples(st.integers(1, 8), *[st.integers(0, 8)] * 3).map(list),
            }
        ),
        explicit=(DISC, {**DISC, "eps": [1, 64]}, {**DISC, "r": 0}, {**DISC, "slopes": [1, 8, 0, 3]}),
        build=disc,
        measure=flattened(),
        controls=(
            Control("½max(‖w‖² − r², 0), which has a kink", params={**DISC, "kink": 4}),
            Control("2 for 4", kind="formula", measure=flattened(2)),
        ),
        notes="So no σ > 0 serves: S is one point, or everything. Not so at every point: the bound is for the "
        "infimum over an annulus, on which a tangent segment to the circle of distance ε lies; single points, even "
        "at distance exactly ε, may be curved more. Executed for $G = \\varphi(\\operatorname{dist}(w, S))$ with "
        "$\\varphi''$ of four pieces; for other G by the proof. In general, for $u, v \\in S$ and the parallel "
        "segment at "
        "distance ε: $\\sigma\\|u-v\\|^2/8 \\le L\\epsilon^2/2$ where S has no interior; else at a smooth boundary "
        "point p "
        "with normal n, $\\sigma\\tau^2 \\le L\\max\\operatorname{dist}(p+\\epsilon n\\pm\\tau u,S)^2$, here with "
        "$\\tau^2 = "
        "2r\\epsilon+3\\epsilon^2$. On a connected Λ: unique minimisers throughout, so the improved model is the basic "
        "one, or $G(\\lambda,\\cdot)$ constant. The kink shows that $C^{1,1}$ is needed; on the line nothing is "
        "forced.",
        **COMMON,
    ),
)
