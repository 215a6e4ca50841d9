"""The names that users may rely on: pinned, so that one is added or removed on purpose only."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import refimpl

ROOT = Path(refimpl.__file__).parent
PINNED = {
    "refimpl": {
        "BilevelProblem", "FixedPointProblem", "Hypergradient", "Map", "Objective", "affinity", "algorithms",
        "approximate", "arrays", "bounds", "check_derivatives", "checks", "combined", "constants", "counting",
        "curvature", "datasets", "draws", "errors", "exact", "exact_hypergradient", "from_function", "functions",
        "improved_hypergradient", "lengths", "map_from_function", "masks", "measure", "moments", "networks",
        "objective", "operators", "problem", "rates", "sets", "solvers", "spaces", "training", "variances", "zoo",
    },
    "refimpl.algorithms": {
        "ALSET", "ALSETDagger", "AdjointState", "Algorithm", "AmIGO", "AugmentedLagrangianMethod", "BSA", "BSGM",
        "BSGMGuarantee", "Diverged", "DropoutFSLA", "FSLA", "FSLAState", "FixedLambda", "Improved", "ImprovedState",
        "Joint", "L2RW", "MRBO", "MetaWeightNet", "Penalty", "Run", "SMB", "STABLE", "STABLEVR", "SUSTAIN", "SaBiAdam",
        "State", "StocBiO", "TTSA", "VRBO", "VRSaBiAdam", "WholeState", "bsgm_guarantee", "fixed_lambda",
        "hessian_batches", "mean_square_mapping", "neumann_terms", "projected", "run", "storm", "storm_moments",
        "table", "whole_state",
    },
    "refimpl.approximate": {
        "Approximation", "HessianInverse", "InnerDescent", "InnerGaussNewton", "ProductNeumann", "SID", "SIDEstimate",
        "SIDMoments", "SIDRun", "SampledHypergradient", "StatedRates", "StochasticIteration", "SumNeumann",
        "augmented_lagrangian", "forward", "guarantees", "implicit", "linear_curve", "lower_curve", "one_step",
        "penalty", "reverse", "sid_moments", "stated_rates", "tikhonov", "truncated",
    },
    "refimpl.arrays": {"Backend", "Factor", "backend", "factor", "factor_spd", "solve_spd", "to_numpy"},
    "refimpl.curvature": {
        "Alignment", "EigenDirections", "Exploration", "IntervalFlatness", "Profile", "Surface", "alignment", "along",
        "eigen_directions", "embedded", "estimated_noise", "filter_normalised", "gradient_data", "hessian",
        "interval_flatness", "network_filters", "noise", "profile", "projected_variance", "quadratic_width",
        "stationary_from", "surface",
    },
    "refimpl.datasets": {
        "Dataset", "Episode", "EpisodeSampler", "corrupt_labels", "load_cifar10", "load_cifar100", "load_digits",
        "load_idx", "load_svhn", "rotate_classes", "split_classes", "translation", "Translation",
    },
    "refimpl.exact": {
        "Certificate", "Enclosure", "Hypergradient", "ImprovedHypergradient", "LowerSolution", "SimpleSolution",
        "adjoint", "certify", "enclose", "exact_hypergradient", "hyperobjective_hessian", "improved_hypergradient",
        "solution_jacobian", "solve_lower", "solve_simple",
    },
    "refimpl.masks": {"Dropout", "MAX_MASKS", "Masked", "dropout"},
    "refimpl.moments": {
        "AffineDraw", "AffineStep", "Moments", "PackedStep", "Paths", "Relaxed", "Schedule", "Stationary",
        "affine_draw", "affine_step", "averaged", "curve", "mean_and_second", "mean_square_curve", "mixture", "paths",
        "spectral_radius", "stationary",
    },
    "refimpl.networks": {
        "ACTIVATIONS", "Activation", "ExpectedLoss", "LastLayerDropout", "MLP", "NetworkLoss", "SharedLoss",
        "expected_one_hidden", "loss", "permute", "rescale", "shared", "traced",
    },
    "refimpl.sets": {"Ball", "BallInBox", "Blocks", "Box", "ConvexSet", "Rows", "SpectralBall", "gradient_mapping"},
    "refimpl.solvers": {
        "Averaging", "BiGSAM", "Cholesky", "ConjugateGradient", "FixedPoint", "FixedPointAdjoint", "GradientDescent",
        "HeavyBall", "IdentityStart", "LU", "LinearSolution", "LinearSolver", "LowerSolver", "Neumann", "Newton",
        "NewtonCG", "NormalCG", "Projection", "Proximal", "Run", "SoftThreshold", "contraction_of",
    },
    "refimpl.spaces": {
        "Bernoulli", "CHUNK", "Estimate", "Indices", "Minibatch", "Product", "Repeated", "Space", "covariance",
        "estimate", "expect", "second_moment",
    },
    "refimpl.training": {
        "Adam", "AdamState", "Diverged", "Draws", "Gaussian", "GradientDescent", "Isotropic",
        "Nesterov", "NesterovState", "Noise", "Optimiser", "Run", "State", "gaussian", "train",
    },
    "refimpl.zoo": {
        "biased", "degenerate", "equilibrium", "logistic", "maps", "overparametrised", "poisoning", "quadratic",
        "ridge", "uppers", "weight_function", "weighted_softmax",
    },
}  # fmt: skip


def _exported(name: str) -> set[str]:
    """What the package's ``__init__`` re-exports on purpose: ``from … import x as x``, or ``__all__``."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    if hasattr(module, "__all__"):
        return set(module.__all__)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    aliases = [a for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names]
    return {a.name for a in aliases if a.asname == a.name}


@pytest.mark.parametrize("name", PINNED)
def test_exported_names_are_pinned(name):
    assert _exported(name) == PINNED[name]


@pytest.mark.parametrize("name", PINNED)
def test_exported_names_exist_and_say_what_they_are(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    for exported in PINNED[name]:
        thing = getattr(module, exported)
        assert thing.__doc__, f"{name}.{exported}"
        assert not thing.__doc__.startswith(f"{exported}("), (
            f"{name}.{exported} has a dataclass's own signature"
        )


def test_every_package_is_pinned():
    packages = {"refimpl"} | {f"refimpl.{p.parent.name}" for p in ROOT.glob("*/__init__.py")}
    assert packages == set(PINNED)


def test_every_room_is_an_attribute_of_the_package():
    rooms = {p.stem for p in ROOT.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    for room in rooms - {"__init__", "cli"}:  # cli is the command
        assert getattr(refimpl, room) is importlib.import_module(f"refimpl.{room}")


def test_type_checkers_read_the_names_that_the_package_has():
    """What the block for them imports, and what ``__getattr__`` finds, are one list."""
    tree = ast.parse(Path(refimpl.__file__).read_text(encoding="utf-8"))
    read = {
        (str(node.module).removeprefix("refimpl").lstrip(".") or alias.name, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("refimpl")
        for alias in node.names
    }
    assert read == {(refimpl._ROOM.get(name, name), name) for name in refimpl.__all__}


def test_the_bounds_are_where_the_readme_says():
    """By the dotted path, with nothing else imported."""
    program = "import refimpl as ri; print(ri.approximate.guarantees.theorem_8.__name__)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "theorem_8\n"
    assert "refimpl.approximate.guarantees.theorem_8" in (ROOT.parent / "README.md").read_text(
        encoding="utf-8"
    )


def test_names_complete_before_they_are_loaded():
    program = "import refimpl; print(*dir(refimpl))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {*PINNED["refimpl"], "__version__"} <= set(ran.stdout.split())


def test_a_wrong_name_is_refused_as_usual():
    said = r"^module 'refimpl' has no attribute 'exact_hypergradien'$"
    with pytest.raises(AttributeError, match=said) as caught:
        refimpl.exact_hypergradien  # noqa: B018 (the look-up is what is tested)
    # what "Did you mean" reads
    assert (caught.value.name, caught.value.obj) == ("exact_hypergradien", refimpl)
    with pytest.raises(ImportError, match="cannot import name 'wrong'"):
        from refimpl import wrong  # noqa: F401
    assert not hasattr(refimpl, "import_modul")


def test_options_are_keywords():
    """A second positional option would be read in the wrong order one day."""
    found = {
        f"{name}.{exported}": thing
        for name in ("refimpl", "refimpl.exact", "refimpl.approximate")
        for exported in PINNED[name]
        if inspect.isfunction(thing := getattr(importlib.import_module(name), exported))
    }
    for name, function in found.items():
        for parameter in inspect.signature(function).parameters.values():
            optional = parameter.default is not inspect.Parameter.empty
            allowed = parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.name in ("lam", "w")
            assert allowed or not optional, f"{name}({parameter.name}=…)"


def test_the_version_is_the_packages():
    text = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{refimpl.__version__}"\n' in text
    assert (ROOT / "py.typed").exists()
