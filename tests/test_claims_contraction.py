"""What the first claims of ``contraction`` are built from: assumptions that are noticed, and formulas twice."""

from __future__ import annotations

import numpy as np
import pytest
from flint import fmpq
from hypothesis import given
from hypothesis import strategies as st

from refimpl import check_derivatives
from refimpl.arrays import backend, to_numpy
from refimpl.constants import Constants, Region
from refimpl.exact import exact_hypergradient, solution_jacobian
from refimpl.zoo import ridge
from verification.claims.contraction import (
    _assumptions,
    _instances,
    lemma_3,
    lemma_28,
    remark_1,
    theorem_17_rate,
)
from verification.claims.contraction._scalar_map import ScalarMap
from verification.hunt import canonical, evaluate
from verification.runner import discover

CLAIMS = [found.claim for found in discover("verification.claims.contraction").values()]
EPS = float(np.finfo(float).eps)


HALVED = [(claim, c) for claim in CLAIMS for c in claim.controls if "halved" in (c.params or {})]


@pytest.mark.parametrize(
    ("claim", "control"), HALVED, ids=[f"{claim.id} {c.params['halved']}" for claim, c in HALVED]
)
def test_a_constant_stated_too_small_is_noticed_by_its_own_assumption(claim, control):
    # kills: a predicate that looks at another derivative, or at w where its constant is one in λ
    expected = next(label for label, part in _assumptions.PARTS.items() if control.params["halved"] in part)
    broken = evaluate(claim, claim.measure, canonical(control.params)).broken
    assert [name for name, _ in broken] == [expected]
    honest = {name: value for name, value in control.params.items() if name != "halved"}
    assert evaluate(claim, claim.measure, canonical(honest)).broken == ()


OUTSIDE = {  # A and B are stated on a ball, or over Λ: outside it no constant of theirs is known either
    **{f"contraction/lemma-3@{part}": "λ' outside Λ" for part in ("i", "ii", "iii", "v")},
    "contraction/lemma-20": "w outside the ball",
    "contraction/lemma-21": "w outside the ball",
    "contraction/theorem-4-i@deterministic": "w₀ outside the ball",
}
BREAKING = [
    (claim, control)
    for claim in CLAIMS
    for control in claim.controls
    if control.kind == "hypothesis" and control.params is not None
]


@pytest.mark.parametrize(
    ("claim", "control"), BREAKING, ids=[f"{claim.id} {c.name}" for claim, c in BREAKING]
)
def test_an_instance_of_a_control_breaks_one_hypothesis_alone(claim, control):
    """Kills: an instance whose violation another broken hypothesis explains."""
    broken = [name for name, _ in evaluate(claim, claim.measure, canonical(control.params)).broken]
    if OUTSIDE.get(claim.id) == control.name:
        assert {"λ, λ' in Λ", "w in the ball", "w₀ in the ball"} & set(broken)
    else:
        assert len(broken) == 1, broken


@given(lemma_3.STRATEGY)
def test_the_instances_of_lemma_3_keep_to_every_assumption(p):
    # kills: a predicate so strict that it rejects what the proved constants allow
    pair = lemma_3.build(p)
    if all(h.predicate(pair)[0] for h in lemma_3.HYPOTHESES):
        seen = {name: _assumptions.kept(pair, name) for part in _assumptions.PARTS.values() for name in part}
        assert {name: says for name, (ok, says) in seen.items() if not ok} == {}


# -- the formulas beneath, by a second channel --------------------------------------------------------

signed = st.floats(-1, 1)
scalar_maps = st.builds(ScalarMap, *[signed] * 7)


@given(scalar_maps, signed, signed)
def test_derivatives_of_the_scalar_map(phi, lam, w):
    # kills: a missing ½, ν₂ in one Jacobian only, ν₃ left out of either
    check_derivatives(phi, np.array([lam]), np.array([w]))


@given(
    scalar_maps, st.tuples(signed, signed), st.floats(0, 1), st.floats(0, 1), *[st.tuples(signed, signed)] * 2
)
def test_bounds_of_the_scalar_map(phi, centre, lam_radius, w_radius, first, second):
    # kills: a radius or a |ν| dropped in any bound, ν₃ without its ½ or with ¼
    region = Region(np.array([centre[0]]), np.array([centre[1]]), lam_radius, w_radius)
    bounds = phi.bounds(region)
    (lam, w), (lam2, w2) = (
        (region.lam + lam_radius * a, region.w + w_radius * b) for a, b in (first, second)
    )
    for name in ("d_w", "d_lam"):
        at = getattr(phi, name)
        here, other_w, other_lam = (float(at(*x).dense()[0, 0]) for x in ((lam, w), (lam, w2), (lam2, w)))
        allowed = 100 * EPS  # sums of at most ten terms of size at most 8
        assert abs(here) <= getattr(bounds, name) + allowed
        assert abs(here - other_w) <= getattr(bounds, f"{name}_by_w") * abs(float((w - w2)[0])) + allowed
        assert (
            abs(here - other_lam) <= getattr(bounds, f"{name}_by_lam") * abs(float((lam - lam2)[0])) + allowed
        )


def test_bounds_of_the_scalar_map_are_attained():
    phi, region = ScalarMap(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), Region(np.zeros(1), np.zeros(1), 0.5, 0.25)
    bounds, corner = phi.bounds(region), (np.array([0.5]), np.array([0.25]))
    assert bounds.d_w == pytest.approx(float(phi.d_w(*corner).dense()[0, 0]), rel=10 * EPS)
    assert bounds.d_lam == pytest.approx(float(phi.d_lam(*corner).dense()[0, 0]), rel=10 * EPS)


@given(_instances.cases(radius=st.floats(1e-3, 0.5), shares=st.lists(signed, min_size=1, max_size=3)))
def test_the_region_holds_every_solution_of_its_set(p):
    # kills: κ_q dropped from the radius, ∂₂Φ taken at w(λ_c), λ_c instead of its supremum
    of = _instances.case(p)
    place = _instances.path_region(of, p["radius"])
    if place.proved is None:
        return
    for i, share in enumerate(p["shares"]):
        lam = of.lam + share * p["radius"] * _instances.unit(of.problem.n, i)
        w = of.exact(lam).w
        off = float(np.linalg.norm(w - place.region.w))
        assert (
            off
            <= place.region.w_radius + 100 * EPS * (1 + float(np.linalg.norm(w))) * place.constants.kappa_q
        )


rationals = st.fractions(0, 2, max_denominator=20).map(lambda x: fmpq(x.numerator, x.denominator))


@given(st.fractions(0, "9/10", max_denominator=20), st.lists(rationals, min_size=11, max_size=11))
def test_both_forms_of_the_hypergradients_constant_are_one(q, others):
    # kills: any term of L_v, or of L_f through it, dropped or with another power of κ_q
    c = Constants(fmpq(q.numerator, q.denominator), *others)
    assert lemma_3.through_adjoint(c) == c.L_f


@pytest.mark.parametrize("family", ["affine", "scalar"])
@pytest.mark.parametrize("seed", range(4))
def test_the_rounding_allowed_covers_the_truth_and_little_more(family, seed):
    """Float answers against the same problem over the rationals, where w(λ) is affine."""
    rng = np.random.default_rng(seed)
    rest = {"d": 3, "n": 2, "seed": seed, "low": 0.3, "scale": 1.0, "upper": "quadratic"}
    q, w, b, e = rng.uniform(0.1, 0.9, 4).tolist()
    p = {"family": "affine", "q": q, **rest} if family == "affine" else _instances.scalar(q=q, w=w, b=b, e=e)
    of = _instances.case(p)
    place, near = _instances.point_region(of, 1.0), of.exact(of.lam)
    allowed = _instances.rounding(of, place.constants, of.lam, near.w, near.v)
    exact = of.problem.to("rational")
    lam = backend("rational").asarray(of.lam)
    truth = exact_hypergradient(exact, lam)
    errors = {
        name: np.linalg.norm(getattr(near, name) - to_numpy(getattr(truth, name)))
        for name in ("w", "v", "value")
    }
    jacobians = solution_jacobian(of.problem, of.lam), to_numpy(solution_jacobian(exact, lam))
    errors["dw"] = np.linalg.norm(jacobians[0] - jacobians[1])
    for name, error in errors.items():
        assert error <= getattr(allowed, name) <= 1e-9, name


def test_a_matrix_of_lemma_28_has_the_norm_that_it_is_given():
    for normal in (True, False):
        A = lemma_28.build({"q": 0.7, "values": [0.1, 0.2, 0.9], "normal": normal, "seed": 3})
        assert np.linalg.norm(A, 2) == pytest.approx(0.7, rel=30 * EPS)
        assert np.allclose(A @ A.T, A.T @ A, atol=30 * EPS) == normal
    exact = lemma_28.build_exact({"rows": [[1, -3], [2, 0]], "num": 1, "den": 2})
    assert lemma_28.row_sums(exact) == fmpq(1, 2)
    assert lemma_28.column_sums(exact) == fmpq(3, 8)


def test_the_error_of_the_line_is_the_stated_sum_of_powers():
    """The closed form in ``Line`` against the method itself."""
    p = {"q": 10, "b": 11, "e": 14, "m1": 6, "m2": 5, "delta": 8, "others": [8]}
    line, (b, e, m1, m2, delta) = (
        theorem_17_rate.build(p),
        (fmpq(p[x], 16) for x in ("b", "e", "m1", "m2", "delta")),
    )
    q = fmpq(10, 16)
    assert line.q == q
    for t, error in enumerate(line.errors(range(6))):
        powers = sum(
            b / (1 - a) * ((e - m1 * delta) * a**t + m1 * delta * a ** (2 * t)) for a in (q, q * q / 2)
        )
        assert error == abs(powers - m2 * delta * q**t)
    assert line.leading == abs(b / (1 - q) * (e - m1 * delta) - m2 * delta)
    others = b / (1 - q * q / 2)
    assert line.rest == others * (e - m1 * delta) + (b / (1 - q) + others) * m1 * delta


def test_ridge_with_a_flat_direction_keeps_a_bounded_derivative():
    """The note of Remark 1 (i): κ_q and v blow up as λ -> 0, w' and f' do not, as w(λ) is orthogonal to ker X."""
    problem = ridge.problem([[1.0, 0.0]], [1.0], np.eye(2), [1.0, 2.0]).to("rational")
    for power in (4, 8, 16):
        lam = problem.backend.asarray(np.array([10.0**-power]))
        exact = exact_hypergradient(problem, lam)
        assert remark_1.square(exact.v) >= fmpq(1, 4) * fmpq(10) ** (2 * power)
        assert remark_1.square(solution_jacobian(problem, lam)) <= 1
        assert remark_1.square(exact.value) <= 1
