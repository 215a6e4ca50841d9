"""The claims of ``reweighting``: complete, runnable on their explicit instances, and built from checked formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flint import fmpq
from hypothesis import given
from hypothesis import strategies as st

from refimpl import check_derivatives
from refimpl.arrays import to_numpy
from refimpl.constants import Region
from refimpl.solvers import FixedPoint
from verification.claims.reweighting import (
    _attaining,
    _rational,
    _shared,
    _systems,
    cg_float,
    hypergradient,
    rate_aid_cg,
    rate_aid_cgnr,
    rate_itd,
    rate_neumann,
)
from verification.claims.reweighting import errata_truncated as truncated
from verification.claims.reweighting import k_rmd_descent as descent
from verification.hunt import canonical, evaluate, strictly
from verification.instances import EPS, FAMILIES, Parabola, case, point
from verification.report.tex import faults
from verification.runner import discover

CLAIMS = [
    found.claim
    for found in discover("verification.claims.reweighting").values()
    if not found.claim.registration
]
each = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)

READINGS = {
    "hypergradient": ["", "@nonlinear", "@two-variables"],
    "fixed-point-form": ["", "@nonlinear"],
    "cg-delta": ["@residual", "@vector", "@matrix", "@monotone"],
    "cg-exact": [""],
    "cg-float": [""],
    "reverse-equals-forward": ["", "@float"],
    "initial-point": ["", "@maml"],
    "k-rmd-error": [""],
    "k-rmd-descent": ["", "@few-hyperparameters", "@isotropic"],
    "rate-aid-fp": ["", "@warm", "@rate"],
    "rate-aid-cg": ["", "@sharp", "@rate"],
    "rate-aid-cgnr": ["", "@sharp", "@rate"],
    **{f"rate-{row}": ["", "@rate"] for row in ("neumann", "itd", "truncated", "one-step")},
    "penalty-rate": [
        *(
            "",
            "@identity",
            "@curvature",
            "@second-derivative",
            "@level-set",
            "@global",
            "@quadratic",
            "@exponent",
            "@hypergradient",
            "@affine",
        ),
    ],
    "auglag-rate": [
        *(
            "",
            "@bound",
            "@every-mu",
            "@half-mu",
            "@one-step",
            "@inexact",
            "@multiplier",
            "@affine",
            "@nonlinear",
        ),
    ],
    "penalty-joint": ["", "@error", "@auglag", "@condition", "@fixed-u", "@half-mu"],
    "non-convex-lower": ["", "@refused"],
    "equal-cost": [
        *("", "@radius", "@converges", "@counts", "@cg", "@cg-inside", "@ahead", "@stopped", "@floor"),
    ],
    "l2rw-one-step": ["", "@clip-normalise", "@descent", "@decrease", "@normalised"],
    "l2rw-eq-4": ["", "@identity", "@exact", "@convex", "@sign", "@affine", "@proportional"],
    "mwn-step": ["", "@decrease", "@weight-function", "@latent", "@through"],
    "early-stopping": ["", "@risk", "@wrong-weights", "@right-weights", "@signal"],
    **{f"erratum-{key}": [""] for key in (3, 4, 7, 12, 13, 14, 15, 17, 21, "counts")},
}


def test_the_claims_are_these():
    assert {claim.id for claim in CLAIMS} == {f"reweighting/{k}{r}" for k, rs in READINGS.items() for r in rs}


@each
def test_a_claim_says_what_it_owes(claim):
    assert claim.source.startswith("reweighting, ")
    assert claim.notes.strip()
    kinds = {control.kind for control in claim.controls}
    if claim.corrected is None:
        assert "formula" in kinds
        assert "hypothesis" in kinds or not claim.hypotheses
    elif "erratum" in claim.id:
        assert claim.printed  # what the document prints,
        assert kinds  # and an instance on which it differs from the correction


@each
def test_every_formula_can_be_typeset(claim):
    texts = [(claim.statement, True), (claim.notes, False), *((h.tex, True) for h in claim.hypotheses)]
    texts += [(claim.printed, True)] if claim.printed else []
    texts += [(claim.corrected.tex, True), (claim.corrected.proof, False)] if claim.corrected else []
    assert [fault for text, formula in texts for fault in faults(text, formula=formula)] == []


@each
def test_the_explicit_instances_are_used_and_decide(claim):
    measured = [evaluate(claim, claim.measure, canonical(params)).measurement for params in claim.explicit]
    assert all(measurement is not None for measurement in measured)
    if claim.corrected is None:
        assert all(measurement.holds for measurement in measured)
    else:  # the last instance shows the misprint, the correction mends them all
        assert not measured[-1].holds
        mended = [evaluate(claim, claim.corrected.measure, canonical(p)).measurement for p in claim.explicit]
        assert all(measurement.holds for measurement in mended)
    for measurement in measured:
        # a tolerance of the size of the compared quantities would let a wrong formula pass
        assert measurement.rounding <= 1e-9 * max(1.0, measurement.detail.get("scale", 1.0))


@each
def test_the_equality_case_and_the_curve(claim):
    if claim.equality:
        used = evaluate(claim, claim.measure, canonical(claim.equality.params)).measurement.used
        assert claim.equality.reaches <= used <= 1
    if claim.curve:
        params = claim.equality.params if claim.equality else claim.explicit[-1]
        with strictly("drawing"):
            data = claim.curve(claim.build(json.loads(canonical(params))))
        assert len(data["x"]) == len(data["predicted"]) == len(data["measured"]) > 1


@each
def test_the_controls_with_an_instance_fail_on_it(claim):
    for control in (control for control in claim.controls if control.params is not None):
        measure, breaking = control.measure or claim.measure, control.kind == "hypothesis"
        outcome = evaluate(claim, measure, canonical(control.params), breaking=breaking)
        assert outcome.measurement is not None, control.name
        assert not outcome.measurement.holds, control.name


# -- the helper formulas, by a second channel -----------------------------------------------------------------

signed = st.floats(-1, 1)


@given(signed, signed, signed, signed)
def test_derivatives_of_the_one_dimensional_maps(q, nu, lam, w):
    # kills: ½ left out of the parabola, 3v² − 1 mistaken in the cubic
    check_derivatives(Parabola(q, nu), np.array([lam]), np.array([w]))
    check_derivatives(truncated.Cubic(fmpq(1, 3)).to("numpy"), np.array([lam]), np.array([w]))


@given(st.floats(-0.9, 0.9), signed, signed, st.floats(0, 1), signed)
def test_bounds_of_the_parabola(q, nu, centre, radius, share):
    # kills: |ν| radius dropped, the centre's derivative without its ν
    phi, region = Parabola(q, nu), Region(np.zeros(1), np.array([centre]), 0.0, radius)
    slope = phi.d_w(region.lam, region.w + share * radius).dense()[0, 0]
    assert abs(slope) <= phi.bounds(region).d_w + 10 * EPS


@pytest.mark.parametrize("kind", sorted(FAMILIES))
@pytest.mark.parametrize("seed", [0, 3])
def test_every_family_solves_its_lower_level_and_lies_where_it_says(kind, seed):
    made = case(point(kind, n=2, d=3, nu=0.5, degree=3, upper="quadratic", seed=seed, B=0.5))
    assert np.linalg.norm(made.problem.residual(made.lam, made.exact.w)) <= made.rounding
    assert abs(np.linalg.norm(made.w0 - made.exact.w) - 0.5) <= 10 * EPS * (1 + np.linalg.norm(made.exact.w))
    assert [h.name for h in _shared.CONTRACTION if not h.predicate(made)[0]] == []


@pytest.mark.parametrize("name", ["q", "B", "L_E", "L_Phi"])
def test_a_constant_stated_too_small_is_noticed(name):
    made = case(point("affine", n=2, d=2, halved=name))
    assert [h.name for h in _shared.CONTRACTION if not h.predicate(made)[0]]


@pytest.mark.parametrize("name", ["nu1", "nu2", "mu1", "mu2"])
def test_a_lipschitz_constant_stated_too_small_is_noticed(name):
    kind, upper = {
        "nu1": ("parabola", "w"),
        "nu2": ("bent", "w"),
        "mu1": ("line", "square"),
        "mu2": ("line", "product"),
    }[name]
    made = case(point(kind, upper=upper, nu=0.5, halved=name))
    assert [h.name for h in _shared.CONTRACTION if not h.predicate(made)[0]] == ["smoothness"]


@pytest.mark.parametrize("kappa", [2.0, 9.0])
@pytest.mark.parametrize("degree", [1, 2, 5])
def test_the_extremal_instances_make_the_chebyshev_polynomial_the_best(kappa, degree):
    # the best polynomial by least squares over the Krylov space, without conjugate gradients
    for made, ratio in (
        (case(rate_aid_cg.extremal(kappa, degree)), rate_aid_cg.chebyshev(kappa)),
        (case(rate_aid_cgnr.extremal(min(kappa, 3.0), degree)), rate_aid_cgnr.contraction(min(kappa, 3.0))),
    ):
        b = made.problem.upper.grad_w(made.lam, made.exact.w)
        system = made.problem.residual_w(made.lam, made.exact.w).dense()
        if made.problem.symmetric:
            matrix, weight = system, 1 / np.sqrt(np.diag(system))
        else:
            matrix, weight = system.T @ system, np.ones(len(b))
            assert np.linalg.norm(np.eye(len(b)) - system, 2) < 1
        powers = np.stack([np.linalg.matrix_power(matrix, j) @ b for j in range(1, degree + 1)], axis=-1)
        fitted = np.linalg.lstsq(weight[:, None] * powers, weight * b, rcond=None)[0]
        best = np.linalg.norm(weight * (b - powers @ fitted)) / np.linalg.norm(weight * b)
        expected = 2 * ratio**degree / (1 + ratio ** (2 * degree))
        assert best == pytest.approx(
            expected, rel=100 * EPS * np.linalg.cond(weight[:, None] * powers) / expected
        )


@given(st.integers(1, 6), st.integers(9, 32))
def test_the_ring_is_the_extremal_instance(k, eighths):
    # kills: 2k ± 1 points, M with the wrong multiple of S, the end's weight that of the others; and for the map:
    # S for Sᵀ beside b, another condition than r
    r = eighths / 8
    made = _attaining.ring(_attaining.around(k, (eighths, 8)))
    matrix = to_numpy(made.problem.residual_w(made.lam, made.w0).dense())
    nodes = (r * r + 1) / 2 - (r * r - 1) / 2 * np.cos(
        np.pi * np.minimum(np.arange(2 * k), 2 * k - np.arange(2 * k)) / k
    )
    assert np.linalg.eigvalsh(matrix) == pytest.approx(np.sort(nodes), rel=10 * k * EPS * r * r)
    root = to_numpy(made.problem.residual_lam(made.lam, made.w0).dense())
    assert root.T @ root == pytest.approx(matrix, rel=10 * k * EPS, abs=10 * k * EPS * r * r)
    turned = _attaining.ring_of_a_map(_attaining.around(k, (eighths, 8)))
    system = to_numpy(turned.problem.residual_w(turned.lam, turned.w0).T.dense())
    assert np.array_equal(to_numpy(turned.problem.phi.d_lam(turned.lam, turned.w0).dense()), system.T)
    assert np.linalg.cond(system) == pytest.approx(r, rel=10 * k * EPS * r)
    assert k == 1 or not np.array_equal(system, system.T)
    assert np.linalg.norm(np.eye(2 * k) - system, 2) == pytest.approx((r - 1) / (r + 1), rel=20 * k * EPS)
    # the best of all polynomials by least squares over the Krylov space, without conjugate gradients
    gradient = to_numpy(turned.problem.upper.grad_w(turned.lam, turned.w0))
    energy = np.linalg.cholesky(np.linalg.inv(matrix)).T  # ‖b − Hv‖ in the metric of H⁻¹ is ‖v* − v‖_H
    for a, b, weight in ((matrix, np.eye(2 * k)[0], energy), (system @ system.T, gradient, np.eye(2 * k))):
        basis = [b]
        for _ in range(k):
            basis.append(a @ basis[-1] / np.linalg.norm(a @ basis[-1]))
        powers = weight @ np.stack(basis[1:], axis=-1)
        best = weight @ b - powers @ np.linalg.lstsq(powers, weight @ b, rcond=None)[0]
        share, ratio = np.linalg.norm(best) / np.linalg.norm(weight @ b), (r - 1) / (r + 1)
        expected = 2 * ratio**k / (1 + ratio ** (2 * k))
        slack = 100 * k * EPS * np.linalg.cond(powers) * r * r / expected
        assert share == pytest.approx(expected, rel=slack)


@given(_attaining.turns(other=_attaining.ratios((1, 3), (1, 3))))
def test_the_turns_are_conformal_unless_one_direction_is_told_to_differ(params):
    # kills: a rotation that scales, a predicate that does not look
    made = _attaining.turning(params)
    assert not (made.problem.residual(made.lam, made.exact.w) != 0).any()
    alike = params["other"][0] == params["other"][1]
    assert _attaining.CONFORMAL.predicate(made)[0] == alike
    c, s = _attaining.cosine_and_sine(made.number("m"))
    assert c * c + s * s == 1
    assert float(np.arctan2(float(s), float(c))) == pytest.approx(
        2 * np.arctan(float(made.number("m"))), rel=10 * EPS
    )


def test_a_point_too_many_and_a_mixed_right_side_are_noticed():
    assert _attaining.HARDEST.predicate(_attaining.ring(_attaining.around(3)))[0]
    assert not _attaining.HARDEST.predicate(_attaining.ring(_attaining.around(3, points=7)))[0]
    slowest = next(c for c in CLAIMS if c.id == "reweighting/rate-neumann@rate").hypotheses[0].predicate
    for rest, b, expected in (
        ([3], [1, 0], True),
        ([3], [1, 1], False),
        ([3], [0, 0], False),
        ([0], [1, 1], True),
    ):
        assert slowest(_attaining.eigenvector(rate_neumann.of_spectrum(rest, b)))[0] == expected


@given(_systems.systems(5))
def test_the_rational_systems_have_the_spectrum_they_state(params):
    # kills: a reflection that is not orthogonal, eigenvalues counted with their multiplicity
    made = _systems.system(params)
    q = made.reflection
    assert not ((q @ q.T - _systems.RATIONAL.eye(len(q))) != 0).any()
    for i, eigenvalue in enumerate(made.spectrum):
        assert not ((made.a @ q[:, i] - eigenvalue * q[:, i]) != 0).any()
    krylov = [made.b]
    for _ in made.spectrum:
        krylov.append(made.a @ krylov[-1])
    assert np.linalg.matrix_rank(np.stack([to_numpy(x) for x in krylov])) == made.represented


@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3))
def test_central_differences_are_the_gradient_of_a_quadratic(seed, n, d):
    # kills: a forgotten ½, one-sided differences
    made = _rational.problem(_rational.at(n, d, seed))
    upper, lam, w = made.problem.upper, made.lam, made.w
    found = _rational.central_differences(lambda x: upper.value(x, w), lam)
    assert not (found != upper.grad_lam(lam, w)).any()


@given(st.floats(0, 0.9), st.floats(0.1, 2))
def test_the_complex_step_through_the_loop_on_the_line(q, start):
    # kills: too few steps, a step of the wrong size
    made = case(point("line", q=q, B=start))
    assert hypergradient.complex_step(made)[0] == pytest.approx(1 / (1 - q), rel=10 * EPS / (1 - q) ** 2)


def test_the_grid_of_the_proof_has_one_point_more_than_the_degree_in_every_direction():
    # degrees: 1 in every entry but 2 in the off-diagonal one
    two = [p for p in hypergradient.GRID if len(p["h"]) == 3]
    one = [p for p in hypergradient.GRID if len(p["h"]) == 1]
    assert len(two) == 2 * 2 * 3 * 2**2 * 2**2 * 2
    assert len(one) == 2 * 2 * 2 * 2
    assert len({canonical(p) for p in hypergradient.GRID}) == len(two) + len(one)
    assert all(p["h"][0] * p["h"][1] > p["h"][2] ** 2 for p in two)


def test_the_bent_line_is_what_its_closed_form_says():
    # w_t' = (1 − q^t)/(1 − q) − t q^{t−1} ν B at λ = 0, from w_0 = −B
    q, nu, B = 0.5, 2.0, 1.5
    made = case(point("bent", q=q, nu=nu, B=B, t=12))
    t = np.arange(13)
    expected = q**t / (1 - q) + t * q ** (t - 1.0) * nu * B
    assert rate_itd.by_steps(made) == pytest.approx(expected, rel=100 * EPS)
    assert rate_itd.unrolled(made.constants, t) == pytest.approx(expected, rel=100 * EPS)


@given(descent.directions((-1, 1)))
def test_the_kept_terms_and_the_gradient_by_their_sums(params):
    # kills: a sign or a power lost in the direction, α missing
    d = descent.direction(params)
    H, C, b, alpha = d.system.a, d.cross, d.system.b, d.step
    term, kept = b, 0 * b
    for _ in range(d.K):
        kept, term = kept + alpha * term, term - alpha * (H @ term)
    assert not ((d.kept + C @ kept) != 0).any()
    assert not ((H @ d.system.a_inverse_b - b) != 0).any()
    assert not ((d.exact + C @ d.system.a_inverse_b) != 0).any()


@given(descent.directions((-1, 1)), st.sampled_from((-2, 1)))
def test_a_direct_gradient_is_noticed(params, slope):
    # kills: a predicate that prints ∇_uf = 0 without looking
    assert descent.SHORT.predicate(descent.direction(params))[0]
    assert descent.direction({**params, "slope": slope}).direct == abs(slope)
    assert not descent.SHORT.predicate(descent.direction({**params, "slope": slope}))[0]


def test_truncation_to_half_of_the_steps_is_told_from_one_step_fewer():
    made = case(point("affine", n=2, d=3, t=7))
    lower = FixedPoint(made.t)
    assert _shared.apart(made, made.as_map, lower=lower) <= made.rounding
    assert _shared.apart(made, made.as_map, 1, lower=lower) > made.rounding


def test_the_float_systems_have_the_condition_they_state():
    made = cg_float.system(cg_float.params(4, 3.0))
    values = np.linalg.eigvalsh(made.a)
    assert values == pytest.approx(made.spectrum, rel=100 * EPS * 1e3)


def test_worst_takes_the_entry_that_uses_most_of_its_bound():
    found = _shared.worst([1.0, 0.5, 0.0], [10.0, 1.0, 0.0], 0.0)
    assert (found.observed, found.bound, found.detail["index"]) == (0.5, 1.0, 1)
    assert not _shared.worst([1.0, 1e-3], [10.0, 0.0], 1e-9).holds
    # a bound that has underflowed: no warning, and what rounding explains is no violation
    assert _shared.worst([0.0, 1e-20], [1e-320, 5e-324], 1e-13).holds
