r"""The noise of the Hessian in theorem 1's step of v: V_A = E‖(Â − E Â)v‖² with Â = m∇²_wwG m.

V_A <= ‖v‖²E‖Â − E Â‖_F², and for a constant Hessian H the entries are m_i m_j H_ij, of variance Π_ij(1 − Π_ij)H_ij²
with Π_ij = E[m_i m_j]: p_i p_j for two variables, p_i on the diagonal and inside a group. With ‖v‖ <= r, which the
projection gives, V_A <= r²Σ_ij Π_ij(1 − Π_ij)H_ij²: the term that theorem 1 prints as O(p_λ p_w(1 − p_λ p_w)β²).
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._iterates_v import Adjoint
from verification.claims.dropout_bilevel.theorem_1 import BOXES, adjoint, moving
from verification.model import Budget, Claim, Control, Equality, Measurement


def together(case: Adjoint) -> Array:
    """Π, d x d."""
    return case.lower_law.mean(lambda _, m: m[:, :, None] * m[:, None, :])


def apart(case: Adjoint) -> Array:
    """p_i p_j everywhere, as printed: the diagonal and groups too."""
    p = case.lower_law.mean(lambda _, m: m)
    return p[:, None] * p


def bounded(
    chance: Callable[[Adjoint], Array] = together, diagonal: bool = True
) -> Callable[[Adjoint], Measurement]:
    """V_A <= ‖v‖²ΣΠ(1 − Π)H²."""

    def measure(case: Adjoint) -> Measurement:
        H = case.plain.lower.hess_ww(case.lam, case.w).dense()
        terms = chance(case) * (1 - chance(case)) * H**2
        total = terms.sum() if diagonal else terms.sum() - terms.trace()
        return Measurement(observed=case.hessian_noise, bound=(case.v**2).sum() * total)

    return measure


GROUPS = {"groups_w": st.sampled_from([[0, 1], [0, 0]])}

CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-1@hessian-noise",
        title="The noise that masks of the Hessian add to the step of v",
        source="dropout-bilevel, theorem 1; corrected here",
        statement=r"G \text{ quadratic}: \quad E\|(\hat A - E\hat A)v\|^2 \le "
        r"\|v\|^2\sum_{ij}\Pi_{ij}(1-\Pi_{ij})H_{ij}^2, \quad \hat A = m_wHm_w,\ \Pi_{ij} = E[m_im_j]",
        strategy=st.fixed_dictionaries({**BOXES, **GROUPS}),
        explicit=(moving(0, 1, u=[1, 0]), moving(0, 2, u=[1, 1]), moving(1, 2, u=[1, 1], groups_w=[0, 0])),
        build=adjoint,
        measure=bounded(),
        grade="proved",
        controls=(
            Control(
                "p² on the diagonal",
                kind="formula",
                measure=bounded(apart),
                params=moving(0, 1, u=[1, 0]),
            ),
            Control("no diagonal", kind="formula", measure=bounded(diagonal=False)),
        ),
        equality=Equality(params=moving(0, 1, u=[1, 0]), reaches=1.0),
        budget=Budget(quick=60, full=1000),
        notes="Cauchy–Schwarz with the Frobenius norm; equality for $d = 1$. $V_A$ of @mean-fresh and @mean-shared; "
        "the projection gives $\\|v\\| \\le r$. Where the Hessian varies with the masks, lemma-1@corrected bounds "
        "the Frobenius norm; data add $\\|v\\|^2\\sigma_h^2\\sum_{ij}\\Pi_{ij}$ at most.",
    ),
)
