"""Theorems 16 and 17 for a BSGM: numbers of the claims, every condition missed in turn, exact runs below."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from decimal import Decimal, localcontext
from fractions import Fraction as Fr

import numpy as np
import pytest

from refimpl.algorithms import BSGM, bsgm_guarantee, mean_square_mapping, run
from refimpl.approximate import SID
from refimpl.approximate import guarantees as g
from refimpl.constants import Constants, Noise
from refimpl.errors import BadInput, HypothesisViolated, OutsideTheory
from refimpl.lengths import Fixed, Growing, Logarithmic
from refimpl.problem import FixedPointProblem
from refimpl.rates import Harmonic, Power
from refimpl.solvers import LU, FixedPoint
from refimpl.zoo import maps, quadratic
from tests.rounding import EPS, assert_rounded
from verification.claims.contraction import _closed_loop, _deterministic, theorem_16, theorem_17_bound

NAMES = ("q", "L_E", "L_Phi", "nu1", "nu2", "mu1", "mu2", "nu1_bar", "nu2_bar", "mu1_bar", "mu2_bar", "B")
HALF = Fr(1, 2)


def of(**given):
    """Constants, 0 unless given."""
    return Constants(**({name: Fr(0) for name in NAMES} | given))


# -- theorem 17 -------------------------------------------------------------------------------------------------------
def test_theorem_17_in_numbers():
    """Each constant another prime: C = c₁B + L_ΦL_Eκ_q + ν₂BL_Eκ_q with c₁ = 11 + 7 · 3 · 2."""
    # kills: a term of C lost or kept, C for C², 10 or π²/6 lost, the S of the average
    c = of(q=HALF, L_E=Fr(3), L_Phi=Fr(5), nu2=Fr(7), mu2=Fr(11), B=Fr(13))
    known = {"L": 2, "alpha": HALF, "c3": 2, "drop": Fr(17), "steps": 19}
    sharp = 53 * 13 + 5 * 3 * 2
    whole = sharp + 7 * 13 * 3 * 2
    expected = (8 * 17 * 2 + 10 * math.pi**2 / 6 * whole**2) / 19
    assert_rounded(np.array(g.theorem_17(c, **known)), expected, terms=expected, count=8)
    expected = (2 * 17 * 2 + math.pi**2 / 6 * sharp**2) / 19
    assert_rounded(np.array(g.theorem_17_sharp(c, **known)), expected, terms=expected, count=8)


@pytest.mark.parametrize(
    "params",
    [
        {**_deterministic.HALVES, "steps": 9, "behind": 0.25},
        {**_deterministic.EXACT, "steps": 5},
        {**_deterministic.HALVES, "steps": 17, "pace": 1.5, "reach": 0.5},
    ],
)
def test_theorem_17_is_the_claims(params):
    """The claims' own right sides, and their runs below them. c₃ and the lengths are the claims' too."""
    one = _deterministic.build(params)
    c = one.place.constants
    known = {
        "L": c.L_f,
        "alpha": one.alpha,
        "c3": one.length.scale,
        "drop": one.drop,
        "steps": one.steps,
    }
    for ours, theirs in (
        (g.theorem_17, theorem_17_bound.printed),
        (g.theorem_17_sharp, theorem_17_bound.sharp),
    ):
        expected = theirs(one) / one.steps
        terms = (8 * abs(one.drop) / one.alpha + 10 * theorem_17_bound.errors(one)) / one.steps
        assert_rounded(np.array(ours(c, **known)), expected, terms=terms, count=20)
    method = BSGM(t=one.length, k=one.length, J=1, alpha=one.alpha, batch=None)
    found = bsgm_guarantee(method, c, theorem="17", c3=one.length.scale, steps=one.steps)
    assert found.kind == "theory"
    assert found.bound(one.drop) == g.theorem_17(c, **known)
    sharp = found.bound(one.drop, sharp=True)
    assert sharp == g.theorem_17_sharp(c, **known)
    assert sum(one.squares) / one.steps <= sharp + one.rounding / one.steps


@pytest.mark.parametrize(
    "q", [Fr(1, 10**40), 1e-300, 0.1, HALF, 0.9, 1 - 1e-9, 1 - 2.0**-53, 1 - Fr(1, 10**40)]
)
def test_the_pace_is_one_over_the_logarithm(q):
    """Of floats, and of rationals that floats round to 0 or 1; −1/log q, typed in, is inside, 1 % less is not."""
    # kills: log(1/q) of a rounded 1/q, c₃ > where >= is meant, a leeway that grows with κ_q
    least = g.least_pace(of(q=q))
    with localcontext(prec=100):
        exact = -1 / (Decimal(Fr(q).numerator) / Fr(q).denominator).ln()
        assert abs(Decimal(least) / exact - 1) <= 4 * Decimal(EPS["float64"])
    known = {"L": 1, "alpha": 1, "drop": 1, "steps": 3}
    for c3 in [least, *([-1 / math.log(q)] if float(q) < 1 else [])]:
        assert g.theorem_17(of(q=q), c3=c3, **known) > 0
    with pytest.raises(HypothesisViolated, match="more inner steps") as caught:
        g.theorem_17(of(q=q), c3=0.99 * least, **known)
    advised = float(caught.value.advice.removeprefix("take c3 >= "))
    assert g.theorem_17(of(q=q), c3=advised, **known) > 0
    assert advised <= least * (1 + Fr(1, 10**5))


def test_without_memory_any_pace_will_do():
    """q = 0: one step is all."""
    assert (
        g.theorem_17(of(L_E=Fr(1), L_Phi=Fr(1)), L=1, alpha=1, c3=1e-9, drop=0, steps=1)
        == 10 * math.pi**2 / 6
    )


# -- a BSGM -----------------------------------------------------------------------------------------------------------
C = of(q=HALF, L_E=Fr(1), L_Phi=Fr(1), mu2_bar=Fr(1), B=Fr(1))  # L_f = 1
QUIET = Noise()
NOISY = Noise(Fr(1), Fr(1, 4), Fr(1, 32), Fr(1), Fr(1), Fr(1))
RATE = Harmonic(Fr(2), Fr(4))
LOG = Logarithmic(1.5)
METHODS = {
    "16 (i)": (BSGM(t=Growing(2), k=Growing(2), J=Growing(2), alpha=1, rate=RATE), NOISY, 2),
    "16 (ii)": (BSGM(t=20, k=20, J=20, alpha=1, rate=RATE), NOISY, 2),
    "17": (BSGM(t=LOG, k=LOG, J=1, alpha=1, batch=None), QUIET, 1.5),
}
S = 10


@pytest.mark.parametrize("theorem", METHODS)
def test_what_the_theorem_names_is_theory(theorem):
    """No warning, and the bounds are the formulas'. Kills: the sharp form for the printed one, and W for W#."""
    method, noise, c3 = METHODS[theorem]
    found = bsgm_guarantee(method, C, noise, theorem=theorem, c3=c3, steps=S)
    assert (found.kind, found.misses, found.L) == ("theory", (), 1)
    known = {"L": 1, "alpha": 1, "c3": c3, "drop": 3, "steps": S}
    if theorem == "17":
        expected = g.theorem_17(C, **known), g.theorem_17_sharp(C, **known)
    else:
        W = g.corollary_10(C, noise, rate=RATE)
        form = theorem.removeprefix("16 ").strip("()")
        printed, sharp = (getattr(g, f"theorem_16_{form}{end}") for end in ("", "_sharp"))
        expected = printed(W=W.W, **known), sharp(W=W.W_sharp, **known)
    assert (found.bound(3), found.bound(3, sharp=True)) == expected
    assert expected[0] > expected[1]


LONGER = {
    "16 (i)": {"t": Growing(3), "k": Fixed(20), "J": Growing(2, 2)},
    "16 (ii)": {"t": 21, "k": Growing(20), "J": 1000},
    "17": {"t": Growing(2), "k": 4, "J": 7},
}


def test_a_solver_in_place_of_the_steps_is_outside():
    """Of either stage. Kills: a length looked for where there is none."""
    c = of(q=HALF, L_E=Fr(1), L_Phi=Fr(1), B=Fr(1))
    known = {"theorem": "17", "c3": 2, "steps": 9, "L": 1}
    solved = BSGM(lower=FixedPoint(9), linear=LU(), J=1, alpha=HALF, batch=None)
    with pytest.warns(OutsideTheory, match="t_s >= .*, not: a solver.*k_s >= .*, not: a solver"):
        found = bsgm_guarantee(solved, c, **known)
    assert (found.kind, len(found.misses)) == ("outside theory", 2)
    with pytest.raises(HypothesisViolated, match="a solver"):
        found.bound(1)


@pytest.mark.parametrize("theorem", METHODS)
def test_longer_ones_do_no_harm(theorem):
    """Kills: equal lengths asked for."""
    method, noise, c3 = METHODS[theorem]
    longer = dataclasses.replace(method, **LONGER[theorem])
    assert bsgm_guarantee(longer, C, noise, theorem=theorem, c3=c3, steps=S).kind == "theory"


# theorem, what is changed, the warning: with the number by which the condition is missed
OUTSIDE = [
    ("16 (i)", {"t": Growing(1)}, r"t_s >= ⌈c₃\(s \+ 1\)⌉ at s = 9: 10 against 20, missed by 10"),
    ("16 (i)", {"k": Fixed(19)}, r"k_s >= .* at s = 9: 19 against 20, missed by 1"),
    ("16 (i)", {"J": 1}, r"J_s >= .* at s = 9: 1 against 20, missed by 19"),
    ("16 (i)", {"t": LOG, "k": LOG}, r"t_s >= .* at s = 9: 4 against 20, missed by 16; k_s"),
    ("16 (i)", {"alpha": Fr(5, 4)}, "αL <= 1: 1.25 against 1, missed by 0.25"),
    ("16 (i)", {"alpha": Power(1.0, 0.5)}, "the same α in every iteration, not: Power"),
    ("16 (i)", {"rate": HALF, "linear_rate": None}, r"η_i = β/\(γ \+ i\), not: Constant"),
    ("16 (i)", {"linear_rate": HALF}, r"η_i = β/\(γ \+ i\), not: Constant"),
    ("16 (i)", {"rate": Power(0.5, 1)}, r"η_i = β/\(γ \+ i\), not: Power"),
    ("16 (i)", {"rate": Harmonic(1, 4)}, r"β > 1/\(1 − q²\): 1 against 1.33333, missed by 0.333333"),
    ("16 (i)", {"linear_rate": Harmonic(2, 2)}, r"γ >= β\(1 \+ 2σ'₁κ_q²\): 2 against 2.5, missed by 0.5"),
    ("16 (ii)", {"t": 19}, r"t_s >= ⌈c₃S⌉ at s = 0: 19 against 20, missed by 1"),
    ("16 (ii)", {"k": Growing(2)}, r"k_s >= ⌈c₃S⌉ at s = 0: 2 against 20, missed by 18"),
    ("16 (ii)", {"J": 1}, r"J_s >= ⌈c₃S⌉ at s = 0: 1 against 20, missed by 19"),
    ("17", {"t": Logarithmic(0.1)}, r"t_s >= ⌈c₃ log\(s \+ 1\)⌉ at s = 7: 1 against 4, missed by 3"),
    ("17", {"k": Logarithmic(0.1)}, r"k_s >= ⌈c₃ log\(s \+ 1\)⌉ at s = 7: 1 against 4, missed by 3"),
    ("17", {"alpha": 2}, "αL <= 1: 2 against 1, missed by 1"),
    ("17", {"rate": HALF, "linear_rate": 1}, "η = 1: 0.5 against 1, missed by 0.5"),
    ("17", {"linear_rate": HALF}, "η = 1: 0.5 against 1, missed by 0.5"),
    ("17", {"linear_rate": RATE}, "η = 1, not: Harmonic"),
    ("17", {"batch": 1}, "all data in every draw, batch=None, not: 1"),
]  # fmt: skip


@pytest.mark.parametrize(("theorem", "change", "told"), OUTSIDE)
def test_what_misses_a_condition_is_told_and_refused(theorem, change, told):
    """Kills: each condition by itself."""
    method, noise, c3 = METHODS[theorem]
    method = dataclasses.replace(method, **change)
    with pytest.warns(OutsideTheory, match=told) as caught:
        found = bsgm_guarantee(method, C, noise, theorem=theorem, c3=c3, steps=S)
    assert caught[0].filename == __file__
    assert found.kind == "outside theory"
    with pytest.raises(HypothesisViolated, match="says nothing about this BSGM") as refused:
        found.bound(1.0)
    assert "alpha <= 1" in refused.value.advice


def test_the_pace_of_theorem_17_is_looked_at():
    """c₃ = 1/10 where 1/log 2 is needed. Kills: the method's own c₃ taken for enough."""
    short = Logarithmic(0.1)
    method = BSGM(t=short, k=short, J=1, alpha=1, batch=None)
    told = r"c₃ >= 1/log\(1/q\): 0.1 against 1.4427, missed by 1.3427$"
    with pytest.warns(OutsideTheory, match=told):
        found = bsgm_guarantee(method, C, theorem="17", c3=0.1, steps=S)
    assert found.kind == "outside theory"
    with pytest.raises(HypothesisViolated) as refused:
        found.bound(1.0)
    c3 = float(refused.value.advice.split(",")[0].removeprefix("take c3 >= "))
    advised = dataclasses.replace(method, t=Logarithmic(c3), k=Logarithmic(c3))
    assert bsgm_guarantee(advised, C, theorem="17", c3=c3, steps=S).kind == "theory"


@pytest.mark.parametrize("step", [1, Fr(1, 3)])
@pytest.mark.parametrize("theorem", METHODS)
def test_the_advice_typed_in_is_theory(theorem, step):
    """Kills: the advice of theorem 8 where constant steps are no good, the theorem's steps for the method's."""
    noise, c3 = METHODS[theorem][1:]
    c, noise = dataclasses.replace(C, step=step, mu2_bar=Fr(3)), dataclasses.replace(noise, step=step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideTheory)
        wrong = BSGM(t=0, k=0, J=1, alpha=9, rate=9, start="gradient")
        found = bsgm_guarantee(wrong, c, noise, theorem=theorem, c3=c3, steps=S)
    with pytest.raises(HypothesisViolated) as caught:
        found.bound(1.0)
    advice = caught.value.advice
    (alpha,) = (float(x) for x in re.findall(r"alpha <= ([\d.]+)", advice))
    assert "Constant(" not in advice
    assert ('start="zero"' in advice) == (theorem == "17" or step != 1)
    length = {"16 (i)": Growing(c3), "16 (ii)": 20, "17": Logarithmic(c3)}[theorem]
    assert {"16 (i)": "Growing(c3)", "16 (ii)": "20", "17": "Logarithmic(c3)"}[theorem] in advice
    J, rate, batch = 1, step, None
    if theorem != "17":
        beta, share = (float(x) for x in re.findall(r">= ([\d.]+)", advice))
        J, rate, batch = length, Harmonic(beta, share * beta), 1
    advised = BSGM(t=length, k=length, J=J, alpha=alpha, rate=rate, batch=batch)
    assert bsgm_guarantee(advised, c, noise, theorem=theorem, c3=c3, steps=S).kind == "theory"


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Noise) if f.name != "step"])
def test_theorem_17_has_no_noise(name):
    """Masks are drawn with all data, too."""
    method, _, c3 = METHODS["17"]
    with pytest.warns(OutsideTheory, match="= 0: 0.5 against 0, missed by 0.5"):
        found = bsgm_guarantee(method, C, Noise(**{name: 0.5}), theorem="17", c3=c3, steps=S)
    assert found.kind == "outside theory"


def test_the_steps_are_those_of_the_map():
    """Where Φ = w − s ∇_wG: η = rate/s, and v_0 = ∇_wĒ_J is the theorem's for s = 1 alone."""
    c = dataclasses.replace(C, step=Fr(1, 4))
    method, _, c3 = METHODS["17"]
    with pytest.warns(OutsideTheory, match="η = 1: 4 against 1, missed by 3"):
        bsgm_guarantee(method, c, theorem="17", c3=c3, steps=S)
    own = dataclasses.replace(method, rate=Fr(1, 4), linear_rate=None)
    assert bsgm_guarantee(own, c, theorem="17", c3=c3, steps=S).kind == "theory"
    own = dataclasses.replace(own, start="gradient")
    with pytest.warns(OutsideTheory, match="step s = 1"):
        bsgm_guarantee(own, c, theorem="17", c3=c3, steps=S)
    assert bsgm_guarantee(
        dataclasses.replace(method, start="gradient"), C, theorem="17", c3=c3, steps=S
    ).kind == "theory"  # fmt: skip


def test_a_smaller_smoothness_may_be_given():
    method, noise, c3 = METHODS["16 (i)"]
    method = dataclasses.replace(method, alpha=2)
    assert bsgm_guarantee(method, C, noise, theorem="16 (i)", c3=c3, steps=S, L=HALF).kind == "theory"


BAD = {
    "theorem": {"theorem": "16"},
    "c3": {"c3": 0},
    "c3, negative": {"c3": -1.0},
    "steps": {"steps": 0},
    "half a step": {"steps": 2.5},
    "L": {"L": -1},
    "noise of another map": {"noise": Noise(sigma1=1.0, step=0.5)},
    "another method": {"method": SID(t=1, k=1)},
    "draws without noise": {"noise": None},
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    method, noise, c3 = METHODS["16 (i)"]
    given = {"method": method, "constants": C, "noise": noise, "theorem": "16 (i)", "c3": c3, "steps": S}
    with pytest.raises(BadInput) as caught:
        bsgm_guarantee(**{**given, **BAD[case]})
    assert caught.value.advice


@pytest.mark.parametrize("growing", [True, False])
def test_exact_runs_keep_to_theorem_16(growing):
    """The claims' instance with every coefficient, its exact E‖G_α‖² and their W."""
    params = {
        **_closed_loop.PLAIN,
        "growing": growing, "p": 8.0, "A": 0.5, "dA": 0.25, "B": 0.5, "dB": 0.25, "c": 0.5, "dc": 0.5, "M": 0.5,
        "N": 0.5, "m": 0.5, "dm": 0.5, "l": 0.5, "dl": 0.5, "w0": 0.5, "lam0": 0.25, "steps": 4,
    }  # fmt: skip
    one = _closed_loop.build(params)
    theorem = "16 (i)" if growing else "16 (ii)"
    found = bsgm_guarantee(
        one.algorithm,
        one.constants,
        one.noise,
        theorem=theorem,
        c3=params["c3"],
        steps=one.steps,
        L=one.smoothness,
    )
    assert found.kind == "theory"
    expected = theorem_16.printed(one) / one.steps
    assert_rounded(np.array(found.bound(one.drop)), expected, terms=expected, count=20)
    average = float(one.mappings.mean())
    assert 0 < average <= found.bound(one.drop, sharp=True) + one.rounding / one.steps


def test_few_inner_steps_break_the_bound():
    """Φ = w/2, E = λw + λ²/2, w_0 = 1, C = 1: ‖∇f(λ_s)‖ = 2^−t_{s−1}, whose squares sum up to at most π²/6.

    So the condition is needed, not only looked at: a quarter of c₃ is too few steps, and bsgm_guarantee says so.
    """
    upper = quadratic.objective(ww=[[0.0]], ll=[[1.0]], lw=[[1.0]])
    problem = FixedPointProblem(upper, maps.affine([[0.5]], [[0.0]]))
    c = of(q=0.5, mu2=1.0, mu1_bar=1.0, mu2_bar=1.0, B=1.0, L_E=2.0)  # ‖λ‖ <= 1, L_Φ = 0
    steps, c3 = 200, 1 / math.log(2)
    for share, kind in ((1, "theory"), (0.25, "outside theory")):
        length = Logarithmic(share * c3)
        method = BSGM(t=length, k=length, J=1, alpha=1.0, batch=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutsideTheory)
            found = bsgm_guarantee(method, c, theorem="17", c3=share * c3, steps=steps)
        assert found.kind == kind
        start = method.init(problem, np.zeros(1), np.ones(1))
        lams = run(method, problem, start, steps=steps, rng=0).trajectory["lam"]
        square = float(mean_square_mapping(problem, lams[:-1], 1.0))
        # f = λ²/2 and λ_0 = 0
        bound = g.theorem_17_sharp(c, L=c.L_f, alpha=1.0, c3=c3, drop=0.0, steps=steps)
        assert bound == math.pi**2 / 6 / steps
        assert (square <= bound) == (kind == "theory")
