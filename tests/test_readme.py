"""README's Python blocks run as printed, and its commands exist."""

import pathlib
import re

import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
OWN_LEVEL = next(block for block in BLOCKS if "from_function" in block)


KINDS = (
    ["bounded"],
    ["estimated", "bounded"],
    ["bounded"],
    [],
    ["bounded"],
    [],
    ["estimated"],
)  # what each block says that it prints


@pytest.mark.parametrize(
    ("block", "kinds"),
    list(zip(BLOCKS, KINDS, strict=True)),
    ids=["first", "digits", "dropout", "stochastic", "many", "noise", "own"],
)
def test_block_runs(block, kinds, capsys):
    exec(compile(block, "README", "exec"), {"__name__": "readme"})
    assert re.findall("bounded|estimated|exact", capsys.readouterr().out) == kinds


def test_own_lower_level_is_short():
    """A lower level of one's own takes less than 15 lines."""
    assert len([line for line in OWN_LEVEL.splitlines() if line.strip()]) < 15


def test_both_commands_stand_at_the_top():
    top = README.split("## ")[0]
    assert "\nmake verify " in top
    assert "\nmake test " in top


def test_links_lead_somewhere():
    root = pathlib.Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), target
