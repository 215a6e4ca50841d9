"""Conjugate gradients in float64: how small a true residual can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import Backend
from refimpl.operators import matrix
from refimpl.solvers import ConjugateGradient, LinearSolution
from refimpl.zoo.quadratic import spectrum_matrix
from verification.instances import EPS, tidy
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

STEPS = 50  # times d: more than CG ever needed here


@dataclass(frozen=True)
class System:
    """A x = b whose spectrum was chosen: κ is known without computing it."""

    a: np.ndarray
    b: np.ndarray
    spectrum: np.ndarray
    allowed: int  # the most steps that CG may take

    @cached_property
    def found(self) -> LinearSolution:
        """Where CG stops: its own residual at ε‖b‖, or out of steps."""
        operator = matrix(Backend(), self.a, symmetric=True)
        return ConjugateGradient(self.allowed, tol=EPS).solve(operator, self.b)


def system(params: Mapping[str, Any]) -> System:
    """Log-spaced eigenvalues over κ = 10^digits at scale 10^scale; b leans to the small ones as ``lean`` grows."""
    d, rng = params["d"], np.random.default_rng(params["seed"])
    kappa = 10.0 ** params["digits"] if d > 1 else 1.0
    spectrum = 10.0 ** params["scale"] * np.geomspace(1, kappa, d)
    a = spectrum_matrix(spectrum.tolist(), rng)
    vectors = np.linalg.eigh(a)[1]
    b = vectors @ (spectrum ** -params["lean"] * rng.standard_normal(d))
    a[0, -1] += params.get("skew", 0) * spectrum[-1]
    return System(a, b, spectrum, params.get("allowed", STEPS * d))


def reached(allowed: Callable[[float, int], float]) -> Callable[[System], Measurement]:
    """The true residual ‖b − A x‖ where CG stops (its own residual at eps‖b‖) against allowed(κ, d)·eps·‖b‖."""

    def measure(system: System) -> Measurement:
        d, found = len(system.b), system.found
        kappa = float(system.spectrum[-1] / system.spectrum[0])
        size = float(np.linalg.norm(system.b))
        bound = allowed(kappa, d) * EPS * size
        return Measurement(
            observed=float(np.linalg.norm(found.residual)),
            bound=bound,
            detail={"kappa": kappa, "steps": found.steps},
        )

    return measure


def _definite(system: System) -> tuple[bool, Any]:
    asymmetry = float(np.abs(system.a - system.a.T).max())
    return asymmetry == 0 and bool(system.spectrum[0] > 0), asymmetry


def _stopped(system: System) -> tuple[bool, Any]:
    return system.found.steps < system.allowed, f"{system.found.steps} of {system.allowed} steps"


def params(d: int, digits: float, lean: float = 1.0, **more: Any) -> dict[str, Any]:
    """Parameters of one system."""
    return {"d": d, "digits": digits, "scale": 0.0, "lean": lean, "seed": 0, **more}


CLAIMS = (
    Claim(
        id="reweighting/cg-float",
        title="The residual that conjugate gradients reach in float64",
        source="reweighting, after (13); A. Greenbaum 1997 for the attainable accuracy",
        statement=r"$$\|b - Ax\| \le 10\,d\,\varepsilon\,\kappa\,\|b\|$$ where CG stopped at x because its "
        r"own residual is at most $\varepsilon\|b\|$.",
        hypotheses=(
            Hypothesis("symmetric positive definite", r"A = A^\top \succ 0", _definite),
            Hypothesis("stopped by its own residual", r"\text{fewer than } 50\,d \text{ steps}", _stopped),
        ),
        strategy=st.fixed_dictionaries(
            {
                "d": st.integers(1, 8),
                "digits": st.floats(0, 10).map(tidy),
                "scale": st.floats(-3, 3).map(tidy),
                "lean": st.floats(-1, 2).map(tidy),
                "seed": st.integers(0, 999),
            }
        ),
        explicit=(params(1, 0.0), params(2, 0.0), params(2, 4.0), params(3, 6.0), params(4, 8.0, lean=2.0)),
        build=system,
        measure=reached(lambda kappa, d: 10 * d * kappa),
        grade="exact",
        controls=(
            Control("not symmetric", params=params(3, 1.0, skew=1.0)),
            Control("out of steps", params=params(3, 6.0, allowed=1)),
            Control("κ dropped", kind="formula", measure=reached(lambda kappa, d: 10 * d)),
            Control("√κ for κ", kind="formula", measure=reached(lambda kappa, d: 10 * d * kappa**0.5)),
        ),
        budget=Budget(quick=120, full=1000),
        notes="The residual that CG updates drifts from the true one by about "
        "$\\varepsilon\\|A\\|\\max_j\\|x_j\\|$ per step, and $\\|x_j\\| \\le \\|x\\| \\le \\|b\\|/\\mu$, "
        "hence $\\varepsilon\\kappa\\|b\\|$ times the number of steps $k$: the constant $10\\,d$ in its place is "
        "hunted, not derived. A solver that reports its own residual claims more than it has: "
        "without $\\kappa$ the statement fails.",
    ),
)
