"""Digits hyper-cleaning: 500 + 500 samples, 640 weights, 500 hyperparameters, 30 % of the labels corrupted.

It times the hypergradient at w*, and from w = 0, beside hand-written NumPy and SciPy, JAX and jaxopt: one process,
one core, interleaved rounds.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import harness

REG, TOL, LINEAR_TOL = 0.01, 1e-10, 1e-12
AGREE = 1e-6  # from 0 the rows end at different iterates, each with max |∇_wG| <= TOL


def main() -> int:
    """Print both tables and the goals; the number of goals missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")
    rounds = parser.parse_args().rounds
    harness.pin()

    import numpy as np

    import refimpl as ri
    from benchmarks import by_hand, with_jax

    data = ri.zoo.weighted_softmax.digits_data(train=500, validation=500, corrupted=0.3, seed=0)
    problem = ri.zoo.weighted_softmax.digits(train=500, validation=500, corrupted=0.3, seed=0, reg=REG)
    lam = np.random.default_rng(0).standard_normal(problem.n)
    hand = by_hand.task(data, lam, REG)
    solved = ri.exact_hypergradient(problem, lam)
    w_hand = by_hand.packed(hand, solved.w)

    print(f"# {harness.machine('refimpl', 'numpy', 'scipy', 'jax', 'jaxopt')}")
    print(f"# matrix products reach {harness.dgemm_rate():.0f} Gflop/s")
    exact = "refimpl exact_hypergradient"
    at_solution = harness.compare(
        "hypergradient at w*: dense Hessian, direct solve",
        {
            "scipy hand": lambda: lambda: by_hand.dense_at(hand, w_hand),
            exact: lambda: lambda: ri.exact_hypergradient(problem, lam, start=solved).value,
            "jax.hessian + solve": lambda: with_jax.dense_at(hand, w_hand),
        },
        tol=10 * problem.d * problem.backend.eps / solved.rcond,
        rounds=rounds,
    )
    lower, linear = ri.solvers.NewtonCG(tol=TOL), ri.solvers.ConjugateGradient(tol=LINEAR_TOL)
    implicit = "refimpl implicit, Newton-CG + CG"
    from_zero = harness.compare(
        f"from w = 0: lower level to {TOL:g}, then the hypergradient",
        {
            "numpy hand Newton-CG + CG": lambda: (
                lambda: by_hand.iterative_at(hand, by_hand.newton_cg(hand, TOL), LINEAR_TOL)
            ),
            implicit: lambda: lambda: ri.approximate.implicit(problem, lam, lower=lower, linear=linear).value,
            exact: lambda: lambda: ri.exact_hypergradient(problem, lam).value,
            "scipy hand Newton": lambda: lambda: by_hand.dense_at(hand, by_hand.newton(hand, TOL)),
            "jax Newton": lambda: with_jax.newton(hand, TOL),
            "jaxopt LBFGS + implicit CG": lambda: with_jax.jaxopt_lbfgs(hand, TOL, LINEAR_TOL),
        },
        tol=AGREE,
        rounds=rounds,
    )
    print()
    met = [
        harness.goal(at_solution, exact, "jax.hessian + solve", 0.25),
        harness.goal(from_zero, implicit, "numpy hand Newton-CG + CG", 1.2),
    ]
    return met.count(False)


if __name__ == "__main__":
    sys.exit(main())
