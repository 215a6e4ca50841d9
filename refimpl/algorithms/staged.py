"""The algorithms in stages: the same laws as their ``step`` has, for exact moments of long iterations.

Each function writes an iteration with the lines that ``stages.Lines`` has; tests compare the moments with what every
path of the algorithm's own ``step`` gives. FSLA is not among them: its draws are few, and its lines share some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refimpl.algorithms.arbel2021amigo import AmIGO
from refimpl.algorithms.chen2021alset import ALSET
from refimpl.algorithms.chen2021alset_dagger import ALSETDagger
from refimpl.algorithms.ghadimi2018bsa import BSA
from refimpl.algorithms.grazzi2023bsgm import BSGM
from refimpl.algorithms.guo2021smb import SMB
from refimpl.algorithms.hong2020ttsa import TTSA
from refimpl.algorithms.huang2021sabiadam import SaBiAdam
from refimpl.algorithms.huang2021vrsabiadam import VRSaBiAdam
from refimpl.algorithms.ji2021stocbio import StocBiO
from refimpl.algorithms.khanduri2021sustain import SUSTAIN, DoubleMomentum
from refimpl.algorithms.pieces import Alternating, Estimating, moved
from refimpl.algorithms.protocol import Algorithm
from refimpl.algorithms.stages import BOTH, HERE, Arrays, Lines, Stage, Stages, sure
from refimpl.algorithms.storm import storm
from refimpl.algorithms.yang2021mrbo import MRBO
from refimpl.algorithms.yang2021vrbo import VRBO
from refimpl.approximate.inverse import ProductNeumann, SumNeumann
from refimpl.problem import Problem


def stages_of(algorithm: Algorithm, problem: Problem, k: int) -> Stages | None:
    """Iteration k in stages; None where this very class has none, a subclass with a ``step`` of its own included."""
    make = _STAGED.get(type(algorithm))
    known = not isinstance(algorithm, Estimating) or type(algorithm.inverse) in (ProductNeumann, SumNeumann)
    return make(algorithm, problem, k) if make is not None and known else None


def _start(problem: Problem, a: Any) -> Lines:
    return Lines(problem, a.lower_batch, a.upper_batch)


def _end(problem: Problem, rate: Any, name: str = "h_0") -> Stage:
    """λ ← P_Λ(λ − α h)."""
    return sure(("end", rate), lambda x: {"lam": moved(problem, x["lam"], rate, x[name])})


def _alternating(a: Alternating, problem: Problem, k: int) -> Stages:
    lines = _start(problem, a)
    descents = [lines.descent(a.beta(k))] * a.steps(k)
    return Stages([*descents, *lines.sampled(a.inverse), _end(problem, a.alpha(k))], lines.scratch())


def _bsa(a: BSA, problem: Problem, k: int) -> Stages:
    lines = _start(problem, a)
    begin = sure("begin", lambda x: {"w": x["start"]})
    descents = [lines.descent(a.beta(j)) for j in range(a.steps(k))]
    estimate = lines.sampled(a.estimator_at(k).inverse)
    return Stages([begin, *descents, *estimate, _end(problem, a.alpha(k))], lines.scratch())


def _smb(a: SMB, problem: Problem, k: int) -> Stages:
    lines, b = _start(problem, a), problem.backend.scalar(min(1, a.b(k)) if k else 1)
    average = sure(("average", b), lambda x: {"d": (1 - b) * x["d"] + b * x["h_0"]})
    end = _end(problem, a.alpha(k), "d")
    return Stages([*lines.sampled(a.inverse), average, lines.descent(a.beta(k)), end], lines.scratch())


def _warm(a: ALSETDagger | AmIGO, problem: Problem, k: int) -> Stages:
    lines, (T, N) = (
        _start(problem, a),
        (a.steps(k), a.linear_steps(k)) if isinstance(a, AmIGO) else (1, 1),
    )
    lower, linear = [lines.descent(a.beta(k))] * T, [lines.refinement(a.gamma(k))] * N
    estimate = [lines.gradients(), *linear, lines.indirect(["v"])]
    return Stages([*lower, *estimate, _end(problem, a.alpha(k))], lines.scratch())


def _bsgm(a: BSGM, problem: Problem, k: int) -> Stages:
    lines, sid = Lines(problem, a.batch, a.batch), a.sid(k)

    def solved(x: Arrays) -> Arrays:
        return {"w": sid.solve_lower(problem, x["lam"], x["w"], None)}

    def linearly_solved(x: Arrays) -> Arrays:
        return {"v": sid.solve_linear(problem, x["lam"], x["w"], x["r_0"], x["v"], None)}

    lower = [lines.descent(sid.rate(i)) for i in range(sid.t or 0)]
    first = sure("first", lambda x: {"v": x["r_0"] if sid.start == "gradient" else 0 * x["r_0"]})
    linear = [lines.refinement(sid.linear_rate(i)) for i in range(sid.k or 0)]
    stages = [
        sure("begin", lambda x: {"w": x["start"]}),
        *(lower if sid.lower is None else [sure("solved", solved)]),
        lines.gradients(copies=sid.J),
        first,
        *(linear if sid.linear is None else [sure("solved linearly", linearly_solved)]),
        lines.indirect(["v"], copies=sid.J),
        sure("estimate", lambda x: {"d": x["h_0"]}),
        _end(problem, a.alpha(k), "d"),
    ]
    return Stages(stages, {**lines.scratch(), "v": problem.d})


def _storm(a: SUSTAIN | MRBO, problem: Problem, k: int) -> Stages:
    return _momenta(a, problem, k, a.weights(k) if k else (1, 1), vr=True, move=_double(a, problem, k))


def _double(a: DoubleMomentum, problem: Problem, k: int) -> Callable[[Arrays], Arrays]:
    alpha, beta = a.sizes(k)
    beta = problem.backend.scalar(beta)
    return lambda x: {"lam": moved(problem, x["lam"], alpha, x["d"]), "w": x["w"] - beta * x["e"]}


def _sabiadam(a: SaBiAdam, problem: Problem, k: int) -> Stages:
    vr = isinstance(a, VRSaBiAdam)
    return _momenta(a, problem, k, a.weights(k) if k else (1, 1), vr=vr, move=_relaxed(a, problem, k))


def _relaxed(a: SaBiAdam, problem: Problem, k: int) -> Callable[[Arrays], Arrays]:
    alpha, beta, rho, eta = map(problem.backend.scalar, (a.alpha, a.beta, a.rho, min(1, a.eta(k))))
    return lambda x: {
        "lam": x["lam"] - eta * alpha * x["d"] / rho,
        "w": x["w"] - eta * beta * x["e"] / rho,
    }


def _momenta(
    a: Estimating,
    problem: Problem,
    k: int,
    weights: tuple[Any, Any],
    *,
    vr: bool,
    move: Callable[[Arrays], Arrays],
) -> Stages:
    """d and e by STORM (vr) or by averaging, in the first iteration neither; then the move, from the old (λ, w)."""
    lines, storms = _start(problem, a), vr and k > 0
    by_d, by_e = map(problem.backend.scalar, weights)
    points = BOTH if storms else HERE

    def momentum(x: Arrays, weight: Any, values: list[Any], before: Any) -> Any:
        if storms:
            return storm(values[0], values[1], before, weight)
        return weight * values[0] + (1 - weight) * before

    def lower(drawn: Problem, x: Arrays) -> Arrays:
        return {"e": momentum(x, by_e, [drawn.residual(x[lam], x[w]) for lam, w in points], x["e"])}

    def upper(x: Arrays) -> Arrays:
        return {"d": momentum(x, by_d, [x[f"h_{i}"] for i in range(len(points))], x["d"])}

    def end(x: Arrays) -> Arrays:
        return {**move(x), **({"lam_prev": x["lam"], "w_prev": x["w"]} if vr else {})}

    stages = [
        lines.lower(("e", by_e, *points), lower),
        *lines.sampled(a.inverse, points),
        sure(("d", by_d, *points), upper),
        sure(None, end),
    ]
    return Stages(stages, lines.scratch(len(points)))


def _vrbo(a: VRBO, problem: Problem, k: int) -> Stages:
    small, large = _start(problem, a), _start(problem, a.large)
    points = (("x", "y"), ("x_old", "y_old"))
    beta = problem.backend.scalar(a.beta(k))

    def differences(drawn: Problem, x: Arrays) -> Arrays:
        new, old = (drawn.residual(x[lam], x[w]) for lam, w in points)
        return {"e": storm(new, old, x["e"], 0)}

    def begin(x: Arrays) -> Arrays:
        new = moved(problem, x["lam"], a.alpha(k), x["d"])
        return {"x": new, "y": x["w"], "x_old": x["lam"], "y_old": x["w"]}

    def inner(x: Arrays) -> Arrays:
        d = storm(x["h_0"], x["h_1"], x["d"], 0)
        return {"d": d, "x_old": x["x"], "y_old": x["y"], "y": x["y"] - beta * x["e"]}

    fresh = [
        large.lower("fresh", lambda drawn, x: {"e": drawn.residual(x["lam"], x["w"])}),
        *large.sampled(a.inverse),
        sure("fresh", lambda x: {"d": x["h_0"]}),
    ]
    loop = [small.lower("e", differences), *small.sampled(a.inverse, points), sure(("inner", beta), inner)]
    stages = [
        *(fresh if k % a.period == 0 else []),
        sure(("begin", a.alpha(k)), begin),
        *loop * (a.inner + 2),
        sure("end", lambda x: {"lam": x["x_old"], "w": x["y_old"]}),  # the last loop's y moves no more
    ]
    sizes = {"x": problem.n, "y": problem.d, "x_old": problem.n, "y_old": problem.d}
    return Stages(stages, {**small.scratch(2), **sizes})


_STAGED: dict[type, Callable[[Any, Problem, int], Stages]] = {
    ALSET: _alternating,
    ALSETDagger: _warm,
    AmIGO: _warm,
    BSA: _bsa,
    BSGM: _bsgm,
    MRBO: _storm,
    SMB: _smb,
    SUSTAIN: _storm,
    SaBiAdam: _sabiadam,
    StocBiO: _alternating,
    TTSA: _alternating,
    VRBO: _vrbo,
    VRSaBiAdam: _sabiadam,
}
