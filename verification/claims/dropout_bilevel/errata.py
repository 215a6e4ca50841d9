"""Misprints of notation in sections 2 and 2.1, executed over the rationals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.networks import MLP
from verification.claims.dropout_bilevel._masks import Model, at, central_differences, model
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

# -- how many weights there are ------------------------------------------------------------------------------


def widths(params: Mapping[str, Any]) -> tuple[int, ...]:
    """Inputs, units of every layer."""
    return tuple(params["widths"])


def count(formula: Callable[[tuple[int, ...]], int]) -> Callable[[tuple[int, ...]], Measurement]:
    """A stated length of w against the entries of its layers w_i of shape n_i × o_i."""

    def measure(of: tuple[int, ...]) -> Measurement:
        net = MLP(of, "relu")
        layers = net.layers(np.arange(net.size))
        # the document's matrices: a bias is a column for an input that is always 1
        return identity(formula(of), sum(layer[..., :-1].size for layer in layers))

    return measure


def printed_count(of: tuple[int, ...]) -> int:
    """no with n = Σn_i, o = Σo_i."""
    return sum(of[1:]) * sum(of[:-1])


def right_count(of: tuple[int, ...]) -> int:
    """Σ n_i o_i."""
    return sum(n * o for n, o in zip(of[1:], of[:-1], strict=True))


# -- which variable a partial gradient is for ----------------------------------------------------------------


def partial(second: bool) -> Callable[[Model], Measurement]:
    """∇_x F of F(x, y), x = λ, y = w, against central differences in x."""

    def measure(case: Model) -> Measurement:
        F, (x, y) = case.plain.upper, (case.lam, case.w)
        true = central_differences(lambda x: F.value(x, y), x)
        by_y = central_differences(lambda y: F.value(x, y), y)
        return identity(by_y if second else true, F.grad_lam(x, y))

    return measure


CLAIMS = (
    Claim(
        id="dropout-bilevel/erratum-count",
        title="As printed: the collection of all weights has length no, n = Σn_i, o = Σo_i",
        source="dropout-bilevel, section 2.1, below (4)",
        statement=r"w \in \mathbb R^{no}, \quad n = \sum_in_i,\ o = \sum_io_i,\quad w_i \in \mathbb R^{n_i "
        r"\times o_i}",
        printed=r"w \text{ is an } no\text{-dimensional vector, where } n = \sum n_i,\ o = \sum o_i",
        strategy=st.fixed_dictionaries({"widths": st.lists(st.integers(1, 6), min_size=2, max_size=5)}),
        explicit=({"widths": [1, 1]}, {"widths": [1, 1, 1]}),
        build=widths,
        measure=count(printed_count),
        grade="proved",
        corrected=Correction(
            tex=r"w \in \mathbb R^{\sum_in_io_i}",
            measure=count(right_count),
            proof="Layer i has $n_i$ rows of length $o_i$. The product of the sums also counts $n_io_j$ for "
            "$i \\ne j$.",
        ),
        controls=(
            Control(
                "Σ(n_i + o_i)",
                kind="formula",
                measure=count(lambda of: sum(of[1:]) + sum(of[:-1])),
                params={"widths": [2, 2, 1]},
            ),
        ),
        budget=Budget(quick=40, full=200),
        notes="Right for one layer. Two layers with one weight each have 2 weights, not 4. Biases are not "
        "counted here: there they are weights of an input that is always 1. The same paragraph takes "
        "$\\xi_i \\in \\mathbb R^{n_i}$ for the input of a layer with $w_i \\in \\mathbb R^{n_i \\times "
        "o_i}$: it has $o_i$ entries.",
    ),
    Claim(
        id="dropout-bilevel/erratum-partial",
        title="As printed: the partial gradient in x is the derivative with respect to y",
        source="dropout-bilevel, section 2",
        statement=r"\nabla_xF(x, y) = \frac{\partial F(x, y)}{\partial y}, \quad \dim x = \dim y",
        printed=r"\nabla_xF(x, y) \text{ and } \nabla_yF(x, y) \text{ as the partial gradients } "
        r"\frac{\partial F(x,y)}{\partial y} \text{ and } \frac{\partial F(x,y)}{\partial y}",
        strategy=st.builds(lambda k, seed: at(k, k, seed), st.integers(1, 3), st.integers(0, 999)),
        explicit=(at(1, 1, simple=1),),
        build=model,
        measure=partial(second=True),
        grade="proved",
        corrected=Correction(
            tex=r"\nabla_xF(x, y) = \frac{\partial F(x, y)}{\partial x}",
            measure=partial(second=False),
            proof="The first of the two fractions should have x below; (12) and algorithm 1 use it so.",
        ),
        budget=Budget(quick=30, full=200),
        notes="F(x, y) = y: $\\nabla_xF = 0$, and the printed fraction is 1.",
    ),
)
