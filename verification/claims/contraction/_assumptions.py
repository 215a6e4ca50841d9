"""Assumptions A(ii)–(iv), B(i), (ii), (iv) as predicates: what the constants promise between an instance's points."""

from __future__ import annotations

import itertools as it
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from refimpl import FixedPointProblem
from refimpl.arrays.backend import Array
from verification.claims.contraction._instances import Case, Place, symbol
from verification.model import Control, Hypothesis

Derivative = Callable[[Array, Array], Array]


class Instance(Protocol):
    """A problem, its stated constants, and the λs and ws of the claim: every pair (λ, w) is looked at."""

    @property
    def of(self) -> Case: ...
    @property
    def place(self) -> Place: ...
    @property
    def grid(self) -> tuple[Sequence[Array], Sequence[Array]]: ...


# the derivative that each constant bounds (L_E, L_Φ) or whose Lipschitz constant it is, in w or (``_bar``) in λ
BOUNDED: dict[str, Callable[[FixedPointProblem], Derivative]] = {
    "nu1": lambda problem: lambda lam, w: problem.phi.d_w(lam, w).dense(),
    "nu2": lambda problem: lambda lam, w: problem.phi.d_lam(lam, w).dense(),
    "mu1": lambda problem: problem.upper.grad_w,
    "mu2": lambda problem: problem.upper.grad_lam,
}
BOUNDED["L_E"], BOUNDED["L_Phi"] = BOUNDED["mu1"], BOUNDED["nu2"]

TEX = {
    "nu1": r"\partial_1\Phi(\cdot,\lambda)\ \nu_1\text{-Lipschitz}",
    "nu2": r"\partial_2\Phi(\cdot,\lambda)\ \nu_2\text{-Lipschitz}",
    "mu1": r"\nabla_1E(\cdot,\lambda)\ \mu_1\text{-Lipschitz}",
    "mu2": r"\nabla_2E(\cdot,\lambda)\ \mu_2\text{-Lipschitz}",
    "L_E": r"\|\nabla_1E\|\le L_E",
    "mu1_bar": r"\nabla_1E(w,\cdot)\ \bar\mu_1\text{-Lipschitz}",
    "mu2_bar": r"\nabla_2E(w,\cdot)\ \bar\mu_2\text{-Lipschitz}",
    "nu1_bar": r"\partial_1\Phi(w,\cdot)\ \bar\nu_1\text{-Lipschitz}",
    "nu2_bar": r"\partial_2\Phi(w,\cdot)\ \bar\nu_2\text{-Lipschitz}",
    "L_Phi": r"\|\partial_2\Phi(w(\lambda),\lambda)\|\le L_\Phi",
}
PARTS = {
    "A(ii)": ("nu1", "nu2"),
    "A(iii)": ("mu1", "mu2"),
    "A(iv)": ("L_E",),
    "B(i)": ("mu1_bar", "mu2_bar"),
    "B(ii)": ("nu1_bar", "nu2_bar"),
    "B(iv)": ("L_Phi",),
}
IN_W = ("nu1", "nu2", "mu1", "mu2", "L_E")


def kept(one: Instance, name: str) -> tuple[bool, str]:
    """Whether the instance's derivatives keep to the constant ``name``, and by how much they exceed what it allows.

    Up to 10 max(n, d) eps of the sizes of the terms: of both values, the value at the origin, the points times the
    constant, and 1, as I − ηH cancels.
    """
    if one.place.proved is None:
        return False, "no constants are proved on the region"
    problem, stated = one.of.problem, float(getattr(one.place.constants, name))
    derivative, norm = BOUNDED[name.removesuffix("_bar")](problem), np.linalg.norm
    lams, ws = one.grid
    origin = 1 + float(norm(derivative(0 * lams[0], 0 * ws[0]), 2))
    eps, ok, most = 10 * max(problem.n, problem.d) * problem.backend.eps, True, 0.0
    lipschitz = not name.startswith("L_")
    for (lam, w), (lam2, w2) in _ends(name, lams, ws):
        a, b = derivative(lam, w), derivative(lam2, w2)
        moved = float(norm(a - b if lipschitz else a, 2))
        allowed = stated * float(norm(lam - lam2) + norm(w - w2)) if lipschitz else stated
        size = origin + float(norm(a, 2) + norm(b, 2) + stated * (norm(lam) + norm(w)))
        ok, most = ok and moved <= allowed + eps * size, max(most, moved - allowed)
    return ok, f"{symbol(name)} = {stated:.4g}, exceeded by {most:.3g}"


def _ends(name: str, lams: Sequence[Array], ws: Sequence[Array]) -> list[tuple[tuple[Array, Array], ...]]:
    """Pairs of points (λ, w) that differ in w alone, in λ alone (``_bar``) or not at all (L_E, L_Φ)."""
    if name == "L_Phi":  # on the solution path alone: the i-th w belongs to the i-th λ
        return [(at, at) for at in zip(lams, ws, strict=False)]
    if name == "L_E":
        return [(at, at) for at in it.product(lams, ws)]
    if name.endswith("_bar"):
        return [((lam, w), (lam2, w)) for w in ws for lam, lam2 in it.pairwise(lams)]
    return [((lam, w), (lam, w2)) for lam in lams for w, w2 in it.pairwise(ws)]


def assumptions(*names: str) -> tuple[Hypothesis, ...]:
    """One hypothesis for every assumption of the document that some of the constants belong to."""
    return tuple(
        Hypothesis(label, r",\ ".join(TEX[name] for name in used), _all(used))
        for label, part in PARTS.items()
        if (used := tuple(name for name in part if name in names))
    )


def _all(names: tuple[str, ...]) -> Callable[[Instance], tuple[bool, str]]:
    def predicate(one: Instance) -> tuple[bool, str]:
        seen = [kept(one, name) for name in names]
        return all(ok for ok, _ in seen), "; ".join(says for _, says in seen)

    return predicate


def too_small(name: str, params: Mapping[str, Any]) -> Control:
    """An instance that attains the bound, with one constant stated too small by half."""
    return Control(f"{symbol(name)} stated too small", params={**params, "halved": name})
