"""What remark 3 says about rates, decided over the rationals: x of the slowest mode is enclosed, N falls in x."""

from __future__ import annotations

from collections.abc import Callable

from flint import fmpq

from verification.claims.dropout_bilevel._upper_rate import PATH, STEP, Scalar, rational
from verification.model import Measurement

GROWTH = fmpq(7, 250)  # 16^0.01 − 1, from below: an exponent off by 0.01 over the path


def slower(s: Scalar) -> Measurement:
    """N without dropout <= N with it, or x with it <= x without: exact, violated only if the enclosures are apart."""
    plain = Scalar(s.A, s.C, kappa=s.kappa)
    detail = {"iterations without": plain.iterations, "iterations": s.iterations}
    return Measurement(observed=s.slowest[0], bound=plain.slowest[1], detail=detail)


def exact_curvature(s: Scalar, square: bool = True) -> fmpq:
    """c over the rationals; without ``square`` p_λp_w for p_λ²p_w."""
    A, C, p, q = (rational(x) for x in (s.A, s.C, s.p_lam, s.p_w))
    return p * C + (p * p if square else p) * q * A


def factor(square: bool = True) -> Callable[[Scalar], Measurement]:
    """|x/(αc) − 1| <= R over the rationals, violated only if the whole enclosure of x is off."""

    def measure(s: Scalar) -> Measurement:
        c, right, alpha = exact_curvature(s, square), exact_curvature(s), rational(STEP)
        p, q, most = rational(s.p_lam), rational(s.p_w), 2 * alpha * right
        lag = most / (rational(s.kappa) * q)
        R = p * p * q * abs(rational(s.A)) / right * max(2 * most, (1 - lag) ** -2 - 1)
        low, high = (x / (alpha * c) for x in s.slowest)
        return Measurement(observed=max(low - 1, 1 - high, fmpq(0)), bound=R)

    return measure


def growth(predicted: Callable[[Scalar, Scalar], fmpq]) -> Callable[[Scalar], Measurement]:
    """N at the lowest keep probability of the path over N at the highest, against ``predicted``: 2.8 % off at most.

    N = ln(1/ε)/(−ln(1−x)) and x <= −ln(1−x) <= x/(1−x): both ends rational, violated only if all between is off.
    """

    def measure(s: Scalar) -> Measurement:
        most, least = s.along(PATH[0]), s.along(PATH[-1])
        low = most.slowest[0] * (1 - least.slowest[1]) / least.slowest[1]
        high = most.slowest[1] / (1 - most.slowest[1]) / least.slowest[0]
        stated = predicted(most, least)
        off = max(low / stated - 1, 1 - high / stated, fmpq(0))
        detail = {"factor": least.iterations / most.iterations, "predicted": float(stated)}
        return Measurement(observed=off, bound=GROWTH, detail=detail)

    return measure


def as_printed(most: Scalar, least: Scalar) -> fmpq:
    """(p_λp_w)⁻¹."""
    return rational(most.p_lam * most.p_w) / rational(least.p_lam * least.p_w)


def by_problem(most: Scalar, least: Scalar) -> fmpq:
    """c⁻¹."""
    return exact_curvature(most) / exact_curvature(least)
