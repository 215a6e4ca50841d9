"""A hyperparameter that is a number is no truth value, NaN, infinity, text or array: refused where it is made."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from numbers import Number

import flint
import numpy as np
import pytest

from refimpl import algorithms, lengths, rates, solvers
from refimpl.algorithms.ghadimi2018bsa import neumann_terms
from refimpl.algorithms.ji2021stocbio import hessian_batches
from refimpl.approximate import SID
from refimpl.approximate.inverse import ProductNeumann, SumNeumann
from refimpl.approximate.iteration import StochasticIteration
from refimpl.approximate.penalty import InnerDescent, InnerGaussNewton
from refimpl.arrays import backend
from refimpl.bounds import Region
from refimpl.errors import BadInput
from refimpl.sets import Ball, Box, Rows, SpectralBall, gradient_mapping
from refimpl.spaces import Bernoulli, Indices, Minibatch, Repeated
from refimpl.training import Adam, Nesterov
from refimpl.training import GradientDescent as TrainingDescent
from refimpl.variances import Noise, noise
from refimpl.zoo.maps import line

PRODUCT, SUM = ProductNeumann(2, 4.0), SumNeumann(0.1, 2)
STEPS = {"alpha": 0.1, "beta": 0.1}
MADE = [
    rates.Constant(0.1), rates.Harmonic(2, 3), rates.Power(1, 0.5), rates.Drops(0.5, (2, 3), 2), rates.WarmUp(5, 3),
    lengths.Fixed(2), lengths.Growing(2, 0.5), lengths.Logarithmic(1.5, 2.0),
    solvers.FixedPoint(2), solvers.GradientDescent(2, 0.1), solvers.HeavyBall(2, 0.1, 0.5),
    solvers.ConjugateGradient(2, 1e-3), solvers.NormalCG(2, 1e-3), solvers.Neumann(2, 0.1),
    solvers.FixedPointAdjoint(2), solvers.Newton(), solvers.NewtonCG(), solvers.Averaging(0.5, 0.5),
    solvers.BiGSAM(3, s=0.1, t=0.1, alpha=0.5, every=2), solvers.SoftThreshold(0.1),
    PRODUCT, SUM, StochasticIteration(2, 0.1, 1), InnerDescent(2, 0.1), InnerGaussNewton(2),
    SID(t=1, k=1, rate=0.1, linear_rate=0.1), Noise(sigma1=1.0),
    TrainingDescent(0.1), Adam(0.1), Nesterov(0.1),
    Ball(1.0), SpectralBall(2, 2, 1.0), Rows(2, Ball(1.0)), Region([0.0], [0.0]),
    Indices(3), Minibatch(3, 2), Repeated(Indices(2), 2),
    algorithms.AmIGO(**STEPS, gamma=0.1, steps=1, linear_steps=1), algorithms.ALSET(inverse=PRODUCT, steps=1),
    algorithms.ALSETDagger(), algorithms.STABLE(mu=1.0, radius=1.0), algorithms.STABLEVR(**STEPS, mu=1.0),
    algorithms.BSA(inverse=PRODUCT, beta=0.1, terms=2), algorithms.BSGM(t=1, k=1, J=1, alpha=0.1),
    algorithms.SMB(**STEPS, inverse=PRODUCT, b=0.1), algorithms.TTSA(inverse=PRODUCT),
    algorithms.SaBiAdam(**STEPS, inverse=PRODUCT), algorithms.VRSaBiAdam(**STEPS, inverse=PRODUCT),
    algorithms.StocBiO(**STEPS, inverse=SUM, steps=1), algorithms.SUSTAIN(inverse=PRODUCT),
    algorithms.MRBO(**STEPS, inverse=SUM), algorithms.VRBO(**STEPS, inverse=SUM, period=2, inner=1),
    algorithms.FSLA(delta=0.1), algorithms.DropoutFSLA(delta=0.1, r=1.0),
    algorithms.L2RW(alpha=0.1), algorithms.MetaWeightNet(alpha=0.1, eta=0.1),
    algorithms.Penalty(**STEPS, gamma=0.1), algorithms.AugmentedLagrangianMethod(**STEPS, gamma=0.1),
    algorithms.Improved(lower=solvers.BiGSAM(3, s=0.1, t=0.1, alpha=0.5), nu=0.1),
]  # fmt: skip
KINDS = Number | rates.Rate | lengths.Length
NUMBERS = [
    pytest.param(thing, field.name, id=f"{type(thing).__module__.rpartition('.')[2]}.{field.name}")
    for thing in MADE
    for field in dataclasses.fields(thing)
    if isinstance(getattr(thing, field.name), KINDS) and not isinstance(getattr(thing, field.name), bool)
]
NONE = (True, np.True_, math.nan, -math.inf, "1", np.str_("1"), b"1", 1j, [0.5], np.full(2, 0.5), {}, object(),
        np.array("1"), np.timedelta64(1))  # fmt: skip


@pytest.mark.parametrize(("thing", "name"), NUMBERS)
def test_what_is_no_number_is_no_hyperparameter(thing, name):
    for wrong in NONE:
        with pytest.raises(BadInput) as caught:
            dataclasses.replace(thing, **{name: wrong})
        assert caught.value.advice
    if not isinstance(thing, Region):  # whose radius may be infinite
        with pytest.raises(BadInput):
            dataclasses.replace(thing, **{name: math.inf})


def test_every_algorithm_of_the_table_is_among_them():
    made = {type(thing) for thing in MADE}
    every = {row for row in vars(algorithms).values() if isinstance(row, type)}
    concrete = {c for c in every if issubclass(c, algorithms.Algorithm) and not c.__abstractmethods__}
    assert concrete <= made


@pytest.mark.parametrize("momentum", [-0.1, 1, 1.5, Fraction(1), None])
def test_the_momentum_of_the_heavy_ball_is_below_1(momentum):
    # kills: momentum-1, any-momentum
    with pytest.raises(BadInput, match=r"0 <= momentum < 1"):
        solvers.HeavyBall(1, 0.1, momentum)
    for right in (0, Fraction(1, 2), flint.fmpq(1, 2)):
        assert solvers.HeavyBall(1, right or 0.1, right).momentum == right


@pytest.mark.parametrize("step", [0, -0.1, Fraction(-1)])
@pytest.mark.parametrize("solver", [solvers.GradientDescent, solvers.HeavyBall])
def test_a_step_that_is_none_is_refused_before_it_is_made(solver, step):
    with pytest.raises(BadInput, match="the step is out of range"):
        solver(1, step)
    assert solver(1).step is None


def test_numbers_of_functions():
    # kills: bsa/terms-of-any-smoothness, sets/mapping-of-any-step, stocbio/batches-of-*
    point = np.zeros(2)
    for wrong in (*NONE, math.inf):
        for call in (
            lambda x: neumann_terms(x, 2.0),
            lambda x: neumann_terms(1.0, x),
            lambda x: gradient_mapping(None, point, point, x, backend("numpy")),
            lambda x: hessian_batches(x, 3, 0.5),
            lambda x: hessian_batches(2, 3, x),
            lambda x: noise(line(0.5), [0.0], growth=x),
        ):
            with pytest.raises(BadInput):
                call(wrong)
    assert neumann_terms(1.0, 1.0)(7) == 1


def test_bounds_are_numbers():
    for wrong in (True, np.array([True]), "1", {}, 10**400, 1j, math.nan):
        for make in (lambda x: Box(x, None), lambda x: Box(None, x), lambda x: Ball(1.0, x)):
            with pytest.raises(BadInput):
                make(wrong)


def test_a_keep_probability_beyond_floats():
    with pytest.raises(BadInput, match=r"outside \[0, 1\]"):
        Bernoulli([10**400])


def test_lengths_of_rationals_are_those_of_fractions():
    # kills: a scale or a factor that only floats and Fractions can have
    for exact in (lambda *x: Fraction(*x), lambda *x: flint.fmpq(*x)):
        assert [lengths.Growing(exact(1, 3))(s) for s in (2, 3)] == [1, 2]
        assert [lengths.Growing(exact(3), exact(1, 2))(s) for s in (0, 3)] == [3, 6]
        assert [lengths.Logarithmic(exact(2), exact(3, 2))(s) for s in (0, 3)] == [1, 4]
