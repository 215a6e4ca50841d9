"""Rescaled and permuted units: outputs stay, derivatives move by the linear map, and the rest is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import to_numpy
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.networks import ACTIVATIONS, MLP, loss
from refimpl.networks.symmetries import permute, rescale
from tests.backends import Place, everywhere
from tests.rounding import assert_rounded

WIDTHS = (2, 3, 4, 2)  # hidden layers of 3 and 4 units
FACTORS = {0: [2.0, 0.25, 8.0], 1: [0.5, 4.0, 1.0, 16.0]}  # powers of 2: products are exact
ORDERS = {0: [2, 0, 1], 1: [1, 3, 0, 2]}  # no order is its own inverse
HOMOGENEOUS = [name for name, a in ACTIVATIONS.items() if a.homogeneous]


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(np.round(8 * rng.standard_normal((5, 2))) / 8 for _ in range(2))  # type: ignore[return-value]


def _theta(net: MLP, seed: int, lead: tuple[int, ...] = ()) -> np.ndarray:
    return np.round(16 * np.random.default_rng(seed).standard_normal((*lead, net.size))) / 16


def _literal_rescale(net: MLP, theta: np.ndarray, layer: int, factors: Any) -> np.ndarray:
    """Weight by weight: the definition."""
    out, start = theta.copy(), 0
    for l, (rows, columns) in enumerate(net.shapes):  # noqa: E741  # l is the layer in every formula
        for i in range(rows):
            for j in range(columns):
                at = start + i * columns + j
                if l == layer:
                    out[at] = theta[at] * factors[i]
                elif l == layer + 1 and j < columns - 1:
                    out[at] = theta[at] / factors[j]
        start += rows * columns
    return out


def _literal_permute(net: MLP, theta: np.ndarray, layer: int, order: Any) -> np.ndarray:
    out, start = theta.copy(), 0
    for l, (rows, columns) in enumerate(net.shapes):  # noqa: E741  # as above
        for i in range(rows):
            for j in range(columns):
                at = start + i * columns + j
                if l == layer:
                    out[at] = theta[start + order[i] * columns + j]
                elif l == layer + 1 and j < columns - 1:
                    out[at] = theta[start + i * columns + order[j]]
        start += rows * columns
    return out


@everywhere
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("lead", [(), (2, 3)], ids=str)
def test_both_are_their_definitions(place: Place, layer: int, lead: tuple[int, ...]) -> None:
    # kills: the bias left out, the next bias divided, rows for columns, the inverse order, the layer after next
    net = MLP(WIDTHS, "relu")
    theta, moved = _theta(net, 1, lead), place.move(net)
    rescaled = to_numpy(rescale(moved, place.array(theta), layer, FACTORS[layer]))
    permuted = to_numpy(permute(moved, place.array(theta), layer, ORDERS[layer]))
    for index in np.ndindex(*lead):
        assert np.array_equal(rescaled[index], _literal_rescale(net, theta[index], layer, FACTORS[layer]))
        assert np.array_equal(permuted[index], _literal_permute(net, theta[index], layer, ORDERS[layer]))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("activation", HOMOGENEOUS)
def test_outputs_stay_exactly(activation: str, layer: int) -> None:
    """Over the rationals, with factors that are no powers of two, and under any masks of the units."""
    net = MLP(WIDTHS, activation)
    f = loss(net, *_data(), loss="squared").drop_units(np.array([1.0, 0.0, 2.5, 1.0, 0.5, 0.0, 1.0]))
    f = f.to("rational")
    theta = f.backend.asarray(_theta(net, 2))
    factors = [Fraction(2, 3), Fraction(5, 7), Fraction(9, 2), Fraction(1, 5)][: net.hidden[layer]]
    moved = rescale(f.net, theta, layer, factors)
    assert not (moved == theta).all()
    assert (f.scores(moved) == f.scores(theta)).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_permuted_units_leave_every_activations_outputs(activation: str) -> None:
    net = MLP(WIDTHS, activation)
    X, theta = _data()[0], _theta(net, 3)
    moved = permute(net, permute(net, theta, 0, ORDERS[0]), 1, ORDERS[1])
    sizes = MLP(WIDTHS, "linear").scores(np.abs(theta), np.abs(X) + 1)  # Σ|terms|, but for softplus's log 2
    assert_rounded(net.scores(moved, X), net.scores(theta, X), terms=1 + sizes.max(), count=sum(WIDTHS))


@pytest.mark.parametrize("move", ["rescale", "permute"])
def test_derivatives_move_by_the_linear_map(move: str) -> None:
    """θ' = Tθ: ∇L' = T⁻ᵀ∇L and H' = T⁻ᵀ H T⁻¹, exactly; T from its action on the unit vectors."""
    # kills: T for T⁻¹, T for Tᵀ, a Hessian that does not move
    net = MLP((2, 3, 2, 1), "leaky_relu")
    X, y = _data()
    f = loss(net, X, y[:, :1], loss="squared").to("rational")
    B, lam = f.backend, f.backend.zeros((0,))
    theta = B.asarray(_theta(net, 4))

    def moved(x: Any, inverse: bool = False) -> Any:
        if move == "rescale":
            c = [Fraction(2, 3), Fraction(5), Fraction(1, 7)]
            return rescale(f.net, x, 0, [1 / k for k in c] if inverse else c)
        return permute(f.net, x, 0, np.argsort(ORDERS[0]) if inverse else ORDERS[0])

    T, inverse = (B.mT(moved(B.eye(f.d), inverse)) for inverse in (False, True))
    assert (T @ inverse == B.eye(f.d)).all()
    assert (moved(theta) == B.matvec(T, theta)).all()
    assert not (T == B.eye(f.d)).all()
    there = moved(theta)
    assert (f.grad_w(lam, there) == B.matvec(B.mT(inverse), f.grad_w(lam, theta))).all()
    H = f.hess_ww(lam, theta).dense()
    assert (f.hess_ww(lam, there).dense() == B.mT(inverse) @ H @ inverse).all()


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - set(HOMOGENEOUS)))
def test_what_is_not_homogeneous_is_refused_and_rightly(activation: str) -> None:
    net = MLP((2, 3, 1), activation)
    theta = _theta(net, 5)
    with pytest.raises(HypothesisViolated, match="changes the network") as caught:
        rescale(net, theta, 0, 2.0)
    assert activation in str(caught.value.measured)
    moved = rescale(MLP((2, 3, 1), "relu"), theta, 0, 2.0)
    X = _data()[0]
    assert np.abs(net.scores(moved, X) - net.scores(theta, X)).max() > 2.0**-10  # it would change the outputs


def test_one_number_is_a_factor_for_every_unit() -> None:
    net = MLP(WIDTHS, "relu")
    theta = _theta(net, 6)
    assert np.array_equal(rescale(net, theta, 1, 4.0), rescale(net, theta, 1, [4.0] * 4))


@pytest.mark.parametrize("factors", [0.0, -1.0, [1.0, 2.0], [[1.0, 2.0, 3.0]], np.array([1.0, np.nan, 1.0])])
def test_factors_that_rescale_nothing_are_refused(factors: Any) -> None:
    net = MLP(WIDTHS, "relu")
    with pytest.raises(BadInput, match="rescale no layer"):
        rescale(net, _theta(net, 7), 0, factors)


@pytest.mark.parametrize("factors", [np.inf, [1.0, np.inf, 1.0]])
def test_infinite_factors_are_refused(factors: Any) -> None:
    net = MLP(WIDTHS, "relu")
    with pytest.raises(BadInput, match="a factor is not finite"):
        rescale(net, _theta(net, 7), 0, factors)


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [0, 1, 3], [0.0, 1.0, 2.0], [[0, 1, 2]]])
def test_orders_that_are_none_are_refused(order: Any) -> None:
    net = MLP(WIDTHS, "relu")
    with pytest.raises(BadInput, match="not an order"):
        permute(net, _theta(net, 8), 0, order)


@pytest.mark.parametrize("layer", [-1, 2])
def test_layers_that_nothing_reads_are_refused(layer: int) -> None:
    net = MLP(WIDTHS, "relu")
    for call in (
        lambda: rescale(net, _theta(net, 9), layer, 2.0),
        lambda: permute(net, _theta(net, 9), layer, [0]),
    ):
        with pytest.raises(BadInput, match="no such hidden layer"):
            call()
    body = MLP((2, 3), "relu", body=True)
    with pytest.raises(BadInput, match="no such hidden layer"):
        rescale(body, _theta(body, 9), 0, 2.0)  # its outputs would change


def test_parameters_of_another_network_are_refused() -> None:
    with pytest.raises(BadInput, match="wrong shape"):
        rescale(MLP(WIDTHS, "relu"), np.zeros(5), 0, 2.0)
