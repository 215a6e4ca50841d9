"""Table 1 of contraction, transcribed, against what the algorithms' classes say of themselves."""

from __future__ import annotations

import dataclasses

import refimpl.algorithms
from refimpl.algorithms.protocol import Algorithm
from refimpl.algorithms.table import table

# Columns: does it keep w, does it keep v, how is the linear system solved.
TABLE_1 = {
    "BSA": (False, False, "product"),
    "TTSA": (True, False, "product"),
    "StocBiO": (True, False, "sum"),
    "SMB": (True, False, "product"),
    "SaBiAdam": (True, False, "product"),
    "ALSET": (True, False, "product"),
    "AmIGO": (True, True, "steps"),
    "BSGM": (False, False, "SID"),
    "STABLE": (True, False, "inversion"),
    "FSLA": (True, True, "steps"),
    "STABLEVR": (True, False, "inversion"),
    "SUSTAIN": (True, False, "product"),
    "VRSaBiAdam": (True, False, "product"),
    "MRBO": (True, False, "sum"),
    "VRBO": (True, False, "sum"),
    "ALSETDagger": (True, True, "steps"),  # a variant of the experiments; ALSET†-DET is a setting of it
    "DropoutFSLA": (True, True, "steps"),  # dropout-bilevel's
}


def test_the_table_is_the_documents():
    """15 algorithms, ALSET's variant and FSLA with dropout. Kills: a flag exchanged, a row lost, a method renamed."""
    found = {row.name: (row.lower, row.linear, row.linear_system) for row in table()}
    assert found == TABLE_1


def test_a_row_is_what_the_class_says():
    kinds = {x for x in vars(refimpl.algorithms).values() if isinstance(x, type) and issubclass(x, Algorithm)}
    by_name = {kind.__name__: kind for kind in kinds}
    for row in table():
        kind = by_name[row.name]
        assert (row.lower, row.linear) == kind.warm_start
        assert row.source == kind.source
        assert set(row.batches) <= {f.name for f in dataclasses.fields(kind)}
        assert row.batches
    assert {row.name: row.batches for row in table()}["BSGM"] == ("J", "batch")
