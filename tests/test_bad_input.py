"""One table of bad input: each call is refused with its typed error, the number measured, and advice."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import backend
from refimpl.bounds import Region
from refimpl.constants import constants
from refimpl.datasets import load_cifar10, load_idx
from refimpl.errors import (
    BackendUnavailable,
    BadInput,
    Diverged,
    HypothesisViolated,
    NotCertified,
    NotConverged,
    RefimplError,
    TooLarge,
    WrongDerivative,
)
from refimpl.exact import enclose, solution_jacobian
from refimpl.exact.hypergradient import adjoint
from refimpl.objective import descent_map
from refimpl.problem import BilevelProblem
from refimpl.solvers import BiGSAM, GradientDescent
from refimpl.spaces import Indices, Product, expect
from refimpl.spaces.space import generator
from refimpl.zoo import degenerate, logistic, maps, quadratic, ridge, uppers, weighted_softmax
from tests.backends import round_trip

PROBLEM = quadratic.random(n=2, d=3, seed=0)
RIDGE = ridge.random(d=3, seed=0)
STRICT, RATIONAL, INTERVAL = (PROBLEM.to(name) for name in ("strict", "rational", "interval"))
SOLVED = ri.exact_hypergradient(PROBLEM, PROBLEM.start())
POINT = Region(PROBLEM.start(), np.zeros(3))
X, Y = np.ones((4, 2)), np.array([1.0, -1.0, 1.0, -1.0])
EMPTY = np.zeros((0, 2))


def _lam(lam: Any, problem: Any = PROBLEM) -> Callable[[], Any]:
    return lambda: ri.exact_hypergradient(problem, lam)


def _start(w: Any, problem: Any = PROBLEM) -> Callable[[], Any]:
    return lambda: ri.exact_hypergradient(problem, problem.start(), start=w)


def _file(content: bytes, load: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def call(folder: Path) -> Any:
        path = folder / "file"
        path.write_bytes(content)
        return load(path)

    return call


def _images(magic: int, *sizes: int, pixels: int) -> bytes:
    return magic.to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in sizes) + bytes(pixels)


class Wrong(quadratic.Quadratic):
    """Its gradient has the wrong sign."""

    def grad_w(self, lam: Any, w: Any) -> Any:
        return -super().grad_w(lam, w)


def _wrong() -> Any:
    q = PROBLEM.lower
    return Wrong(q.ww, q.lw, q.ll, q.w1, q.l1)


@dataclass(frozen=True)
class Row:
    """A call, the error it must raise, and a pattern of what the error must say was measured."""

    name: str
    call: Callable[..., Any]
    error: type[RefimplError]
    measured: str


TABLE = [
    # NaN and infinity
    Row("λ with a NaN", _lam(np.array([1.0, np.nan])), BadInput, "1 NaN"),
    Row("λ infinite", _lam(np.array([np.inf, -np.inf])), BadInput, "2 NaN or inf"),
    Row("λ with a NaN in a list", _lam([1.0, float("nan")]), BadInput, "1 NaN"),
    Row("λ with a NaN in a batch", _lam(np.array([[1.0, 1.0], [np.nan, 1.0]])), BadInput, "1 NaN"),
    Row("λ with a NaN on a device", _lam([1.0, float("nan")], STRICT), BadInput, "1 NaN"),
    Row("start infinite", _start(np.array([np.inf, 0.0, 0.0])), BadInput, "1 NaN or inf"),
    Row("rational NaN", lambda: RATIONAL.backend.asarray([np.nan]), BadInput, "nan"),
    Row("a NaN among the data", lambda: ridge.problem(X * np.nan, Y, X, Y), BadInput, "8"),
    # shapes
    Row("λ too long", _lam(np.zeros(3)), BadInput, r"\(3,\)"),
    Row("λ a number", _lam(1.0), BadInput, r"\(\)"),
    Row("λ transposed", _lam(np.zeros((2, 5))), BadInput, r"\(2, 5\)"),
    Row("start too short", _start(np.zeros(2)), BadInput, r"\(2,\)"),
    Row("λ ragged", _lam([[1.0], [1.0, 2.0]]), BadInput, "shape"),
    Row("λ missing", _lam(None), BadInput, "NoneType"),
    Row("rows and targets differ", lambda: ridge.problem(X, Y[:3], X, Y), BadInput, "4.*3"),
    Row("columns differ", lambda: ridge.problem(X, Y, X[:, :1], Y), BadInput, "2.*1"),
    Row("ww not square", lambda: quadratic.objective(ww=np.ones((2, 3)), n=1), BadInput, r"\(2, 3\)"),
    Row("ww not symmetric", lambda: quadratic.objective(ww=[[1.0, 2.0], [0.0, 1.0]], n=1), BadInput, "2"),
    Row("map not square", lambda: maps.affine(np.ones((2, 3)), np.ones((2, 1))), BadInput, r"\(2, 3\)"),
    Row("a batch where one point is meant", lambda: solution_jacobian(PROBLEM, np.zeros((4, 2))),
        BadInput, r"\(4, 2\)"),
    # dtypes
    Row("λ float32", _lam(np.zeros(2, dtype=np.float32)), BadInput, "float32"),
    Row("λ complex", _lam(np.zeros(2, dtype=complex)), BadInput, "complex128"),
    Row("λ complex in a list", _lam([1j, 2.0]), BadInput, "complex128"),
    Row("λ of objects", _lam(np.array([1.0, 2.0], dtype=object)), BadInput, "object"),
    Row("λ boolean", _lam(np.array([True, False])), BadInput, "bool"),
    Row("a truth value in a list for λ", _lam([0.5, True]), BadInput, "truth values"),
    Row("λ of strings", _lam(["a", "b"]), BadInput, "<U1"),
    Row("float64 λ for a float32 problem", _lam(np.zeros(2), PROBLEM.to("numpy", dtype="float32")),
        BadInput, "float64"),
    Row("floats among rationals", _lam(np.array([1.0, 2.0], dtype=object), RATIONAL),
        BadInput, "2 others.*float"),
    Row("balls among rationals", _lam(INTERVAL.start(), RATIONAL), BadInput, "2 others.*arb"),
    Row("a NaN ball", lambda: INTERVAL.lam(INTERVAL.start() * float("inf") * 0), BadInput, "2 others.*nan"),
    Row("a string among rationals", lambda: RATIONAL.backend.scalar("1/3"), BadInput, "str"),
    Row("half precision", lambda: PROBLEM.to("numpy", dtype="float16"), BadInput, "float16"),
    # sets and hypotheses
    Row("λ on an open boundary", _lam([0.0], RIDGE), HypothesisViolated, "smallest entry 0"),
    Row("λ outside its set", _lam([-1.5], RIDGE), HypothesisViolated, "smallest entry -1.5"),
    Row("one λ of a batch outside", _lam([[1.0], [-2.0]], RIDGE), HypothesisViolated, "smallest entry -2"),
    Row("λ outside over the rationals", _lam([-1], RIDGE.to("rational")),
        HypothesisViolated, "smallest entry -1"),
    Row("an indefinite lower level", lambda: _case("indefinite"), HypothesisViolated, "pivot 2 of 2.*-1"),
    Row("a singular lower level", lambda: _case("singular"), HypothesisViolated, "pivot 2 of 2.*0"),
    Row("indefinite over the rationals", lambda: _case("indefinite", "rational"),
        HypothesisViolated, "exact pivot 1 of 2.*-1"),
    Row("indefinite on a device", lambda: _case("indefinite", "strict"),
        HypothesisViolated, "positive definite"),
    Row("a singular fixed point", lambda: ri.exact_hypergradient(maps.line(1.0), [1.0]),
        HypothesisViolated, "0"),
    Row("a spectrum with a zero", lambda: quadratic.random(n=1, d=2, seed=0, spectrum=[0.0, 1.0]),
        BadInput, "0.0"),
    Row("no ridge", lambda: weighted_softmax.problem(X, [0, 1, 0, 1], X, [0, 1, 0, 1], classes=2, reg=0.0),
        BadInput, "0.0"),
    Row("a map that does not contract", lambda: _constants(degenerate.not_a_contraction().problem, 3, 3),
        HypothesisViolated, "q <= 1.5"),
    Row("a step too long to contract", lambda: constants(PROBLEM, POINT, step=1.0),
        HypothesisViolated, "q <= 9"),
    Row("no best step", lambda: _constants(degenerate.indefinite_hessian().problem, 1, 2),
        HypothesisViolated, "-1"),
    Row("a kink", lambda: _case("kink"), NotConverged, "‖r‖ = "),
    Row("a descent that diverges", lambda: _descend(10.0), Diverged, "NaN or infinite"),
    Row("a derivative through what diverges", lambda: _through(ri.approximate.reverse, 600), Diverged,
        "NaN or infinite entries in the hypergradient"),
    Row("the last of its steps", lambda: _through(ri.approximate.truncated, 600, last=400), Diverged,
        "NaN or infinite entries in the hypergradient"),
    Row("a truth value for BiG-SAM's weight", lambda: BiGSAM(3, s=0.1, t=0.1, alpha=True), BadInput, "True"),
    Row("a negative penalty", lambda: ri.approximate.penalty(PROBLEM, PROBLEM.start(), gamma=-1.0),
        BadInput, "-1.0"),
    Row("a truth value for a seed", lambda: generator(True), BadInput, "True"),
    # stages
    Row("the adjoint at a w that does not solve", lambda: adjoint(PROBLEM, PROBLEM.start(), SOLVED.w + 1e-8),
        NotConverged, r"‖r‖ = \d\.\d+e-0[78]"),
    Row("the adjoint at the origin", lambda: adjoint(PROBLEM, PROBLEM.start(), np.zeros(3)),
        NotConverged, "‖r‖ = "),
    Row("w'(λ) at a w that does not solve",
        lambda: solution_jacobian(PROBLEM, PROBLEM.start(), w=np.zeros(3)),
        NotConverged, "‖r‖ = "),
    Row("NaN handed to the adjoint", lambda: adjoint(PROBLEM, PROBLEM.start(), SOLVED.w * np.nan),
        BadInput, "3 NaN"),
    Row("a wrong derivative", lambda: ri.check_derivatives(_wrong()), WrongDerivative, "largest error"),
    Row("a perturbed value", lambda: _certify(value=SOLVED.value + 1e-9), NotCertified, "residual 1.4"),
    Row("a solve over balls", _lam(INTERVAL.start(), INTERVAL), BadInput, "interval"),
    Row("a square root over the rationals", lambda: RATIONAL.backend.sqrt(RATIONAL.start()),
        BadInput, "square root"),
    # sizes
    Row("too many points", lambda: expect(Product((Indices(3000), Indices(3000))), lambda p: p[0]),
        TooLarge, "9000000"),
    Row("too large to enclose", lambda: enclose(quadratic.random(n=1, d=65, seed=0), [0.0], np.zeros(65)),
        TooLarge, "d = 65"),
    Row("a batch to enclose", lambda: ri.exact_hypergradient(PROBLEM, np.zeros((2, 2)), certify="always"),
        TooLarge, r"\(2, 2\)"),
    # empty data
    Row("no terms", lambda: Indices(0), BadInput, "0"),
    Row("no training rows", lambda: ridge.problem(EMPTY, [], X, Y), BadInput, r"\(0, 2\)"),
    Row("no validation rows", lambda: logistic.problem(X, Y, EMPTY, []), BadInput, r"\(0, 2\)"),
    Row("no features", lambda: ridge.problem(np.zeros((4, 0)), Y, np.zeros((4, 0)), Y),
        BadInput, r"\(4, 0\)"),
    Row("no samples to clean",
        lambda: weighted_softmax.problem(EMPTY, [], X, [0, 1, 0, 1], classes=2, reg=0.1),
        BadInput, r"\(0, 2\)"),
    Row("no weights", lambda: ri.from_function(lambda lam, w: 0.0, n=1, d=0), BadInput, "d = 0"),
    # labels and options
    Row("labels that are no signs", lambda: logistic.problem(X, [0, 1, 0, 1], X, Y), BadInput, "0"),
    Row("a label beyond the classes", lambda: uppers.cross_entropy(X, [0, 1, 2, 3], classes=3, n=0),
        BadInput, "3"),
    Row("unknown certify option", lambda: ri.exact_hypergradient(PROBLEM, PROBLEM.start(), certify="yes"),
        BadInput, "yes"),
    Row("a step of zero", lambda: descent_map(PROBLEM.lower, 0.0), BadInput, "0.0"),
    Row("a count below zero", lambda: GradientDescent(-1), BadInput, "-1"),
    Row("a radius below zero", lambda: Region([0.0], [0.0], w_radius=-1.0), BadInput, "-1"),
    Row("a vector for a scalar function",
        lambda: ri.from_function(lambda lam, w: w, n=1, d=2).grad_w(np.zeros(1), np.zeros(2)),
        BadInput, r"\(2,\)"),
    # mixed backends
    Row("a NumPy array for a device problem", _lam(np.zeros(2), STRICT), BadInput, "numpy.ndarray"),
    Row("a device array for a NumPy problem", _lam(STRICT.start()), BadInput, "device1"),
    Row("an array of the wrong device", _lam(PROBLEM.to("strict", device="CPU_DEVICE").start(), STRICT),
        BadInput, "CPU_DEVICE"),
    Row("a NumPy start for a device problem", _start(np.zeros(3), STRICT), BadInput, "numpy.ndarray"),
    Row("floats for a rational problem", _lam(np.zeros(2), RATIONAL), BadInput, "float64"),
    Row("rationals for a NumPy problem", _lam(RATIONAL.start()), BadInput, "object"),
    Row("levels on two backends", lambda: BilevelProblem(PROBLEM.upper, STRICT.lower), BadInput, "strict"),
    Row("levels of two sizes",
        lambda: BilevelProblem(PROBLEM.upper, quadratic.random(n=2, d=4, seed=0).lower),
        BadInput, "d=4"),
    Row("a bare function on a device", lambda: ri.from_function(lambda lam, w: w @ w, n=1, d=2).to("strict"),
        BadInput, "'f'"),
    Row("an unknown backend", lambda: PROBLEM.to("tensorflow"), BadInput, "tensorflow"),
]  # fmt: skip

FILES = [
    Row("an IDX file of the wrong magic", _file(_images(0x0D03, 1, 2, 2, pixels=4), lambda p: load_idx(p, p)),
        BadInput, "0x"),
    Row("an IDX file cut short", _file(_images(0x0803, 2, 2, 2, pixels=7), lambda p: load_idx(p, p)),
        BadInput, "23"),
    Row("an IDX file with bytes to spare",
        _file(_images(0x0803, 2, 2, 2, pixels=9), lambda p: load_idx(p, p)),
        BadInput, "25"),
    Row("an empty file", _file(b"", load_cifar10), BadInput, "0"),
    Row("a CIFAR file cut short", _file(bytes(3072), load_cifar10), BadInput, "3072"),
    Row("a CIFAR label beyond its classes", _file(b"\x0a" + bytes(3072), load_cifar10), BadInput, "10"),
    Row("a file that is not there", lambda folder: load_cifar10(folder / "absent"), BadInput, "absent"),
]  # fmt: skip


def _case(label: str, name: str = "numpy") -> Any:
    problem = next(c for c in degenerate.cases() if c.label == label).problem.to(name)
    return ri.exact_hypergradient(problem, problem.backend.asarray([2.0, 0.5] if label == "kink" else [1.0]))


def _constants(problem: Any, n: int, d: int) -> Any:
    return constants(problem, Region(np.ones(n), np.zeros(d)))


def _through(mode, steps, **options):
    """The iterates themselves stay finite: 3^600 is below the largest float, its square is not."""
    q = quadratic.random(n=2, d=3, seed=0)
    return mode(q, q.start(), lower=GradientDescent(steps, _long(q)), **options)


def _long(problem):
    """The step at which the largest eigenvalue L of the lower Hessian has 1 − step L = −3."""
    H = problem.lower.hess_ww(problem.start(), np.zeros(3)).dense()
    return 4 / float(np.linalg.eigvalsh(H)[-1])


def _descend(step: float) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        return GradientDescent(1000, step).run(PROBLEM, PROBLEM.start(), np.ones(3))


def _certify(**changed: Any) -> Any:
    good = {"w": SOLVED.w, "v": SOLVED.v, "value": SOLVED.value}
    return ri.exact.certify(PROBLEM, PROBLEM.start(), **good | changed)


def _judge(row: Row, call: Callable[[], Any]) -> None:
    with pytest.raises(RefimplError) as caught:
        call()
    error = caught.value
    assert type(error) is row.error, error
    assert re.search(row.measured, f"{error.what}\n{error.measured}"), error
    assert error.measured is not None
    assert str(error.measured) in str(error)
    assert error.required, error
    assert len(error.advice) > 10, error
    again = round_trip(error)  # workers send them back
    assert (type(again), str(again), again.advice) == (type(error), str(error), error.advice)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_bad_input_is_refused(row):
    _judge(row, row.call)


@pytest.mark.parametrize("row", FILES, ids=lambda row: row.name)
def test_corrupt_files_are_refused(row, tmp_path):
    _judge(row, lambda: row.call(tmp_path))


@pytest.mark.parametrize(("name", "module"), [("cupy", "cupy"), ("torch", "torch"), ("jax", "jax")])
def test_an_absent_package_is_named_with_its_extra(name, module):
    """Named without the word that selects the tests which need JAX: this one needs it absent."""
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed here")
    _judge(Row(name, lambda: None, BackendUnavailable, "import fails"), lambda: backend(name))
    with pytest.raises(BackendUnavailable, match=r"pip install 'refimpl\["):
        PROBLEM.to(name)


def test_whole_numbers_are_welcome():
    """The one conversion made silently, since it loses nothing."""
    for lam in ([1, 2], (1, 2), np.array([1, 2]), np.array([1, 2], dtype=np.uint8)):
        assert PROBLEM.lam(lam).tolist() == [1.0, 2.0]
    assert np.array_equal(_lam([1, 2])().value, _lam([1.0, 2.0])().value)


def test_errors_are_one_family():
    for error in (BackendUnavailable, BadInput, HypothesisViolated, NotCertified, NotConverged, TooLarge):
        assert issubclass(error, RefimplError)
    assert issubclass(BadInput, ValueError)
    assert str(RefimplError("what")) == "what"


# -- JAX: selected by its name in .ci/run, where it is installed -----------------------------------------
WITHOUT_X64 = """
import refimpl as ri
try:
    ri.zoo.quadratic.random(n=2, d=3, seed=0).to("jax")
except ri.errors.BackendUnavailable as e:
    assert e.measured == "jax_enable_x64 = False", e
    assert "jax_enable_x64" in e.advice, e
    print("refused")
"""
WITH_X64 = """
import numpy as np
import refimpl as ri
for make in (
    lambda: ri.zoo.quadratic.random(n=2, d=3, seed=0),
    lambda: ri.zoo.quadratic.random(n=2, d=3, seed=0).as_fixed_point(0.125),
    lambda: ri.zoo.logistic.random(d=3, seed=0),
):
    problem = make()
    there = problem.to("jax")
    try:
        there.lam(problem.start())
    except ri.errors.BadInput as e:
        assert "numpy.ndarray" in e.measured, e
    else:
        raise SystemExit("a NumPy array was taken for a JAX array")
    found, here = (ri.exact_hypergradient(p, p.start()) for p in (there, problem))
    assert found.value.dtype == "float64" and found.kind == here.kind == "bounded", found
    assert np.linalg.norm(np.asarray(found.value) - here.value) <= found.bound + here.bound
print("equal")
"""


@pytest.mark.parametrize(
    ("x64", "program", "said"), [("0", WITHOUT_X64, "refused"), ("1", WITH_X64, "equal")]
)
def test_jax_without_x64_is_refused_and_with_it_agrees(x64, program, said):
    if not importlib.util.find_spec("jax"):
        pytest.skip("JAX is not installed; .ci/run installs it")
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_ENABLE_X64": x64, "JAX_PLATFORMS": "cpu"},
    )
    assert ran.stdout.strip() == said, ran.stderr
