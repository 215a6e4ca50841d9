"""How fast SID's two iterations converge: ρ(t) and σ(k) of assumption D (contraction, theorem 8), for checked steps.

    E‖w_t − w(λ)‖² <= ρ(t),        sup_w E‖v_k(w) − v̄(w)‖² <= σ(k),    v̄ the solution for the drawn right side

The steps that are passed are SID's, along the problem's own residual. Where the constants are those of w − s ∇_wG, the
theorem's η_i is ``rate(i)/s``, and its v is SID's over s: SID's E‖v_k − v̄‖² is at most s²σ(k). For a map s = 1.

``theorem_8`` states both where its conditions on the steps hold, and refuses, with the numbers, where they do not.
``lower_recursion`` and ``linear_recursion`` are the largest errors that a step can leave, one step after the other: for
any schedule, attained on the line.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refimpl.approximate.conditions import Miss, above, at_least, at_most, beyond
from refimpl.arrays.numbers import is_whole, require_number
from refimpl.constants import Constants, Noise
from refimpl.errors import BadInput, HypothesisViolated, OutsideTheory
from refimpl.rates import Constant, Harmonic, Rate, as_rate
from refimpl.solvers.lower import require_count

Start = Literal["zero", "gradient"]


@dataclass(frozen=True)
class SolverRates:
    """Theorem 8's ρ(t) and σ(k), with the conditions that the steps miss: ``theorem_8`` makes it, and warns of them.

    rate, linear_rate: the theorem's η_i of (6) and of (7), which are SID's over ``constants.step``; J: draws of the
    upper level; start: v_0 = 0, or ∇_wĒ_J. Everything is in Φ scaling. Raises ``BadInput``, also where constants and
    noise are of maps with different steps.
    """

    constants: Constants
    noise: Noise
    rate: Rate
    linear_rate: Rate
    J: int
    start: Start

    def __post_init__(self) -> None:
        require_count(self.J, "J", least=1)
        _require_start(self.start)
        require_same_map(self.constants, self.noise)

    @property
    def misses(self) -> tuple[Miss, ...]:
        """Every condition missed; both iterations may miss one and the same."""
        c = self.constants
        found = [
            *_missed(c, self.rate, self.noise.sigma2, "σ₂"),
            *_missed(c, self.linear_rate, self._growth, "2σ'₁κ_q²"),
            *([] if self.map_starts else [Miss(GRADIENT_START, c.step, 1, abs(c.step - 1))]),
        ]
        return tuple(dict.fromkeys(found))

    @property
    def map_starts(self) -> bool:
        """Is v_0 the theorem's, whose map may have another step than 1?"""
        return self.start == "zero" or bool(self.constants.step == 1)

    @property
    def kind(self) -> Literal["theory", "outside theory"]:
        """Is it what theorem 8 proves?"""
        return "outside theory" if self.misses else "theory"

    @property
    def _growth(self) -> Any:
        """2σ'₁κ_q²: by how much the noise of (7) grows with its error."""
        return 2 * self.noise.d_sigma1 * self.constants.kappa_q**2

    @property
    def advice(self) -> str:
        """Steps of SID that meet the conditions of both iterations."""
        first = "" if self.map_starts else 'start="zero"; '
        longest = at_most(self.constants.step / self._most)
        return f"{first}take Constant(rate), rate <= {longest}, or {self.decreasing_advice}"

    @property
    def decreasing_advice(self) -> str:
        """The decreasing ones of these."""
        s, least = self.constants.step, least_beta(self.constants)
        return (
            f"Harmonic(beta, gamma), beta >= {above(s * least)} and gamma >= {at_least(self._most / s)} beta"
        )

    @property
    def _most(self) -> Any:
        """1/η, or γ/β, at the limits of both iterations."""
        return 1 + max(self.noise.sigma2, self._growth)

    def rho(self, t: Any) -> Any:
        """(13), η constant: (1 − η(1−q²))^t (B² − ησ₁/(1−q²)) + ησ₁/(1−q²). (14), η_i = β/(γ+i): d_w/(γ + t)."""
        self._require(t)
        if not self.rate.constant:
            return self.d_w / (self._harmonic(self.rate)[1] + t)
        eta, gain = self.rate(0), 1 - self.constants.q**2
        floor = eta * self.noise.sigma1 / gain
        return (1 - eta * gain) ** t * (self.constants.B**2 - floor) + floor

    def sigma(self, k: Any) -> Any:
        """In Φ scaling. (13): G²κ_q² [(1 − η(1−q²))^k (s − 2ησ'₁/(1−q²)) + 2ησ'₁/(1−q²)]. (15): d_v/(γ + k).

        G² = L_E² + σ_{1,E}/J; s = 1 from v_0 = 0, and q² from v_0 = ∇_wĒ_J.
        """
        self._require(k)
        if not self.linear_rate.constant:
            return self.d_v / (self._harmonic(self.linear_rate)[1] + k)
        eta, gain = self.linear_rate(0), 1 - self.constants.q**2
        floor = 2 * eta * self.noise.d_sigma1 / gain
        return self._size * ((1 - eta * gain) ** k * (self._first - floor) + floor)

    @property
    def d_w(self) -> Any:
        """max{γB², β²σ₁/(β(1−q²) − 1)}."""
        beta, gamma = self._harmonic(self.rate)
        return max(gamma * self.constants.B**2, beta**2 * self.noise.sigma1 / self._excess(beta))

    @property
    def d_v(self) -> Any:
        """G²κ_q² max{γs, 2β²σ'₁/(β(1−q²) − 1)}, s as in ``sigma``."""
        beta, gamma = self._harmonic(self.linear_rate)
        slow = 2 * beta**2 * self.noise.d_sigma1 / self._excess(beta)
        return self._size * max(gamma * self._first, slow)

    def _excess(self, beta: Any) -> Any:
        """β(1−q²) − 1, above 0 wherever β is found above 1/(1−q²): floats as well."""
        return (beta - least_beta(self.constants)) * (1 - self.constants.q**2)

    @property
    def gammas(self) -> tuple[Any, Any]:
        """γ of (6) and of (7)."""
        return self._harmonic(self.rate)[1], self._harmonic(self.linear_rate)[1]

    @property
    def _size(self) -> Any:
        return gradient_square(self.constants, self.noise, self.J) * self.constants.kappa_q**2

    @property
    def _first(self) -> Any:
        return 1 if self.start == "zero" else self.constants.q**2

    def _harmonic(self, rate: Rate) -> tuple[Any, Any]:
        self._require(0)
        if isinstance(rate, Harmonic):
            return rate.beta, rate.gamma
        raise BadInput(
            "d_w and d_v belong to decreasing steps",
            measured=repr(rate),
            required="Harmonic(beta, gamma)",
            advice="with a constant step ask for rho(t) and sigma(k)",
        )

    def _require(self, count: Any) -> None:
        if self.misses:
            raise HypothesisViolated(
                "theorem 8 says nothing about these steps",
                measured="; ".join(map(str, self.misses)),
                required="its conditions (contraction, theorem 8)",
                advice=self.advice,
            )
        require_counts(count)


def require_counts(count: Any) -> None:
    """A whole number >= 0, or an array of such."""
    counts = np.asarray(count)
    if not (counts.dtype.kind in "iuO" and all(is_whole(x) and x >= 0 for x in counts.flat)):
        raise BadInput(
            "how many steps?", measured=count, required="whole numbers >= 0", advice="0 is the start"
        )


GRADIENT_START = "the map's step s = 1, so that v_0 = ∇_wĒ_J is the theorem's"


def theorem_8(
    constants: Constants,
    noise: Noise,
    *,
    rate: Any,
    J: int,
    start: Start = "zero",
    linear_rate: Any = None,
) -> SolverRates:
    """Theorem 8, its conditions on the steps checked; those of (7) are those of (6) unless ``linear_rate`` is given.

    rate, linear_rate: as SID takes them. The theorem's are η_i = rate(i)/s, s = ``constants.step``, 1 for a map; what
    is returned, σ(k) too, is in Φ scaling: SID's adjoint is s times that one.

    Constant steps: η <= 1/(1 + σ₂) in (6), η <= 1/(1 + 2σ'₁κ_q²) in (7). η_i = β/(γ + i): β > 1/(1 − q²), and
    γ >= β(1 + σ₂) in (6), γ >= β(1 + 2σ'₁κ_q²) in (7). v_0 = ∇_wĒ_J: s = 1. Where a condition is missed, and for every
    other schedule, warns ``OutsideTheory`` with the numbers; what is returned then is of kind "outside theory" and has
    no bounds. Exact for rational constants and steps. Raises ``BadInput``, also for constants and noise of two maps.

    >>> from refimpl.constants import Region, constants
    >>> from refimpl.zoo import maps
    >>> line = constants(maps.line(0.5), Region(np.zeros(1), np.zeros(1), w_radius=1.0))
    >>> rates = theorem_8(line, Noise(sigma1=1.0), rate=1, J=1)
    >>> rates.kind, rates.rho(2), rates.sigma(2)
    ('theory', 1.3125, 0.25)
    """
    steps = of_map(constants, rate)
    linear = steps if linear_rate is None else of_map(constants, linear_rate)
    found = SolverRates(constants, noise, steps, linear, J, start)
    if found.misses:
        text = "; ".join(map(str, found.misses))
        warnings.warn(OutsideTheory(f"outside the conditions of theorem 8: {text}"), stacklevel=2)
    return found


def of_map(constants: Constants, rate: Any) -> Rate:
    """The theorem's η_i of SID's steps: these over ``constants.step``."""
    rate, step = as_rate(rate), constants.step
    if rate.constant:
        return Constant(_over(rate(0), step))
    if isinstance(rate, Harmonic):
        return Harmonic(_over(rate.beta, step), rate.gamma)
    return rate  # outside theory with any scale


def _over(x: Any, step: Any) -> Any:
    return x if step == 1 else x / step  # whole numbers stay exact


def require_same_map(constants: Constants, noise: Noise) -> None:
    """Refuse noise of another map than that of the constants; where the lower level has none, it is that of any."""
    if constants.step == noise.step or not any((noise.sigma1, noise.sigma2, noise.d_sigma1, noise.d_sigma2)):
        return
    raise BadInput(
        "the constants and the noise are those of two maps",
        measured=f"w − s ∇_wG with s = {constants.step} and s = {noise.step}",
        required="one s",
        advice="noise(problem, lam, growth=..., step=constants.step); by hand Noise(..., step=constants.step)",
    )


def _missed(constants: Constants, rate: Rate, growth: Any, symbol: str) -> list[Miss]:
    """Of one iteration, whose noise grows by the factor ``growth``."""
    if rate.constant:
        eta, limit = rate(0), 1 / (1 + growth)
        return beyond(f"η <= 1/(1 + {symbol})", eta, limit, eta - limit)
    if not isinstance(rate, Harmonic):
        return [Miss("a constant step or β/(γ + i), not", repr(rate))]
    beta, gamma = rate.beta, rate.gamma
    least, limit = least_beta(constants), beta * (1 + growth)
    return [
        *([] if beta > least else [Miss("β > 1/(1 − q²)", beta, least, least - beta)]),
        *beyond(f"γ >= β(1 + {symbol})", gamma, limit, limit - gamma),
    ]


def least_beta(constants: Constants) -> Any:
    """1/(1 − q²); a β that is no larger leaves no d_w."""
    return 1 / (1 - constants.q**2)


def gradient_square(constants: Constants, noise: Noise, J: int) -> Any:
    """G² = L_E² + σ_{1,E}/J: a bound of E‖∇_wĒ_J‖²."""
    return constants.L_E**2 + noise.sigma1_E / J


def lower_recursion(constants: Constants, noise: Noise, *, rate: Any, steps: int) -> list[Any]:
    """[e_0, …, e_steps] with E‖w_t − w(λ)‖² <= e_t, for any steps: e_0 = B², e_{i+1} = r(η_i) e_i + η_i²σ₁.

    r = (1 − ηm)² + η²σ₂m², m = 1 − q, where η(1 + σ₂) <= 1, else the same with 1 + q for m: the most that
    ‖(1−η)a + ηb‖² + η²σ₂‖a − b‖², ‖b‖ <= q‖a‖, can be. Attained by Φ̂ = ±qw ± √σ₂(1 ∓ q)w + √σ₁ε. η_i = rate(i)/s.
    """
    require_count(steps, "steps")
    require_same_map(constants, noise)
    eta_of, q, e = as_rate(rate), constants.q, constants.B**2
    found = [e]
    for i in range(steps):
        eta = _over(eta_of(i), constants.step)
        m = 1 - q if eta * (1 + noise.sigma2) <= 1 else 1 + q
        e = ((1 - eta * m) ** 2 + eta**2 * noise.sigma2 * m**2) * e + eta**2 * noise.sigma1
        found.append(e)
    return found


@dataclass(frozen=True)
class LinearStage:
    """k steps of (7): ‖E[v_k|ξ] − v̄‖ <= pi κ_q ‖∇_wĒ_J‖ and E‖v_k − E[v_k|ξ]‖² <= variance, at every w.

    size: κ_q²G². Also ‖E[v_k|ξ]‖ <= κ_q(1 − pi)‖∇_wĒ_J‖. Raises ``BadInput`` unless 0 <= pi <= 1, and the others >= 0.
    """

    pi: Any
    variance: Any
    size: Any

    def __post_init__(self) -> None:
        for name in ("pi", "variance", "size"):
            require_number(getattr(self, name), name, "linear_recursion(...) makes one", closed=True)
        require_number(1 - self.pi, "1 − pi", "pi = 1 is no step at all", closed=True)

    @property
    def sigma(self) -> Any:
        """A σ(k): pi²κ_q²G² + variance."""
        return self.pi**2 * self.size + self.variance


def linear_recursion(
    constants: Constants, noise: Noise, *, rate: Any, steps: int, J: int, start: Start = "zero"
) -> LinearStage:
    """After ``steps`` steps of (7), for any η_i = rate(i)/s <= 1, in Φ scaling. With a_i = 1 − η_i(1 − q):

    π_0 = 1 (q from v_0 = ∇_wĒ_J), V_0 = 0; π_{i+1} = a_iπ_i, V_{i+1} = (a_i² + η_i²σ'₁)V_i + η_i²σ'₁κ_q²(1 − π_i)²G².
    Attained by Φ̂ = (q ± √σ'₁)w with E = w. Raises ``HypothesisViolated`` where a step is above 1,
    and for v_0 = ∇_wĒ_J where s is not 1.
    """
    require_count(steps, "steps")
    require_count(J, "J", least=1)
    _require_start(start)
    require_same_map(constants, noise)
    if start == "gradient" and constants.step != 1:
        raise HypothesisViolated(
            "this start of the linear iteration is not the theorem's",
            measured=f"v_0 = ∇_wĒ_J, s = {float(constants.step):.6g}",
            required=GRADIENT_START,
            advice='start="zero", or constants and noise with step=1 where w − ∇_wG contracts',
        )
    eta_of = as_rate(rate)
    size = gradient_square(constants, noise, J) * constants.kappa_q**2
    pi, V = 1 if start == "zero" else constants.q, 0
    for i in range(steps):
        eta = _over(eta_of(i), constants.step)
        if not eta <= 1:
            raise HypothesisViolated(
                "a step of the linear iteration is too long for this recursion",
                measured=f"η_{i} = {float(eta):.6g}",
                required="<= 1",
                advice="1 is the longest that theorem 8 allows without noise",
            )
        a, added = 1 - eta * (1 - constants.q), eta**2 * noise.d_sigma1
        pi, V = a * pi, (a**2 + added) * V + added * (1 - pi) ** 2 * size
    return LinearStage(pi, V, size)


def _require_start(start: str) -> None:
    if start not in ("zero", "gradient"):
        raise BadInput(
            "no such start of the linear iteration",
            measured=repr(start),
            required="'zero' or 'gradient'",
            advice="theorem 8 is proved from these two",
        )
