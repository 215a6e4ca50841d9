import re
from dataclasses import replace

import pytest

from refimpl.errors import BadInput
from verification import coverage, record
from verification.coverage import ROOT, Coverage, Row, StandIn
from verification.runner import Registered

CLAIMS = {"reweighting/cg-delta@vector": "verification/claims/reweighting/implicit.py"}
VERDICTS = {"reweighting/cg-delta@vector": {"quick": "not refuted (exact)", "full": "not refuted (exact)"}}
ROW = Row(
    id="reweighting/eq-12",
    document="reweighting",
    kind="claim",
    title="approximation of the adjoint",
    claims=("reweighting/cg-delta",),
)
DATA = Row(
    id="reweighting/mnist",
    document="reweighting",
    kind="dataset",
    title="digits",
    reason="data not distributable",
    stand_in="mnist",
)
STAND_INS = {
    "mnist": StandIn(name="mnist", title="MNIST", here="digits", original="read it", runs="data.py"),
    "omniglot": StandIn(name="omniglot", title="Omniglot", here="episodes", original="decode it"),
}


def problems(tmp_path, *rows, claims=CLAIMS, verdicts=VERDICTS):
    (tmp_path / "data.py").touch()
    return coverage.problems(Coverage(rows=rows, stand_ins=STAND_INS), claims, verdicts, tmp_path)


def cells(row, claims=CLAIMS, verdicts=VERDICTS):
    text = coverage.pages(Coverage(rows=(row,), stand_ins=STAND_INS), claims, verdicts)["docs/coverage.md"]
    line = next(line for line in text.splitlines() if line.startswith(f"| `{row.id.split('/', 1)[1]}` |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_repository_is_covered_and_its_pages_are_up_to_date(capsys):
    assert coverage.main(["--check"]) == 0, capsys.readouterr().err


def test_sound_rows_have_no_problems(tmp_path):
    assert problems(tmp_path, ROW, DATA) == []


BROKEN = {
    "neither claim nor reason nor mark": (
        [ROW, replace(ROW, id="reweighting/eq-13", claims=())],
        'reweighting/eq-13: it has neither a claim, nor a reason, nor "not yet"',
    ),
    "a claim that is not there": (
        [ROW, replace(ROW, id="reweighting/eq-13", claims=("reweighting/erratum-13",))],
        'reweighting/eq-13: reweighting/erratum-13 is neither registered nor marked "not yet"',
    ),
    "a reason of one's own": ([ROW, replace(DATA, reason="no time")], "'no time' is none of"),
    "a reason with nothing instead": (
        [ROW, replace(ROW, id="reweighting/eq-13", claims=(), reason="text lost")],
        "eq-13: a reason comes with one of",
    ),
    "something instead of nothing": ([replace(ROW, instead="digits")], "eq-12: a reason comes with one of"),
    "two substitutes": ([ROW, replace(DATA, instead="digits")], "mnist: a reason comes with one of"),
    "an id used twice": ([ROW, ROW], "reweighting/eq-12: the id is used 2 times"),
    "an id of another document": ([replace(ROW, id="contraction/eq-12")], "must begin with its document"),
    "no title": ([replace(ROW, title=" ")], "its title must say something"),
    "an unknown kind": ([replace(ROW, kind="song")], "its kind 'song' is none of"),
    "an unknown status": ([replace(ROW, status="soon")], "its status 'soon' is not"),
    "a module that does not exist": (
        [replace(ROW, where="refimpl/lost.py")],
        "refimpl/lost.py does not exist",
    ),
    "a data set without stand-in": (
        [ROW, replace(DATA, stand_in="", instead="digits")],
        "a data set names its stand-in",
    ),
    "an unknown stand-in": ([ROW, replace(DATA, stand_in="emnist")], "there is no [stand-in.emnist]"),
    "a stand-in that does not run": (
        [ROW, replace(DATA, stand_in="omniglot")],
        "nothing runs in place of omniglot",
    ),
    "a claim without a row": ([DATA], "claim reweighting/cg-delta@vector: no row names it"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_ledger_has_one_problem(tmp_path, case):
    rows, sentence = BROKEN[case]
    found = problems(tmp_path, *rows)
    assert len(found) == 1
    assert sentence in found[0]


def test_a_claim_that_vanished_does_not_hide_behind_not_yet(tmp_path):
    (found,) = problems(tmp_path, replace(ROW, status="not yet"), claims={})
    assert found.startswith("claim reweighting/cg-delta@vector: its verdict is recorded")


def test_a_missing_stand_in_module_is_a_problem(tmp_path):
    stand_ins = {"mnist": replace(STAND_INS["mnist"], loader="idx.py")}
    found = coverage.problems(Coverage(rows=(DATA,), stand_ins=stand_ins), {}, {}, tmp_path)
    assert found == [
        "row reweighting/mnist: data.py does not exist",
        "row reweighting/mnist: idx.py does not exist",
    ]


def test_a_marked_row_turns_into_a_judged_one_when_its_last_claim_is_registered():
    claims = ("reweighting/cg-delta", "reweighting/erratum-12")
    row = replace(ROW, claims=claims, status="not yet")
    both = {**CLAIMS, "reweighting/erratum-12": "verification/claims/reweighting/errata.py"}
    assert cells(row, {}, {})[3:] == ["–", "not yet: `cg-delta`, `erratum-12`"]
    assert cells(row)[3:] == [
        "`verification/claims/reweighting/implicit.py`",
        "`cg-delta@vector` **not refuted (exact)**<br>not yet: `erratum-12`",
    ]
    assert cells(row, both)[4] == "`cg-delta@vector` **not refuted (exact)**<br>`erratum-12` *not run*"
    assert [row.standing(c) for c in ({}, CLAIMS, both)] == ["not yet", "judged in part", "judged"]


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        ({"quick": "holds (exact)", "full": "holds (exact)"}, "**holds (exact)**"),
        (
            {"full": "holds (exact)", "quick": "loose (exact)"},
            "**loose (exact)** (quick), **holds (exact)** (full)",
        ),
        ({"full": "holds (exact)"}, "**holds (exact)** (full)"),
        ({"quick": "holds (exact)"}, "**holds (exact)**"),
        ({}, "*not run*"),
    ],
)
def test_a_verdict_names_its_level_where_levels_differ(levels, shown):
    assert cells(ROW, verdicts={"reweighting/cg-delta@vector": levels})[4] == f"`cg-delta@vector` {shown}"


def test_what_runs_instead_is_called_planned_until_it_runs():
    row = replace(ROW, reason="hardware", instead="a small network", status="not yet")
    assert cells(row, {}, {})[4].endswith("hardware; planned: a small network")
    assert cells(row)[4].endswith("hardware; here: a small network")
    assert cells(DATA)[3:] == [
        "`data.py`",
        "data not distributable; here: digits ([stand-ins](stand-ins.md))",
    ]


def test_stand_ins_say_what_does_not_run_yet():
    text = coverage.pages(Coverage(rows=(DATA,), stand_ins=STAND_INS), {}, {})["docs/stand-ins.md"]
    assert "| MNIST | reweighting: digits | digits (`data.py`) | read it |" in text
    assert "| Omniglot |  | not yet; planned: episodes | decode it |" in text


@pytest.mark.parametrize(
    ("pattern", "claim", "stands"),
    [
        ("contraction/theorem-1", "contraction/theorem-1", True),
        ("contraction/theorem-1", "contraction/theorem-1@sharp", True),
        ("contraction/theorem-1", "contraction/theorem-12", False),
        ("contraction/remark-1-i", "contraction/remark-1-iii", False),
        ("contraction/theorem-1@a", "contraction/theorem-1", False),
        ("contraction/lemma-3*", "contraction/lemma-3-ii", True),
        ("contraction/table-1/*", "contraction/table-1/stable-vr", True),
        ("contraction/lemma-3", "Contraction/lemma-3", False),
    ],
)
def test_a_pattern_stands_for_a_claim_its_readings_and_its_glob(pattern, claim, stands):
    assert coverage.names(pattern, claim) is stands


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[other]]\nid = "other/x"', "unknown arrays"),
        ('[[contraction]]\nid = "contraction/x"\nkind = "claim"', "title"),
        ('[[contraction]]\nid = "contraction/x"\nkind = "claim"\ntitle = "t"\nwher = "x"', "wher"),
        ('[[contraction]]\nid = "contraction/x"\nkind = "claim"\ntitle = 3', "not made of text"),
        (
            '[[contraction]]\nid = "contraction/x"\nkind = "claim"\ntitle = "t"\nclaims = "c"',
            "not made of text",
        ),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, text, message):
    path = tmp_path / "coverage.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        coverage.load(path)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A directory with a ledger of one row and one claim; the row's last lines are the test's."""
    monkeypatch.setattr(coverage, "registered", lambda: {"contraction/x": "claims/x.py"})
    (tmp_path / "verification").mkdir()

    def write(*lines):
        head = ["[[contraction]]", 'id = "contraction/x"', 'kind = "claim"', 'title = "a | b"']
        text = "\n".join([*head, *lines])
        (tmp_path / "verification" / "coverage.toml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_check_fails_on_a_stale_page_and_write_mends_it(clone, capsys):
    root = clone('claims = ["contraction/x"]')
    assert coverage.main(["--check"], root=root) == 1
    assert "docs/coverage.md is out of date" in capsys.readouterr().err
    assert coverage.main(["--write"], root=root) == 0
    assert coverage.main(["--check"], root=root) == 0
    page = root / "docs" / "coverage.md"
    assert r"a \| b" in page.read_text(encoding="utf-8")
    page.write_text("edited", encoding="utf-8")
    assert coverage.main(["--check"], root=root) == 1


def test_a_new_verdict_makes_the_page_stale(clone):
    root = clone('claims = ["contraction/x"]')
    assert coverage.main(["--write"], root=root) == 0
    verdicts = {"quick": {"contraction/x": {"verdict": "holds", "grade": "proved", "reason": "first run"}}}
    record.save(verdicts, root / "verification" / "recorded.toml")
    assert coverage.main(["--check"], root=root) == 1
    assert coverage.main(["--write"], root=root) == 0
    assert "`x` **holds (proved)**" in (root / "docs" / "coverage.md").read_text(encoding="utf-8")


def test_a_problem_keeps_the_pages_from_being_written(clone, capsys):
    root = clone()
    assert coverage.main(["--write"], root=root) == 1
    assert "row contraction/x: it has neither" in capsys.readouterr().err
    assert not (root / "docs").exists()


def test_a_finished_row_is_told_to_drop_its_mark(clone, capsys):
    root = clone('claims = ["contraction/x"]', 'status = "not yet"')
    assert coverage.main(["--write"], root=root) == 0
    assert "row contraction/x: all its claims are registered" in capsys.readouterr().out


def test_a_registered_claim_lives_in_its_module(monkeypatch):
    monkeypatch.setattr(
        coverage, "discover", lambda: {"contraction/x": Registered("verification.model", None)}
    )
    assert coverage.registered() == {"contraction/x": "verification/model.py"}


def test_pages_do_not_depend_on_the_order_of_registration():
    claims = {**CLAIMS, "reweighting/cg-delta@residual": "a.py", "reweighting/cg-delta@matrix": "b.py"}
    data = Coverage(rows=(ROW,), stand_ins=STAND_INS)
    backwards = dict(reversed(claims.items()))
    assert coverage.pages(data, claims, VERDICTS) == coverage.pages(data, backwards, VERDICTS)


NUMBERED = {  # what the documents number, read off their texts: document -> element -> numbers
    "dropout-bilevel": {
        "assumption": range(1, 5), "algorithm": [1], "prop": [1], "lemma": [1, 2], "remark": [1, 2, 3],
        "theorem": [1, 2], "figure": [1, 2, 3],
    },
    "improved-bilevel": {
        "algorithm": range(1, 7), "prop": [1], "lemma": [1, 2, 3], "theorem": [1, 2], "table": [1],
        "figure": range(1, 6),
    },
    "dropout-flatness": {
        "definition": range(1, 5), "setting": [1, 2, 3], "assumption": [1], "theorem": [1, 2], "prop": [1],
        "table": [1], "figure": range(1, 5), "eq": [2, 3],
    },
    "reweighting": {"eq": [*range(3, 5), *range(10, 22)]},
    "contraction": {
        "algorithm": [1, 2], "lemma": [3, 20, 21, 22, 24, 26, 27, 28], "theorem": [4, 5, 6, 7, 8, 12, 16, 17],
        "corollary": [10, 13], "definition": [11, 15, 23, 25], "remark": [1, 2, 9, 14, 18, 19],
        "table": [1, 2, 3, 4], "figure": [1, 2],
    },
}  # fmt: skip


@pytest.mark.parametrize("document", coverage.DOCUMENTS)
def test_every_numbered_element_has_a_row(document):
    rows = coverage.load(ROOT / "verification" / "coverage.toml").rows
    ids = [row.id for row in rows if row.document == document]
    for element, numbers in NUMBERED[document].items():
        for number in numbers:
            assert any(re.match(rf"{document}/{element}-{number}(-|$)", name) for name in ids), (
                element,
                number,
            )


def test_guards_named_in_the_conventions_exist():
    text = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| **")]
    patterns = {
        name for row in coverage.load(ROOT / "verification" / "coverage.toml").rows for name in row.claims
    }
    assert lines
    for line in lines:
        guard = line.strip("| ").split(" | ")[-1]
        guards = re.findall(r"`([^`]+)`", guard)
        assert guards or guard == "none yet", line
        for name in guards:
            assert (ROOT / name).is_file() if name.startswith("tests/") else name in patterns, name
