"""The page ``report/index.html``: one self-contained file from the ledger and the data of its plots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from verification.coverage import DOCUMENTS
from verification.experiments.registration import history
from verification.hunt import canonical
from verification.ledger import slack
from verification.model import GRADES, VERDICTS
from verification.plots import pictures
from verification.report.tex import typeset

AUTHORS = {
    "dropout-bilevel": "Yu, Li, Huang 2024",
    "improved-bilevel": "Li, Gu, Huang 2020",
    "dropout-flatness": "Zhang, Zhou, Xu 2021",
    "reweighting": "Sixu Li, note",
    "contraction": "Grazzi, Pontil, Salzo 2023",
}
MEANINGS = {  # in a sentence each; docs/verdicts.md says all of it
    "holds": "Passing on the instances tried does prove the statement; the claim says why.",
    "not refuted": "Hunted hard and nothing found; the controls fail as they must. Instances prove no more than that.",
    "refuted": "There is a counterexample; the corrected statement passes on it and survives the same hunt.",
    "loose": "Not refuted, but the bound is so slack that mutated formulas pass too; s is the worst case.",
    "vacuous": "It passes, but so does what should not: the test is empty and says nothing about the statement.",
    "undecided": "No verdict can rest on this run; the claim gives the reason.",
    "proved": "Exact rational arithmetic.",
    "certified": "Floats with a bound on their own error that is smaller than the margin.",
    "exact": "No sampling or truncation; rounding of float64 enters the bound as a derived term.",
    "statistical": "Monte Carlo, with confidence level and seed.",
    "illustrative": "An experiment at teaching scale; claims nothing more than it shows.",
}


def render(ledger: Mapping[str, Any], figures: Mapping[str, Mapping[str, Any]], jobs: int = 1) -> str:
    """The page of ``ledger``; ``figures``: plot data of the claims that were run. Cost: 0.03 s per figure and job."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"typeset": typeset, "canonical": canonical, "slack": slack, "number": number, "slug": slug}
    environment.filters.update(filters, share=share, wrapping=wrapping, evidence=_evidence, commits=_commits)
    claims = ledger["claims"]
    counts = Counter(claim["verdict"] for claim in claims)
    return environment.get_template("template.html").render(
        ledger=ledger,
        claims=claims,
        pictures=pictures(figures, jobs),
        documents={name: cited(name) for name in sorted({claim["document"] for claim in claims})},
        legend={"Verdicts": VERDICTS, "Grades": GRADES},
        meanings=MEANINGS,
        verdicts=[verdict for verdict in VERDICTS if counts[verdict]],
        grades=[grade for grade in GRADES if any(claim["grade"] == grade for claim in claims)],
        counts=counts,
    )


def cited(name: str) -> str:
    """A document's title and authors; nothing of one that is not among the five."""
    return f"{DOCUMENTS[name]} ({AUTHORS[name]})" if name in DOCUMENTS else ""


def wrapping(claim_id: str) -> Markup:
    """An id that may be broken after its document and before its reading."""
    return escape(claim_id).replace("/", Markup("/<wbr>")).replace("@", Markup("<wbr>@"))


def slug(text: str) -> str:
    """A verdict or grade as a CSS class name."""
    return text.replace(" ", "-")


def number(value: Any) -> str:
    """Four significant digits of a float, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def share(value: float | None) -> str:
    """A share in per cent; None (above a bound of 0) in words."""
    return "more than all" if value is None else f"{100 * value:.4g}\N{NO-BREAK SPACE}%"


def _commits(claim: Mapping[str, Any]) -> Iterator[str]:
    """What fixed a registered experiment, and what recorded its result: both commits, asked of git now."""
    known = history(claim["registration"], claim["id"])
    if known.unknown:
        yield f"The commits of registration and result cannot be named: {known.unknown}."
        return
    if known.registered is None:
        yield "The registration is not committed."
    else:
        since = ", and not committed as it is now" if known.changed else ""
        yield f"Last changed by commit {known.registered.short} of {known.registered.date}{since}."
    if known.recorded is None:
        yield "No result is committed to the record."
    else:
        yield f"Its result was recorded by commit {known.recorded.short} of {known.recorded.date}."


def _evidence(claim: Mapping[str, Any]) -> Iterator[str]:
    """The sentences that say what the verdict rests on."""
    if not claim["rerun"]:
        known = claim["recorded"]
        if known:
            yield f"Not rerun at this level; last full result of {known['date']} with {known['versions']}."
        if claim["worst"] is None:
            return
    rejected = f" ({claim['rejected']} rejected by a hypothesis)" if claim["rejected"] else ""
    count = claim["instances"]
    yield f"{count} instance{'' if count == 1 else 's'} tried{rejected}."
    if claim["worst"] is not None and claim["counterexample"] is None:
        worst = claim["worst"]["measured"]
        if worst["digits"] is not None:
            yield f"In the worst case both sides agree to {worst['digits']:.1f} digits,"
            yield f"{share(worst['ratio'])} of the rounding allowed."
        elif slack(claim) == "exact":
            yield "Both sides agree exactly."
        else:
            yield f"The worst case reaches {share(worst['ratio'])} of what is allowed."
    if claim["lowered"] is not None:
        yield f"The same hunt refutes {share(claim['lowered'])} of the bound."
    if claim["attained"] is not None:
        yield f"The equality case reaches {share(claim['attained'])} of it."
