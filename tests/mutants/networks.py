"""The generated mutants of the networks, and what judges them: derivatives, then the definitions of every quantity."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

import refimpl as ri
from refimpl.networks.activations import ACTIVATIONS
from refimpl.networks.losses import LOSSES
from tests.mutants.generate import Change, Judges, mutants_of
from tests.mutants.model import Mutant, Noticed, called

MODULES: dict[str, tuple[str, ...]] = {  # and what holds formulas there besides the classes of objectives
    "forward": ("Forward", "forward", "kink_distance"),
    "losses": ("LOSSES",),
    "activations": ("ACTIVATIONS",),
    "objective": (),
    "shared": (),
    "last_layer": ("spread_of", "expected"),
    "assembled": ("assemble", "_Down", "Outputs", "features", "contract"),
    "symmetries": ("rescale", "permute"),
}
POINT = 1  # seed of the point (λ, w) and of the directions
BATCH = [3, 0, 3]
SPREAD = (  # every kind of formula: two layers and one, weights, both losses, a bend and none
    "tanh, softmax, two hidden, weighted",
    "sigmoid, squared, one hidden",
    "leaky_relu, squared, two hidden, weighted",
    "linear, softmax, linear model",
)
TASKS = ("tanh, softmax, shared", "softplus, squared, shared", "relu, squared, shared")
TESTS = "tests/test_networks.py::test_"
KILLERS = "tests/test_mutant_killers_dropout.py::test_"
AFTERWARDS = (  # tests for what the judge accepts, cheap ones first
    "the_distance_from_kinks",
    "predictions_and_accuracy",
    "one_output_takes_a_vector_of_targets",
    "what_an_activation_says_of_itself",
    "minibatches_are_means_of_their_terms[numpy-*]",
    "masks_and_samples_share_leading_axes[numpy]",
    "data_with_leading_axes",
    "a_second_derivative_passes_through_the_network_once",
    "the_same_on_every_backend_and_over_leading_axes[*-numpy-*]",
    "the_centred_sigmoid_keeps_small_numbers",
    "what_is_not_polynomial_refuses_the_rationals",
    "kinks_are_refused_over_balls",
)

ALONE = (
    "slopes_of_kinked_activations_are_arrays_like_their_arguments",
    "slopes_of_kinked_activations_are_rationals_where_their_arguments_are",
    "the_distance_from_kinks_of_several_tasks_is_the_nearest",
    "a_unit_behind_a_dropped_one_stands_still",
    "rows_of_a_shared_body_that_stand_still_have_no_kink",
    "masks_go_in_front_of_the_samples_of_shared_tasks",
)
CURVED = (  # and where masks of samples, parts of them and dense matrices are
    "tests/test_last_layer.py::test_a_mask_for_every_sample",
    "tests/test_last_layer.py::test_masks_that_are_none_for_every_sample",
    "tests/test_assembled.py::test_layers_and_blocks_are_the_whole_matrix_s",
    "tests/test_assembled.py::test_close_to_a_kink_is_no_kink",
    "tests/test_assembled.py::test_minibatches_and_masks_have_matrices_of_their_own[numpy]",
    "tests/test_assembled.py::test_the_same_on_every_backend_and_over_leading_axes[*-numpy]",
    "tests/test_curvature.py::test_samples_in_chunks_are_the_same_samples",
    "tests/test_curvature.py::test_masks_of_every_sample_go_with_their_samples",
)
LAST = "tests/test_last_layer.py::test_"
ASSEMBLED = "tests/test_assembled.py::test_"
SYMMETRIES = "tests/test_symmetries.py::test_"
LATER = {  # tests for what the judges of these modules accept
    "last_layer": (
        f"{LAST}the_same_on_every_backend_and_over_leading_axes[*-numpy]",
        f"{LAST}minibatches_are_means_of_their_terms[numpy]",
        f"{LAST}masks_that_are_there_already_multiply",
        f"{LAST}units_that_are_always_or_never_kept",
        f"{LAST}where_there_is_no_closed_form",
        f"{LAST}the_nearest_kink_is_that_of_the_loss",
        f"{ASSEMBLED}expected_hessians_are_sums_over_masks[tanh-squared-*]",
        "tests/test_mutant_killers_flatness.py::test_without_hidden_units_there_is_no_spread",
    ),
    "assembled": (
        f"{ASSEMBLED}layers_and_blocks_are_the_whole_matrix_s",
        f"{ASSEMBLED}the_same_on_every_backend_and_over_leading_axes[*-numpy]",
        f"{ASSEMBLED}the_same_on_every_backend_and_over_leading_axes[*-strict]",
        f"{ASSEMBLED}minibatches_and_masks_have_matrices_of_their_own[numpy]",
        "tests/test_curvature.py::test_samples_in_chunks_are_the_same_samples",
    ),
    "symmetries": (
        f"{SYMMETRIES}both_are_their_definitions[*-numpy]",
        f"{SYMMETRIES}one_number_is_a_factor_for_every_unit",
        f"{SYMMETRIES}factors_that_rescale_nothing_are_refused",
        f"{SYMMETRIES}layers_that_nothing_reads_are_refused",
    ),
}


def _made(name: str) -> dict[str, Any]:
    """The loss of that name, and where it has units the same under masks, on a minibatch, and on one under masks."""
    things = importlib.import_module("tests.network_things")
    f = (things.THINGS | things.SHARED)[name]()
    if name in things.SHARED:
        return {name: f, f"{name}, minibatch": f.batch(BATCH)}
    masks = np.random.default_rng(2).standard_normal((2, f.units))
    g = f.drop_units(masks[0])
    return {name: f, f"{name}, masks": g, f"{name}, masks of a minibatch": g.batch(BATCH)}


def derivatives_noticed(names: tuple[str, ...]) -> None:
    """Raise ``Noticed`` if the derivatives of these losses, or their making, fail ``check_derivatives``."""
    things = importlib.import_module("tests.network_things")
    for name in names:
        try:
            made = _made(name)
            lam, w = things.point(made[name], POINT)
        except Exception as error:
            raise Noticed(f"building {name}: {type(error).__name__}") from error
        for which, f in made.items():
            try:
                ri.check_derivatives(f, lam, w, seed=POINT)
            except Exception as error:
                raise Noticed(f"check_derivatives({which})") from error


def _closed_form() -> None:
    """Raise ``Noticed`` if the expectation over masks of the last hidden layer fails its checks or its sums."""
    things, tests = (
        importlib.import_module(f"tests.{name}") for name in ("curvature_things", "test_last_layer")
    )
    for hidden, weighted in (((2,), False), ((2, 3), True)):
        try:
            case = things.small_case("tanh", hidden=hidden, weighted=weighted)
            ri.check_derivatives(case.dropped.closed, case.lam, case.w, seed=POINT)
        except Exception as error:
            raise Noticed(f"check_derivatives(dropout of the last of {len(hidden)} hidden layers)") from error
    called(tests.test_every_quantity_is_its_sum_over_masks, "tanh", "none")


def _by_structure() -> None:
    """Raise ``Noticed`` if an assembled matrix is not that of the products, or not the definition."""
    tests = importlib.import_module("tests.test_assembled")
    derivatives_noticed(SPREAD[:1])
    called(tests.test_four_layers_have_every_kind_of_block, "tanh", "softmax")
    called(tests.test_expected_hessians_are_sums_over_masks, "tanh", "squared", "inverse")


def _unchanged() -> None:
    """Raise ``Noticed`` if a symmetry moves derivatives in another way than its linear map."""
    tests = importlib.import_module("tests.test_symmetries")
    for move in ("rescale", "permute"):
        called(tests.test_derivatives_move_by_the_linear_map, move)


CHECKS = {"last_layer": _closed_form, "assembled": _by_structure, "symmetries": _unchanged}


def losses_with(function: str) -> tuple[str, ...]:
    """Names of losses that use this function of ``activations`` or ``losses``, of both kinds, shared ones too."""
    rows = {
        name: {f.__name__ for f in vars(row).values() if callable(f)}
        for name, row in (ACTIVATIONS | LOSSES).items()
    }
    of = [name for name, functions in rows.items() if function in functions]
    activations = [name for name in of if name in ACTIVATIONS] or ["tanh", "linear"]
    kinds = [name for name in of if name in LOSSES] or list(LOSSES)
    return tuple(
        f"{a}, {kind}, {end}"
        for a in activations
        for kind in kinds
        for end in ("one hidden, weighted", "shared")
    )


def _judges(names: tuple[str, ...]) -> Judges:
    tests = importlib.import_module("tests.test_networks")

    def judge() -> None:
        derivatives_noticed(names)
        for name in names:
            called(tests.test_every_quantity_is_the_definition, name)

    later = [f"{TESTS}{name}" for name in AFTERWARDS]
    return judge, (*later, *(f"{KILLERS}{name}" for name in ALONE), *CURVED)


def judged_by(change: Change) -> tuple[str, ...]:
    """The losses that evaluate the changed formula."""
    short = change.module.__name__.rpartition(".")[2]
    if short in ("activations", "losses"):
        return losses_with(change.qualname)
    return {"objective": SPREAD, "shared": TASKS}.get(short, (*SPREAD, TASKS[0]))


@functools.cache
def mutants() -> list[Mutant]:
    """All generated mutants of the networks."""
    judges: Callable[[tuple[str, ...]], Judges] = functools.cache(_judges)

    def of(change: Change) -> Judges:
        short = change.module.__name__.rpartition(".")[2]
        return (CHECKS[short], LATER[short]) if short in CHECKS else judges(judged_by(change))

    return [
        mutant
        for name, also in MODULES.items()
        for mutant in mutants_of(importlib.import_module(f"refimpl.networks.{name}"), of, also)
    ]
