"""What the ledger prints is whole: formulas close, and no text is lost beside the one it should have joined."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from verification import runner
from verification.report.tex import faults

CLONE = Path(__file__).resolve().parent.parent
MODULES = [
    p for room in ("refimpl", "verification", "tests", "examples") for p in (CLONE / room).rglob("*.py")
]
CLAIMS = [registered.claim for registered in runner.discover().values()]
each = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)


def unbalanced(text: str) -> str | None:
    """Where the first brace that has no partner stands; escaped braces are printed, not grouped."""
    opened = []
    for found in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if found[0] == "{":
            opened.append(found.start())
        elif found[0] == "}":
            if not opened:
                return text[max(0, found.start() - 20) : found.end()]
            opened.pop()
    return text[opened[-1] :][:20] if opened else None


def odd(text: str) -> bool:
    """A dollar sign without its partner."""
    return len(re.findall(r"(?<!\\)\$", text)) % 2 == 1


def lost(tree: ast.AST) -> list[tuple[int, str]]:
    """Expression statements that are texts and no docstrings: parts of a longer text, outside its parentheses."""
    found = []
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            for k, statement in enumerate(block if isinstance(block, list) else ()):
                if (documented and k == 0) or not isinstance(statement, ast.Expr):
                    continue
                value = statement.value
                if isinstance(value, ast.JoinedStr) or isinstance(getattr(value, "value", None), str):
                    found.append((statement.lineno, ast.unparse(value)))
    return found


@each
def test_formulas_are_whole(claim):
    formulas = [claim.statement, *(h.tex for h in claim.hypotheses)]
    texts = [claim.title, claim.source, claim.notes, claim.complete or "", claim.loose or ""]
    if claim.printed:
        formulas.append(claim.printed)
    if claim.corrected:
        formulas.append(claim.corrected.tex)
        texts.append(claim.corrected.proof)
    assert not [broken for text in (*formulas, *texts) if (broken := unbalanced(text))]
    assert not [text for text in (*formulas, *texts) if odd(text)]
    assert not [fault for text in formulas for fault in faults(text, formula=True)]
    assert not [fault for text in texts for fault in faults(text)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CLONE)))
def test_no_text_stands_alone(path):
    assert not lost(ast.parse(path.read_text(encoding="utf-8")))


def test_the_checks_notice():
    assert unbalanced(r"\frac{1}{n") == "{n"
    assert unbalanced(r"\text{a}}") == r"\text{a}}"
    assert unbalanced(r"\{0, 1\} \text{a}") is None
    assert odd("a $b$ of $c")
    assert not odd(r"5\$ and $b$")
    joined = 'A = "a "\n"b"\n'
    assert lost(ast.parse(joined)) == [(2, "'b'")]
    assert lost(ast.parse('def f():\n    "one"\n    f"two {f}"\n    if f:\n        "three"\n'))
    assert not lost(ast.parse('"one"\nclass A:\n    "two"\n    x = ("a" "b")\n'))
