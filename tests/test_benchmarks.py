"""The benchmarks compute what refimpl computes, and their harness says what it found."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import refimpl as ri
from benchmarks import by_hand, curvature, ensembles, harness
from refimpl.zoo import weighted_softmax
from tests.curvature_things import Case, covariances, steps
from tests.rounding import assert_rounded, condition_number

EPS = 2.0**-52
OPTIONS = {"train": 60, "validation": 60, "classes": (1, 4, 7), "pool": 2}


def test_the_rows_by_hand_agree_with_refimpl() -> None:
    # kills: a benchmark against a row that solves another problem
    problem, data = weighted_softmax.digits(**OPTIONS), weighted_softmax.digits_data(**OPTIONS)
    lam = np.random.default_rng(0).standard_normal(problem.n)
    hand = by_hand.task(data, lam, 0.01)
    exact = ri.exact_hypergradient(problem, lam, certify="never")
    condition = condition_number(problem.lower.hess_ww(lam, exact.w).dense())
    w = by_hand.packed(hand, exact.w)
    rows = {
        "dense": by_hand.dense_at(hand, w),
        "iterative": by_hand.iterative_at(hand, w, problem.d * 2.0**-52),
        "Newton": by_hand.dense_at(hand, by_hand.newton(hand, 1e-14)),
        "Newton-CG": by_hand.dense_at(hand, by_hand.newton_cg(hand, 1e-14)),
    }
    terms = float(np.linalg.norm(problem.lower.cross(lam, exact.w).dense()) * np.linalg.norm(exact.v))
    for row in rows.values():
        assert_rounded(row, exact.value, terms=terms, count=problem.d, condition=condition)


def test_a_missing_library_is_a_line_and_a_wrong_row_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> harness.Run:
        raise ImportError("no such library")

    rows = harness.compare(
        "three rows",
        {
            "first": lambda: lambda: np.ones(2),
            "missing": missing,
            "wrong": lambda: lambda: np.array([1.0, 2.0]),
        },
        tol=0.5,
        rounds=2,
    )
    said = capsys.readouterr().out
    assert set(rows) == {"first", "wrong"}
    assert "# missing: skipped (no such library)" in said
    assert next(line for line in said.splitlines() if "DISAGREES" in line).startswith("wrong")
    assert said.count("DISAGREES") == 1


def test_goals_compare_round_by_round(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {
        "base": harness.Row("base", 0.0, (1.0, 2.0, 9.0), 0.0, tol=0.0),
        "mine": harness.Row("mine", 0.0, (0.5, 1.0, 9.0), 0.0, tol=0.0),
        "other": harness.Row("other", 0.0, (0.5, 1.0, 9.0), 1.0, tol=0.5),
    }
    assert harness.ratio(rows, "mine", "base") == 0.5
    assert harness.goal(rows, "mine", "base", 0.5)
    assert not harness.goal(rows, "mine", "base", 0.4)
    assert not harness.goal(rows, "other", "base", 0.5)  # fast, and of something else
    assert harness.goal(rows, "mine", "absent", 0.4)  # nothing was measured, and the line says so
    said = capsys.readouterr().out
    assert [said.count(word) for word in (": met", ": MISSED", "not measured", "not judged")] == [
        1,
        1,
        1,
        1,
    ]


def test_more_blas_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with pytest.raises(SystemExit, match="make bench"):
        harness.pin()
    assert harness.one_thread()["OPENBLAS_NUM_THREADS"] == "1"


def test_rows_of_curvature_compute_one_matrix() -> None:
    # kills: copies of another sample, masks that are not scaled, the mean of a batch for that of its samples
    t = curvature.task(widths=(2, 3, 4, 1), samples=5)
    case = Case(curvature.expected(t).f, np.zeros(0), t.w, (curvature.KEEP,) * 4, "inverse")
    literal, count = covariances(case)["own masks"], steps(case.f, 16)
    for row in (curvature.our_closed_form(t), curvature.our_halves(t)):
        assert_rounded(row(), 5 * literal.value, terms=5 * literal.terms, count=count)
    one, many = (curvature.our_closed_form(t.first(k))() for k in (1, 7))
    assert_rounded(many, one, terms=25 * literal.terms, count=count)
    assert curvature.our_hessian(t)().shape == (len(t.w), len(t.w))
    if importlib.util.find_spec("jax") and __import__("jax").config.jax_enable_x64:
        assert_rounded(curvature.jax_masks(t)(), one, terms=25 * literal.terms, count=count)


def test_rows_of_ensembles_compute_one_thing() -> None:
    # kills: indices transposed, a ridge or a step of another size, the curve of another moment
    t = ensembles.task(d=3, terms=4, steps=6, replicates=5)
    T, w = t.transitions(), np.zeros((5, 3))
    for drawn in t.index:
        gap = (t.A[drawn] * w).sum(-1) - t.b[drawn]
        w = w - t.step * (gap[:, None] * t.A[drawn] + t.rho * w)
    size = float(max(1, np.abs(w).max()))
    assert np.abs(ensembles.our_ensemble(t)() - w).max() <= 6 * 10 * EPS * size
    S = np.diag([0.0, 0.0, 0.0, 1.0])
    for _ in range(6):
        S = (T @ S @ T.swapaxes(1, 2)).mean(0)
    moment = ensembles.our_moment(t)()
    assert np.abs(moment - S).max() <= 6 * (10 + 4 + 4) * EPS * np.abs(S).max()
    curve = ensembles.our_curve(t)()
    assert len(curve) == 7
    assert np.abs(curve[-1] - np.trace(S[:3, :3])) <= 6 * (10 + 4 + 4) * EPS * np.trace(S)
    if importlib.util.find_spec("jax") and __import__("jax").config.jax_enable_x64:
        assert np.abs(ensembles.jax_ensemble(t)() - w).max() <= 6 * 10 * EPS * size
        assert np.abs(ensembles.jax_moment(t)() - S).max() <= 6 * 18 * EPS * np.abs(S).max()
