"""The table of docs/flatness.md is what runs say: which measures of flatness the symmetries leave alone."""

from __future__ import annotations

import pytest

from tests.flatness_things import MOVES, PAGE, SEEDS, page, row, scene, table

FAST = "filter-normalised profile, filters per layer, biases their own"


@pytest.mark.slow
def test_the_table_of_invariances_is_what_runs_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(table())


def test_a_row_of_the_table_is_what_runs_say() -> None:
    """That profiles do not see a layer times a number, and see each unit times its own."""
    assert row(FAST) in PAGE.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("move", MOVES)
def test_the_table_is_made_of_symmetries(move: str) -> None:
    """The moves are not the identity, and H and Σ move by T⁻ᵀ · T⁻¹, exactly."""
    for seed in SEEDS:
        s, t = scene(seed, None), scene(seed, move)
        inverse = s.B.mT(MOVES[move](s.D.f.net, s.B.eye(s.D.d), True))
        assert not (s.theta == t.theta).all()
        for matrix in ("hessian", "noise"):
            assert (getattr(t, matrix) == s.B.mT(inverse) @ getattr(s, matrix) @ inverse).all()
