"""H, Σ and their traces for the claims on alignment: of two matrices written out, or of a network at a point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from refimpl.arrays.backend import Array
from refimpl.curvature import Alignment, alignment
from verification.claims.dropout_flatness._noise import DRAWS, Noise
from verification.claims.dropout_flatness._planted import RATIONAL, fractions
from verification.claims.dropout_flatness._second import inertia

Which = Literal["printed", "one sample", "own masks", "shared mask"]


@dataclass(frozen=True, eq=False)
class Pair:
    """H and Σ (D, D) over the rationals, and α, β with αH ⪯ Σ ⪯ βH as somebody states them."""

    H: Array
    noise: Array
    alpha: Any = 0
    beta: Any = 0

    @property
    def traces(self) -> Alignment:
        return alignment(self.H, self.noise, backend=RATIONAL)

    def layer(self, span: slice) -> Pair:
        """One layer's diagonal blocks: what is ordered stays so."""
        return Pair(self.H[span, span], self.noise[span, span], self.alpha, self.beta)


def of_network(of: Noise, which: Which, layer: int | None = None) -> Pair:
    """The printed matrices, or the exact ones; of all parameters or one layer's.

    α, β: printed min ε_i² and max a_i; of one sample's gradient the least and largest ε_η² of any mask and sample; of
    a full batch's, which may be 0 while H is not, 0 and the latter, over n where every sample has its own mask.
    """
    at = of.at
    if which == "printed":
        squares = [sample.e**2 for sample in of.samples]
        pair = Pair(at.printed, of.printed, min(squares), max(sample.a for sample in of.samples))
    else:
        least, largest = of.errors_squared
        if which != "one sample":
            least, largest = 0 * least, largest / (at.n if which == "own masks" else 1)
        pair = Pair(at.hessian, of.exact(which), least, largest)
    return pair if layer is None else pair.layer(at.net.spans[layer])


def written(params: Mapping[str, Any]) -> Pair:
    """H = GᵀG from ``rows`` of G, and Σ = ``kappa`` H, or Σ = SᵀS from ``noise``'s rows."""
    G = RATIONAL.asarray([[RATIONAL.scalar(x) for x in row] for row in fractions(params["rows"])])
    H = G.T @ G
    if "noise" not in params:
        return Pair(H, RATIONAL.scalar(fractions(params["kappa"])) * H)
    S = RATIONAL.asarray([[RATIONAL.scalar(x) for x in row] for row in fractions(params["noise"])])
    return Pair(H, S.T @ S)


def semidefinite(matrix: Array) -> bool:
    """No negative eigenvalue, decided exactly."""
    return inertia(matrix)[1] == 0


def ordered(pair: Pair) -> tuple[bool, str]:
    """αH ⪯ Σ ⪯ βH and H ⪰ 0, decided exactly."""
    signs = [
        inertia(x)[1] for x in (pair.H, pair.noise - pair.alpha * pair.H, pair.beta * pair.H - pair.noise)
    ]
    return not any(signs), f"{signs} negative eigenvalues of H, Σ − αH, βH − Σ"


EVERY: tuple[Which, ...] = ("printed", *DRAWS)
