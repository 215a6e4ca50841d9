"""The penalty function (19) at a fixed u, any strongly convex lower level: its multiplier, and how far it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from verification.claims.reweighting._bent import CONVEX, STATIONARY, Backward, at, backward, bent, line
from verification.claims.reweighting._penalty import largest, solve, square
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

SOURCE = "reweighting, (19)"


# -- the identity ------------------------------------------------------------------------------------------


def multiplier(
    expected: Callable[[Backward], Any] = lambda b: solve(b.H, b.slope), read: int = 1
) -> Callable[[Backward], Measurement]:
    """v₊ = −γ∇_vg as the package reads it off, against ``expected``; ``read``: a misread factor."""
    return lambda b: identity(read * b.phi.multiplier(b.w), expected(b))


# -- bounds ------------------------------------------------------------------------------------------------


def _steepest(b: Backward) -> fmpq:
    """M²: ‖∇_vf‖² on the segment from v* to v_γ, convex there, so largest at an end."""
    return max(square(b.slope), square(b.p))


def general(power: int = 2, halved: int = 1, growth: int = 1) -> Callable[[Backward], Measurement]:
    """‖v_γ − v*‖² against (M/(γm²))²; mutants change the powers of m and γ, or halve M."""

    def measure(b: Backward) -> Measurement:
        scale = b.mu**growth * b.m**power * halved
        return Measurement(observed=square(b.w) * scale**2, bound=_steepest(b))

    return measure


def curved(
    less: int = -1, more: int = 1, extra: int = 0, bent: tuple[int, int] = (1, 1)
) -> Callable[[Backward], Measurement]:
    """‖λ*‖/(γ + s⁺) <= ‖∇_vg‖ <= ‖λ*‖/(γ − s_): the tighter of the two; mutants change their signs, drop s^± or, with
    a 0 in ``bent``, νM/m from s_ or from s⁺."""

    def measure(b: Backward) -> Measurement:
        (below, above), size, residual = b.curved(*bent), square(b.adjoint), square(b.r)
        upper = (residual * (b.mu + less * below + extra) ** 2, size)
        return largest(upper, (size, residual * (b.mu + more * above) ** 2), s=[str(below), str(above)])

    return measure


def _curvature_small(b: Backward) -> tuple[bool, Any]:
    if b.m <= 0:
        return False, str(b.m)
    return b.mu > b.curvature[0], f"γ = {b.mu}, s_ = {float(b.curvature[0]):.4g}"


# -- level sets --------------------------------------------------------------------------------------------


def level_set(factor: int = 2, power: int = 2) -> Callable[[Backward], Measurement]:
    """‖v − v*‖² against (2‖∇_vf(v*)‖/(γm²))², v any point where f̃ is no larger than at v*."""

    def measure(b: Backward) -> Measurement:
        return Measurement(observed=square(b.w) * (b.mu * b.m**power) ** 2, bound=factor**2 * square(b.p))

    return measure


def below(params: dict[str, Any]) -> Backward:
    """v = ``share`` of the way from v* to the penalty function's stationary point and on, that point's p kept."""
    made = backward(params)
    share = fmpq(*params.get("share", (1, 1)))
    return backward({**params, "w": [0] * len(made.w)}) if share == 0 else _moved(made, share)


def _moved(b: Backward, share: fmpq) -> Backward:
    return Backward(b.lower, b.q, share * b.w, b.p, b.mu, b.least, {**b.params, "multiplier": True})


def _no_larger(b: Backward) -> tuple[bool, Any]:
    F, G, zero = b.problem.upper.value, b.lower.grad_w, 0 * b.w
    here = F(b.lam, b.w) + b.mu / 2 * square(G(b.lam, b.w))
    there = F(b.lam, zero)
    return here <= there, f"{here} against {there}"


def _upper_convex(b: Backward) -> tuple[bool, Any]:
    return min(b.q.spectrum) >= 0, f"least eigenvalue of ∇²_vv f {min(b.q.spectrum)}"


def explicit(**more: Any) -> tuple[dict[str, Any], ...]:
    """Smallest first: affine f on a parabola, quadratic f, a bent g, two and three variables."""
    return (
        line(1, 0, **more),
        line(1, 1, **more),
        line(2, 1, c=[1], e=[1], over=16, **more),
        at((3, 1), d=2, seed=1, over=64, **more),
        at((10, 1), d=3, seed=2, over=256, **more),
    )


RISING = line(1, 0, c=[1], e=[1], over=64)  # f affine, r = v + v² + v³: what bends is g alone
FALLING = line(1, 0, c=[1], e=[-1], over=64)  # r = v − v² + v³
CLAIMS = (
    Claim(
        id="reweighting/penalty-rate",
        title="A stationary point of the penalty function is O(1/γ) from the lower solution",
        source=SOURCE,
        statement=r"$$\nabla_vf(v_\gamma) + \gamma\nabla^2_{vv}g\,\nabla_vg(v_\gamma) = 0 \;\Rightarrow\; "
        r"\|v_\gamma - v^*(u)\| \le \frac{M}{\gamma m^2}$$ $$M = \sup\|\nabla_vf\| \text{ on the segment}$$",
        hypotheses=(STATIONARY, CONVEX),
        strategy=bent(convex=st.booleans()),
        explicit=explicit(),
        build=backward,
        measure=general(),
        grade="proved",
        controls=(
            Control("m stated twice too large", params=line(1, 0, overstated=2)),
            Control("not a stationary point", params=line(1, 0, (4, 1), off=3)),
            Control("m³ for m²", kind="formula", measure=general(power=3)),
            Control("half the constant", kind="formula", measure=general(halved=2)),
            Control("γ² for γ", kind="formula", measure=general(growth=2)),
        ),
        equality=Equality(params=line(1, 0), reaches=1.0),
        budget=Budget(quick=120, full=2000),
        notes="Proof: $\\gamma\\|\\nabla_vg\\| = \\|H^{-1}\\nabla_vf\\| \\le M/m$ and $\\|v - v^*\\| \\le "
        "\\|\\nabla_vg\\|/m$. No Lipschitz Hessian is needed, nor convexity of $f$, and any stationary point will do: "
        "there may be several (see @curvature). Instances are made backwards: $v_\\gamma$ is chosen, then "
        "the linear term of $f$, so nothing is solved. Equality: one variable, $f$ affine, $g$ quadratic.",
    ),
    Claim(
        id="reweighting/penalty-rate@identity",
        title="At a stationary point of the penalty function its multiplier is the adjoint there",
        source=SOURCE,
        statement=r"$$\gamma\nabla_vg(v_\gamma) = -\left(\nabla^2_{vv}g(v_\gamma)\right)^{-1}\nabla_vf(v_\gamma)$$",
        hypotheses=(STATIONARY, CONVEX),
        strategy=bent(convex=st.booleans()),
        explicit=explicit(),
        build=backward,
        measure=multiplier(),
        grade="proved",
        controls=(
            Control("not a stationary point", params=line(1, 1, off=1)),
            Control(
                "the Hessian at the lower solution",
                kind="formula",
                measure=multiplier(lambda b: solve(b.H_star, b.slope)),
            ),
            Control(
                "the upper gradient at the lower solution",
                kind="formula",
                measure=multiplier(lambda b: solve(b.H, b.p)),
            ),
            Control("the other sign", kind="formula", measure=multiplier(lambda b: -solve(b.H, b.slope))),
            Control("read as if ½ were missing in (19)", kind="formula", measure=multiplier(read=2)),
        ),
        budget=Budget(quick=120, full=2000),
        notes="$\\nabla_v\\tilde f = \\nabla_vf + \\gamma H\\nabla_vg$, and $H$ is invertible. Hence the "
        "$u$-gradient of the penalty function there is formula (11) at $v_\\gamma$ in place of $v^*$.",
    ),
    Claim(
        id="reweighting/penalty-rate@curvature",
        title="Both sides of the penalty's residual, for a lower level that is not quadratic",
        source=SOURCE,
        statement=r"$$\frac{\|\lambda^*\|}{\gamma + s^+} \le \|\nabla_vg(v_\gamma)\| \le "
        r"\frac{\|\lambda^*\|}{\gamma - s_-}, \quad \gamma > s_-$$ $$s^+ = \frac{L_f + \nu M/m}{m^2},\quad s_- = "
        r"\frac{\rho + \nu M/m}{m^2},\quad -\rho I \preceq \nabla^2_{vv}f \preceq L_fI$$",
        hypotheses=(
            STATIONARY,
            CONVEX,
            Hypothesis("curvature below γ", r"\gamma > s_-", _curvature_small),
        ),
        strategy=bent(convex=st.booleans()),
        explicit=(
            line(1, 1),
            RISING,
            FALLING,
            line(2, 1, c=[1], e=[1], over=1024),
            at((3, 1), d=2, seed=1, over=1024),
            at((100, 1), d=3, seed=2, over=4096),
        ),
        build=backward,
        measure=curved(),
        grade="proved",
        controls=(
            Control("νM/m dropped from s⁺", kind="formula", measure=curved(bent=(1, 0)), params=RISING),
            Control("νM/m dropped from s_", kind="formula", measure=curved(bent=(0, 1)), params=FALLING),
            Control("not a stationary point", params=line(1, 1, off=-1)),
            Control("s⁺ dropped", kind="formula", measure=curved(more=0)),
            Control("s_ dropped", kind="formula", measure=curved(less=0)),
            Control("γ + 1 for γ", kind="formula", measure=curved(extra=1)),
        ),
        equality=Equality(params=line(1, 1), reaches=1.0),
        budget=Budget(quick=120, full=2000),
        notes="$\\nabla^2_{vv}g$ is $\\nu$-Lipschitz, $\\|\\nabla_vf\\| \\le M$ where $\\|v - v^*\\| \\le "
        "\\|\\nabla_vg(v_\\gamma)\\|/m$. In $y = \\nabla_vg$ the penalty function is $\\varphi(y) + "
        "\\frac\\gamma2\\|y\\|^2$ with $\\nabla\\varphi(0) = \\lambda^*$ and $\\nabla^2\\varphi = S = "
        "H^{-1}(\\nabla^2_{vv}f - \\sum_k(H^{-1}\\nabla_vf)_k\\nabla^2\\partial_kg)H^{-1}$, so $0 = "
        "\\lambda^* + (\\bar S + \\gamma)y$. Hence $\\gamma\\|\\nabla_vg\\| \\to \\|\\lambda^*\\|$, and "
        "a single stationary point where $\\gamma > s_-$ everywhere: for smaller $\\gamma$ there can be "
        "three, one a maximum, even for affine $f$. Equality: one variable, quadratic.",
    ),
    Claim(
        id="reweighting/penalty-rate@level-set",
        title="Wherever the penalty function is no larger than at the lower solution",
        source=SOURCE,
        statement=r"$$f + \tfrac\gamma2\|\nabla_vg\|^2 \text{ at } v \text{ at most } f(v^*)$$ $$\;\Rightarrow\; "
        r"\|v - v^*\| \le \frac{2\,\|\nabla_vf(v^*)\|}{\gamma m^2}$$",
        hypotheses=(
            CONVEX,
            Hypothesis("convex upper level", r"\nabla^2_{vv}f \succeq 0", _upper_convex),
            Hypothesis("level set", r"\tilde f(v) \le \tilde f(v^*)", _no_larger),
        ),
        strategy=bent(share=st.sampled_from([[1, 1], [3, 2], [15, 8], [2, 1]])),
        explicit=(
            line(1, 0),
            line(1, 0, share=[2, 1]),
            line(1, 1, share=[3, 2]),
            at((3, 1), d=2, seed=1, over=64, share=[3, 2]),
        ),
        build=below,
        measure=level_set(),
        grade="proved",
        controls=(
            Control("a larger value", params=line(1, 0, share=[3, 1])),
            Control("the 2 dropped", kind="formula", measure=level_set(factor=1)),
            Control("m⁴ for m²", kind="formula", measure=level_set(power=4)),
        ),
        equality=Equality(params=line(1, 0, share=[2, 1]), reaches=1.0),
        budget=Budget(quick=120, full=2000),
        notes="So for the global minimiser, and for whatever an inner method that only decreases the penalty "
        "function reaches from $v^*$. $\\frac\\gamma2m^2\\|v - v^*\\|^2 \\le "
        "\\frac\\gamma2\\|\\nabla_vg\\|^2 \\le f(v^*) - f(v) \\le -\\nabla_vf(v^*)^\\top(v - v^*)$. $f$ "
        "need be neither Lipschitz nor smooth, and $\\nabla_vf$ is wanted at $v^*$ alone. Equality: one "
        "variable, $f$ affine, twice as far as the minimiser. For the minimiser itself the 2 stays: @global.",
    ),
)
