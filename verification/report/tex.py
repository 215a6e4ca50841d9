"""LaTeX to MathML when the report is built: the page needs no script and no network to show a formula."""

from __future__ import annotations

import re

from latex2mathml.converter import convert
from markupsafe import Markup, escape

# An unknown macro, or an alignment mark outside its environment, comes back as an identifier of its own.
_NOT_UNDERSTOOD = re.compile(r"<m[ion][^>]*>(\\[^<]+|&)</m[ion]>")
_PIECES = re.compile(r"(\$\$.+?\$\$|\$.+?\$)", re.DOTALL)
_SIZED_NORM = re.compile(r"\\[Bb]igg?[lr]?(?=\\\|)")  # it does not size this bar, so the size is dropped
_ALIGNED = re.compile(r"(\\(?:begin|end)\{)aligned\}")  # the converter knows the same layout by another name


class Untypeset(ValueError):
    """LaTeX that cannot be turned into MathML."""


def mathml(tex: str, *, display: bool) -> Markup:
    """One formula as a ``<math>`` element, in a box that scrolls when displayed.

    Raises ``Untypeset``, naming what is not understood.
    """
    try:
        known = _SIZED_NORM.sub("", _ALIGNED.sub(r"\1split}", tex))
        markup = convert(known, display="block" if display else "inline")
    except Exception as error:  # the converter raises whatever its parser trips over
        raise Untypeset(f"{tex!r}: {type(error).__name__} {error}") from error
    if unknown := _NOT_UNDERSTOOD.search(markup):
        raise Untypeset(f"{tex!r}: {unknown[1]} is not understood")
    return Markup('<span class="display">{}</span>' if display else "{}").format(Markup(markup))


def typeset(text: str, *, formula: bool = False) -> Markup:
    """Text with ``$inline$`` and ``$$displayed$$`` formulas; ``formula``: text without a dollar is one.

    A formula that cannot be typeset is shown as its LaTeX source.
    """
    if formula and "$" not in text:
        return _formula(text, display=True)
    pieces = []
    for piece in _PIECES.split(text):
        if piece.startswith("$$"):
            pieces.append(_formula(piece[2:-2], display=True))
        elif piece.startswith("$"):
            pieces.append(_formula(piece[1:-1], display=False))
        else:
            pieces.append(escape(piece))
    return Markup("").join(pieces)


def faults(text: str, *, formula: bool = False) -> list[str]:
    """What ``typeset`` would have to show as source: one sentence for each formula."""
    if formula and "$" not in text:
        sources = [text]
    else:
        sources = [piece.strip("$") for piece in _PIECES.split(text) if piece.startswith("$")]
    found = []
    for source in sources:
        try:
            mathml(source, display=True)
        except Untypeset as error:
            found.append(str(error))
    return found


def _formula(tex: str, *, display: bool) -> Markup:
    try:
        return mathml(tex, display=display)
    except Untypeset:
        return Markup("<code>{}</code>").format(tex)
