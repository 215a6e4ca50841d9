"""Table 1's claims: their formulas by a second channel, their plans and mutants, and the page that is made of them."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction as Q

import numpy as np
import pytest

from refimpl.algorithms.affine import Iteration as Exact
from refimpl.algorithms.exact import whole_state
from refimpl.algorithms.hong2020ttsa import TTSA
from refimpl.algorithms.huang2021sabiadam import SaBiAdam
from refimpl.approximate.inverse import ProductNeumann
from refimpl.counting import counted
from refimpl.draws import Draws
from refimpl.exact import exact_hypergradient
from refimpl.spaces import Bernoulli, Indices, Product, Repeated
from verification.claims._algorithms import MAKE, RATIONAL, L, noisy
from verification.claims._limits import Settling, stated
from verification.claims._means import Iteration, Levels, mean_map, moving
from verification.claims.contraction import (
    _table_1_bounds,
    _table_1_plans,
    _table_1_rates,
    table_1,
    table_1_bias,
    table_1_rate,
    table_1_run,
)
from verification.claims.dropout_bilevel import _adapts, adapts
from verification.hunt import canonical, evaluate
from verification.printed.table_1 import BY_SLUG, PAGE, ROWS, VARIANTS, page

EPS = float(np.finfo(float).eps)
SIZES = {"n": 1, "d": 1, "seed": 3, "terms": 2, "steps": 1, "linear": 1, "J": 1}
PLANE = {**SIZES, "n": 2, "d": 2}


def fractions(x):
    """Rationals of an array as Python's."""
    return [Q(int(e.p), int(e.q)) for e in np.ravel(x)]


# -- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_code_has():
    """``python -m verification.printed.table_1`` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page({slug: table_1.measured(slug) for slug in BY_SLUG})


def test_the_documents_rows_are_all_there():
    names = [row.name for row in ROWS]
    assert names[0] == "BSA"
    assert names[-1] == "VRBO"
    assert len(ROWS) == 16
    assert [row.slug for row in ROWS if row.slug == "bsgm"] == ["bsgm"] * 2
    assert {row.slug for row in ROWS if row.mark == "ESI"} == {"stable", "stable-vr"}
    assert {row.slug for row in VARIANTS} == {"alset-dagger", "alset-dagger-det"}
    assert set(MAKE) == set(BY_SLUG)


@pytest.mark.parametrize("slug", BY_SLUG)
def test_the_codes_flag_is_the_printed_one_and_what_a_run_shows(slug):
    assert MAKE[slug](SIZES).warm_start == BY_SLUG[slug].warm
    case = table_1.build(slug)({**table_1.FIFTH, **table_1.DEFAULTS})
    assert table_1.found(case, case.algorithm.step)[:2] == [int(cell) for cell in BY_SLUG[slug].warm]


# -- the instances --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_instances_keep_to_their_constants(seed):
    """PROD's L and STABLE's μ hold for every Hessian that is drawn."""
    p = {"n": 2, "d": 2, "seed": seed}
    for H in noisy(p).to("numpy").lower.ww:
        values = np.linalg.eigvalsh(H)
        assert 0.5 <= values[0]
        assert values[-1] <= float(L)


@pytest.mark.parametrize("seed", range(3))
def test_the_literal_levels_agree_with_the_certified_hypergradient(seed):
    problem = noisy({"n": 2, "d": 2, "seed": seed})
    lam = RATIONAL.zeros((2,)) + RATIONAL.scalar(Q(1, 3))
    M, exact = Levels(problem), exact_hypergradient(problem, lam, certify="never")
    assert (M.w(lam) == exact.w).all()
    assert (M.v(lam, exact.w) == exact.v).all()
    assert (M.h(lam, exact.w) == exact.value).all()


def test_the_series_tends_to_the_inverse():
    M = Levels(noisy(PLANE))
    step = RATIONAL.scalar(1 / L)
    eye = RATIONAL.eye(2)
    assert (M.series(step, 5) @ M.H == eye - M.decay([step] * 5)).all()


# -- means ----------------------------------------------------------------------------------------------------------

AFFINE = [slug for slug in BY_SLUG if MAKE[slug](SIZES).affine is None]


@pytest.mark.parametrize("slug", AFFINE)
def test_mean_maps_agree_with_the_recursion_of_moments(slug):
    """Two ways to the mean of an iteration: every point of the space; stages, one after the other."""
    p = {**SIZES, "period": 1} if slug == "vrbo" else SIZES
    algorithm, problem = MAKE[slug](p), noisy(p)
    start = algorithm.init(problem, RATIONAL.zeros((1,)))
    state = replace(start, k=1)
    found = mean_map(algorithm, problem, state)
    recursion = Exact(algorithm, problem, state, moving(state)).recursion({}, tested=False)
    T = recursion.mean_matrix
    assert (T[:-1, :-1] == found.A).all()
    assert (T[:-1, -1] == found.b).all()


def test_the_smallest_example_of_a_truncated_limit():
    """G = ½w² − λw, F = w + ½λ²: ∇f = λ + 1, and with one term of the series λ + 1/L."""
    p = {**SIZES, "terms": 1, "simple": "line"}
    case = Settling("ttsa", MAKE["ttsa"](p), noisy(p), p)
    limit = case.own.limit(RATIONAL)
    assert fractions(limit["lam"]) == [-1 / L]
    assert fractions(stated(case, "true")["lam"]) == [-1]


def test_the_smallest_example_of_inverted_samples():
    """h ∈ {1, 3}: the plug-in estimate settles away from 2/5, and STABLE's w away from w(λ)."""
    p = {**SIZES, "simple": "inverse", "tau": [1, 1], "c": [4, 1]}
    limits = {}
    for slug in ("stable", "stable-vr"):
        case = Settling(slug, MAKE[slug](p), noisy(p), p)
        limit = case.own.limit(RATIONAL)
        limits[slug] = tuple(fractions([limit["lam"][0], limit["w"][0]]))
    assert limits["stable-vr"] == (Q(1, 2), Q(1, 4))  # λ = E[1/h](1 − λ/2), w = λ/2
    lam, w = limits["stable"]
    # E[1/h] = 2/3, Var[1/h] = 1/9, α/β = 1/4: λ = (2/3)(1 − w) and 2w − λ = (1/36)(1 − w)
    assert (lam, w) == (Q(48, 97), Q(25, 97))


# -- controls of its own --------------------------------------------------------------------------------------------


def test_a_bias_of_two_data_is_a_mean_of_inverses():
    """The closed form (C − RH⁻¹D)(H − DH⁻¹D)⁻¹ against the two inverses."""
    p = {**PLANE, "k": 0}
    case = table_1_bias.build("stable")(p)
    G, f = case.problem.lower, case.problem.upper.grad_w(case.state.lam, case.state.w)
    floats = [np.array(x, dtype=float) for x in (G.lw, G.ww, f)]
    mean = sum(C @ np.linalg.solve(H, floats[2]) for C, H in zip(floats[0], floats[1], strict=True)) / 2
    exact = case.levels.C @ case.levels.v(case.state.lam, case.state.w)
    assert np.allclose(
        np.array(table_1_bias.plug_in(case), dtype=float), np.array(exact, dtype=float) - mean, atol=100 * EPS
    )


def test_adaptive_steps_are_refused_by_the_recursion_and_by_the_rationals():
    """Why saBiAdam's claims are of A = B = ρI, and its adaptive run is judged from paths."""
    assert SaBiAdam(alpha=1, beta=1, inverse=ProductNeumann(1, 1)).affine is not None
    assert set(table_1_run.SLOW) == {
        name
        for name in table_1_run.NAMES
        if MAKE[name.partition("@")[0]]({**SIZES, "adaptive": "@" in name}).affine is not None
    }


@pytest.mark.parametrize("name", ["ttsa", "smb"])
def test_recursions_and_paths_agree_where_both_are_there(name):
    algorithm, problem = table_1_run.setting(name)
    paths = table_1_run.by_paths(algorithm, problem)
    moments = whole_state(algorithm, problem, table_1_run.start(problem)).curve(3)
    for array, at in table_1_run.centre(problem).items():
        exact = moments.mean_square(array) - 2 * moments.mean(array) @ at + at @ at
        assert np.allclose(paths[array], exact[1:], rtol=1000 * EPS)


# -- rates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", _table_1_plans.PLANS)
def test_the_plans_iterations_are_affine(plan):
    """What the rates do not test at every step: the maps of the first two iterations are read off and tested."""
    of = _table_1_plans.PLANS[plan]
    on, N = _table_1_plans.problem(exact_matrices=of.exact_matrices), 4
    algorithm = of.make(N)
    state = algorithm.init(on, [1.0])
    exact = {"cross": np.array([-1.0]), "hess": np.array([1.0])}
    state = replace(state, **{name: x for name, x in exact.items() if name in state.arrays})
    for k in (0, 1):
        Exact(algorithm, on, replace(state, k=k), moving(state)).recursion({})


def test_squares_are_those_of_all_paths():
    """E f'(λ_k)² of two iterations of TTSA with K = 2, from every point of both spaces."""
    algorithm = TTSA(alpha=0.2, beta=0.3, inverse=ProductNeumann(2, 2.0), lower_batch=1, upper_batch=1)
    on = _table_1_plans.problem()
    state, chance = algorithm.init(on, [_table_1_plans.START]), np.ones(())
    found = _table_1_rates.squares(algorithm, on, 3)
    for k in range(3):
        gradient = _table_1_plans.SLOPE * state.lam[..., 0] + _table_1_plans.ZERO
        assert math.isclose(float((chance * gradient**2).sum()), found[k], rel_tol=1e4 * EPS)
        if k < 2:
            space = algorithm.space(on, k)
            index = np.arange(space.size)
            state = algorithm.step(on, state, space.ahead(space.points(index), k))
            chance = space.probabilities(index).reshape(-1, *(1,) * k) * chance


def test_the_derivative_of_the_rates_problem():
    on = _table_1_plans.problem()
    for lam in (0.0, 1.0, -2.0):
        exact = exact_hypergradient(on, np.array([lam]), certify="never").value[0]
        assert math.isclose(exact, _table_1_plans.SLOPE * lam + _table_1_plans.ZERO, abs_tol=20 * EPS)


def test_samples_of_the_article_schedules():
    """BSA by its formula; VRBO's large batches every q iterations."""
    plan = _table_1_plans.PLANS["bsa"]
    on = _table_1_plans.problem()
    found = _table_1_rates.samples(plan.make(16), on, 16)
    K = [max(1, math.ceil(0.5 * math.log(k + 1) / math.log(2))) for k in range(16)]
    each = [math.ceil(math.sqrt(k + 1)) + 1 + (K[k] - 1) / 2 + 1 for k in range(16)]
    assert found[-1] == sum(each)
    vrbo = _table_1_plans.PLANS["vrbo"]
    per_batch = 2 + _table_1_plans.TERMS  # ∇_wG, the cross derivative, K − 1 Hessians; one of ξ
    total = _table_1_rates.samples(vrbo.make(16), on, 16)[-1]
    assert total == per_batch * (16 // 4 * 16 + 16 * 3 * 4)


def test_a_rate_that_is_too_slow_is_refuted():
    claim = next(c for c in table_1_rate.CLAIMS if c.id == "contraction/table-1/stocbio@rate")
    params = canonical({"plan": "stocbio", "iterations": [16, 32]})
    assert evaluate(claim, table_1_rate.fast_enough(), params).measurement.holds
    for mean in (True, False):
        assert not evaluate(
            claim, table_1_rate.fast_enough(without=True, mean=mean), params
        ).measurement.holds
    assert not evaluate(claim, table_1_rate.fast_enough(power=Q(3, 2)), params).measurement.holds


STEADY = [
    name for name, plan in _table_1_plans.PLANS.items() if not (plan.later or plan.logs or name == "bsa")
]


@pytest.mark.parametrize("slug", STEADY)
def test_the_means_of_iterations_that_repeat_themselves(slug):
    """Against the literal sum. Kills: V of another s̄, a period's product reversed, the first iteration left out."""
    plan, N = _table_1_plans.PLANS[slug], 16
    on = _table_1_plans.problem(exact_matrices=plan.exact_matrices)
    run = _table_1_bounds.Moving(plan.make(N), on)
    steady = _table_1_bounds.Steady(run, *run.returns)
    allowed = 10 * len(run.start) * steady.condition * EPS
    for count in (N, 2 * N):
        literal = float(_table_1_rates.squares(plan.make(N), on, count).mean())
        mean, above = steady.mean(count)
        assert math.isclose(mean, literal, rel_tol=allowed)
        assert mean < above < 2 * mean


@pytest.mark.parametrize("slug", STEADY)
def test_what_the_bounds_leave_out_is_never_negative(slug):
    """V of no state is below min v, and c of none below 0. Kills: a half of the cross terms, g for g/2, −V for V."""
    plan, rng = _table_1_plans.PLANS[slug], np.random.default_rng(0)
    on = _table_1_plans.problem(exact_matrices=plan.exact_matrices)
    run = _table_1_bounds.Moving(plan.make(16), on)
    steady = _table_1_bounds.Steady(run, *run.returns)
    size, D = 10.0 ** rng.uniform(-2, 2, (200, 1)), run.basis.shape[-1]
    states = np.append(size * rng.standard_normal((200, D - 1)), np.ones((200, 1)), axis=1)
    moments = run.packed(states[:, :, None] * states[:, None, :])
    values = [steady.V(s) for s in moments]
    size = steady.condition * (1 + max(map(abs, values)))
    assert min(values) >= steady.lowest - 10 * len(run.start) * EPS * size
    assert (moments @ steady.costs.T >= -100 * EPS * np.abs(moments).max()).all()
    assert steady.lowest <= steady.V(run.start)


def test_what_is_said_of_short_periods():
    """VRBO at the budgets of the other plans: a refreshed estimate takes about ten iterations to settle."""
    plan = _table_1_plans.PLANS["vrbo"]
    assert f"{table_1_rate.speed(plan, (25, 64)).found:.3f}" == "0.655"
    assert "−0.655" in table_1_rate.BESIDE["vrbo"]
    run = _table_1_bounds.Moving(plan.make(1024), _table_1_plans.problem())
    steady = _table_1_bounds.Steady(run, *run.returns)
    values = steady.costs @ steady.rest
    assert 8 <= values.argmax() <= 12
    assert values[16:].min() > values[1:8].max()


@pytest.mark.parametrize("slug", _table_1_plans.PLANS)
def test_the_budgets_are_matched(slug):
    """Kills: an N that is not the least."""
    plan = _table_1_plans.PLANS[slug]
    on = _table_1_plans.problem(exact_matrices=plan.exact_matrices)
    pair, first = plan.iterations[-1 if plan.logs else 0], slug == "vrbo"
    for N, budget in zip(pair, _table_1_plans.BUDGETS[first:], strict=False):
        less = (math.isqrt(N) - 1) ** 2 if slug == "vrbo" else N - 4
        enough, too_few = (_table_1_rates.samples(plan.make(n), on, n)[-1] for n in (N, less))
        assert too_few < budget <= enough


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("slug", [name for name, plan in _table_1_plans.PLANS.items() if plan.later])
def test_operators_are_polynomials_of_the_step_sizes(slug, without):
    """Against what is read off the iteration. Kills: a degree too low, η_k for η_{k−1}, a node that is capped."""
    plan = _table_1_plans.PLANS[slug]
    on = _table_1_plans.problem(exact_matrices=plan.exact_matrices)
    run = _table_1_bounds.Moving((plan.without if without else plan.make)(100), on)
    if run.grid is None:
        assert without  # constant steps
        return
    ks = (run.grid.first, run.grid.first + 1, 100, 3000)
    for k, operator in zip(ks, run.of_steps(ks), strict=True):
        exact = run.read(run.algorithm, k)
        allowed = 100 * run.spread(3000) * EPS * np.abs(exact).max()
        assert np.abs(operator - exact).max() <= allowed
    N = run.grid.first + _table_1_bounds.CHUNK + 2  # the chunks, in their order
    assert (np.array(list(run.operators(N)))[-3:] == run.of_steps(range(N - 3, N))).all()
    assert run.draws(1) == run.draws(100)


def test_samples_do_not_depend_on_the_step_sizes():
    """Counted at every k, by keys that all differ. Kills: the first iteration's draws for all."""
    for slug in ("mrbo", "fsla"):
        plan, on = _table_1_plans.PLANS[slug], _table_1_plans.problem()
        whole = _table_1_rates.samples(plan.make(12), on, 12)
        for k in range(12):
            watched, tally = counted(on)
            algorithm = plan.make(12)
            state = replace(algorithm.init(on, [1.0]), k=k)
            algorithm.step(watched, state, algorithm.space(on, k).sample(np.random.default_rng(1), ()))
            each = tally["lower.data"] + tally["upper.data"]
            assert each == whole[k] - (whole[k - 1] if k else 0)


@pytest.mark.parametrize("slug", table_1_rate.WEAK)
def test_the_claims_on_rates_that_are_weak_say_how_weak(slug):
    """Kills: a p of another N, or rounded down."""
    plan = _table_1_plans.PLANS[slug]
    found = table_1_rate.speed(plan, plan.iterations[0]).found
    assert table_1_rate.WEAK[slug] - 0.01 < 1 / found <= table_1_rate.WEAK[slug]


# -- one draw in several places -------------------------------------------------------------------------------------


def test_one_draw_stands_in_every_place_of_a_level():
    one, other = Product((Bernoulli((Q(1, 2),)), Indices(2))), Indices(3)
    space, lift = _adapts.together(Product((Repeated(one, 2), other, Product((one, other)))), one)
    assert space == Product((one, other, other))
    index = np.arange(space.size)
    (masks, data), kept, ((mask, datum), last) = lift(space.points(index))
    assert masks.shape == (space.size, 2, 1)
    assert (masks[:, 0] == mask).all()
    assert (masks[:, 1] == mask).all()
    assert (data == datum[:, None]).all()
    assert len(set(zip(kept.tolist(), last.tolist(), strict=True))) == 9


@pytest.mark.parametrize("slug", adapts.SHARING)
def test_shared_draws_are_draws_of_the_algorithm(slug):
    """The space with one draw is smaller, and its points are points of the algorithm's own."""
    case = _adapts.masked(adapts.line(slug))
    own = Iteration.of(case.algorithm, case.problem, 2)
    one = _adapts.shared(case.algorithm, case.problem, 2)
    assert one.space.size < own.space.size
    draws = Draws(case.problem.lower).space.size
    assert own.space.size % one.space.size == 0
    assert one.space.size % draws == 0


def test_the_line_under_one_mask():
    """G = ½w² − λw, F = w + ½λ², p = ½, K = 2, L = 3: E[m(2 − m/L)]/L = p(2 − 1/L)/L, so λ = −5/18, not −11/36."""
    case = _adapts.masked(adapts.line("smb"))
    assert fractions(case.under_one_draw().limit(RATIONAL)["lam"]) == [Q(-5, 18)]
    assert fractions(stated(case)["lam"]) == [Q(-11, 36)]


@pytest.mark.parametrize(("slug", "power"), [("alset-dagger", 1), ("amigo", 1), ("smb", 0), ("mrbo", 0)])
def test_which_errors_of_one_draw_vanish_with_the_steps(slug, power):
    """Kills: steps that are not made shorter, an estimate by PROD or SUM whose bias were of the order of a step."""
    long, short = (
        adapts.error(_adapts.masked({**adapts.line(slug), "slower": slower}))[0] for slower in (1, 8)
    )
    assert long == 8**power * short != 0
