"""(6), (7) and assumption 1: masking units' outputs or the rows of their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.networks import ACTIVATIONS, MLP
from verification.claims.dropout_bilevel._masks import RATIONAL
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

EXACT: dict[str, Callable[[Any], Any]] = {  # written out again, apart from the library's
    "linear": lambda z: z,
    "relu": lambda z: max(z, 0 * z),
    "leaky_relu": lambda z: z if z > 0 else z / 8,
    "hard_sigmoid": lambda z: min(max((z + 2) / 4, 0 * z), 0 * z + 1),
}


@dataclass(frozen=True)
class Network:
    """A network, its parameters, rows of inputs, and all masks of its hidden units, (K, units)."""

    net: MLP
    name: str
    theta: Array
    X: Array

    @property
    def masks(self) -> np.ndarray:
        count = self.net.units
        return (np.arange(2**count)[:, None] >> np.arange(count)) & 1

    @property
    def backend(self) -> Backend:
        return self.net.backend

    @cached_property
    def at_zero(self) -> Any:
        """a(0)."""
        if self.name in EXACT and self.backend.exact:
            return EXACT[self.name](RATIONAL.scalar(0))
        return float(ACTIVATIONS[self.name].value(self.backend, np.zeros(1))[0])

    # -- by the library, all masks at once -----------------------------------------------------------------
    def on_outputs(self) -> Array:
        """(6): the masks multiply the hidden units' outputs, (K, outputs, N)."""
        columns = self.backend.mT(self.X)
        return self.net.forward(self.theta, columns, self.backend.asarray(self.masks)[..., None]).output

    def on_rows(self, *, bias: bool = True, complement: bool = False) -> Array:
        """(7): the masks multiply the rows of the hidden units' weights; without ``bias``, not their biases."""
        return self.net.forward(self.spread(bias, complement) * self.theta, self.backend.mT(self.X)).output

    def spread(self, bias: bool = True, complement: bool = False) -> Array:
        """The masks of all parameters, (K, size): each unit's over its row."""
        masks = 1 - self.masks if complement else self.masks
        rows = np.concatenate([masks, np.ones((len(masks), self.net.widths[-1]), dtype=int)], axis=-1)
        columns = [c for count, c in self.net.shapes for _ in range(count)]
        parts = [np.repeat(rows[:, i : i + 1], c, axis=1) for i, c in enumerate(columns)]
        for part in parts:
            part[:, -1] = part[:, -1] if bias else 1
        return self.backend.asarray(np.concatenate(parts, axis=1))

    # -- written out, one mask and one input at a time ---------------------------------------------------------
    def literal(self, mask: np.ndarray, x: Array, *, rows: bool, bias: bool = True) -> Array:
        """The forward pass with r = m ∘ a(Wh + b), or with ``rows`` r = a((mW)h + mb)."""
        a, h, start = EXACT[self.name], x, 0
        layers = self.net.layers(self.theta)
        for layer in layers[:-1]:
            m = [RATIONAL.scalar(int(b)) for b in mask[start : start + len(layer)]]
            start += len(layer)
            out = []
            for keep, row in zip(m, layer, strict=True):
                weights, offset = row[:-1], row[-1]
                if rows:
                    out.append(a((keep * weights) @ h + (keep * offset if bias else offset)))
                else:
                    out.append(keep * a(weights @ h + offset))
            h = np.array(out, dtype=object)
        return layers[-1][:, :-1] @ h + layers[-1][:, -1]

    def all_literal(self, **how: Any) -> Array:
        """The same for every mask and input, in the library's order (K, outputs, N)."""
        return np.array([np.stack([self.literal(m, x, **how) for x in self.X], axis=-1) for m in self.masks])


def build_exact(params: Mapping[str, Any]) -> Network:
    """Weights and inputs are halves between −2 and 2."""
    widths, rng = tuple(params["widths"]), np.random.default_rng(params["seed"])
    known = params["activation"] in ACTIVATIONS
    net = MLP(widths, params["activation"] if known else "linear").to("rational")
    theta = RATIONAL.asarray(rng.integers(-4, 5, net.size) / 2)
    return Network(
        net, params["activation"], theta, RATIONAL.asarray(rng.integers(-4, 5, (2, widths[0])) / 2)
    )


def build_float(params: Mapping[str, Any]) -> Network:
    """Normal weights of size ``gain``, normal inputs."""
    widths, rng = tuple(params["widths"]), np.random.default_rng(params["seed"])
    net = MLP(widths, params["activation"])
    theta = params["gain"] * rng.standard_normal(net.size)
    return Network(net, params["activation"], theta, rng.standard_normal((2, widths[0])))


def equal_exact(*, bias: bool = True) -> Callable[[Network], Measurement]:
    """(6) = (7), literally and by the library (which has no hard sigmoid)."""

    def measure(case: Network) -> Measurement:
        outputs, rows = case.all_literal(rows=False), case.all_literal(rows=True, bias=bias)
        if case.name not in ACTIVATIONS:
            return identity(rows, outputs)
        found = [rows, case.on_rows(bias=bias), case.on_outputs()]
        return identity(np.array(found), np.array([outputs] * 3))

    return measure


def rounding(case: Network) -> float:
    """10·units·eps of the largest possible output: |x| times the layers' absolute sums, every |a(z)| <= 1 + |z|."""
    size = 1 + float(np.abs(case.X).sum())
    for layer in case.net.layers(case.theta):
        size = 1 + float(np.abs(layer).sum()) * (1 + size)
    return 10 * case.net.units * EPS * size


def equal_float(*, bias: bool = True) -> Callable[[Network], Measurement]:
    """(6) = (7), by the library."""

    def measure(case: Network) -> Measurement:
        outputs, rows = case.on_outputs(), case.on_rows(bias=bias)
        return identity(np.broadcast_to(rows, outputs.shape), outputs, rounding=rounding(case))

    return measure


def leftover(share: float = 1.0, *, complement: bool = False) -> Callable[[Network], Measurement]:
    """One hidden layer: (7) − (6) = a(0) Σ_{j dropped} v_j, v_j the column of the last layer that unit j feeds."""

    def measure(case: Network) -> Measurement:
        V = case.net.layers(case.theta)[-1][:, :-1]
        dropped = case.masks if complement else 1 - case.masks
        gap = case.on_rows() - case.on_outputs()
        expected = share * case.at_zero * (dropped @ V.T)[:, :, None]
        return identity(gap, np.broadcast_to(expected, gap.shape), rounding=rounding(case))

    return measure


VANISHES = Hypothesis(
    "assumption 1", r"a_i(0) = 0 \text{ for every layer}", lambda case: (case.at_zero == 0, str(case.at_zero))
)


def _at(activation: str, *widths: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"activation": activation, "widths": list(widths), "seed": seed, **more}


def _strategy(names: list[str], hidden: int, **more: Any) -> Any:
    width = st.integers(1, 2)
    widths = st.lists(width, min_size=3, max_size=2 + hidden)
    boxes = {"activation": st.sampled_from(names), "widths": widths, "seed": st.integers(0, 999)}
    return st.fixed_dictionaries({**boxes, **more})


GAIN = {"gain": st.sampled_from([0.5, 1.0, 3.0])}

CLAIMS = (
    Claim(
        id="dropout-bilevel/eq-7",
        title="Masking a layer's outputs is masking the rows of its weights where a(0) = 0",
        source="dropout-bilevel, (6) and (7)",
        statement=r"m_i \circ a_i(w_ih) = a_i\left(\mathrm{diag}(m_i)\,w_ih\right) \text{ in every hidden "
        r"layer, for (leaky) ReLU and linear units}",
        hypotheses=(VANISHES,),
        strategy=_strategy(["linear", "relu", "leaky_relu"], 2),
        explicit=(_at("relu", 1, 1, 1), _at("leaky_relu", 2, 2, 1), _at("relu", 2, 2, 2, 1)),
        build=build_exact,
        measure=equal_exact(),
        grade="proved",
        controls=(
            Control("hard sigmoid, a(0) = ½", params=_at("hard_sigmoid", 1, 1, 1, seed=1)),
            Control("biases are not masked", kind="formula", measure=equal_exact(bias=False)),
        ),
        budget=Budget(quick=40, full=500),
        notes="For a mask of 0 and 1: $a(1 \\cdot z) = 1 \\cdot a(z)$ always, and $a(0 \\cdot z) = 0 \\cdot "
        "a(z)$ says a(0) = 0. Outputs of whole networks over the rationals, every mask of an instance, one "
        "loop that is written out and the library's two ways. A unit's row includes its bias (the "
        "document's footnote 2).",
    ),
    Claim(
        id="dropout-bilevel/eq-7@analytic",
        title="Masked rows are masked outputs: tanh and the centred sigmoid",
        source="dropout-bilevel, (6), (7) and assumption 1",
        statement=r"m_i \circ a_i(w_ih) = a_i\left(\mathrm{diag}(m_i)\,w_ih\right)",
        hypotheses=(VANISHES,),
        strategy=_strategy(["tanh", "centred_sigmoid"], 2, **GAIN),
        explicit=(_at("tanh", 1, 1, 1, gain=1.0), _at("centred_sigmoid", 2, 2, 2, 1, gain=1.0)),
        build=build_float,
        measure=equal_float(),
        grade="exact",
        controls=(
            Control("sigmoid, a(0) = ½", params=_at("sigmoid", 1, 1, 1, gain=1.0)),
            Control("softplus, a(0) = log 2", params=_at("softplus", 1, 1, 1, gain=1.0)),
            Control("biases are not masked", kind="formula", measure=equal_float(bias=False)),
        ),
        budget=Budget(quick=60, full=600),
        notes="Of the usual activations, tanh, the centred sigmoid, (leaky) ReLU and linear units satisfy "
        "assumption 1; sigmoid and softplus do not.",
    ),
    Claim(
        id="dropout-bilevel/eq-7@only-if",
        title="What masking the rows leaves over: the units' a(0)",
        source="dropout-bilevel, (7) and assumption 1",
        statement=r"\text{one hidden layer with outgoing weights } v_j:\quad \text{rows masked} - "
        r"\text{outputs masked} = a(0)\sum_{j:\,m_j = 0}v_j",
        strategy=_strategy(sorted(ACTIVATIONS), 1, **GAIN),
        explicit=(
            _at("sigmoid", 1, 1, 1, gain=1.0),
            _at("softplus", 1, 2, 1, gain=1.0),
            _at("tanh", 2, 2, 1, gain=1.0),
        ),
        build=build_float,
        measure=leftover(),
        grade="exact",
        controls=(
            Control("nothing left over", kind="formula", measure=leftover(0.0)),
            Control("kept units for dropped ones", kind="formula", measure=leftover(complement=True)),
        ),
        budget=Budget(quick=60, full=600),
        notes="A dropped unit sends a(0) where its weights are masked and 0 where its output is. So the two "
        "agree for all weights and masks only if a(0) = 0. All activations of the library.",
    ),
)
