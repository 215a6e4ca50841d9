"""Typed errors: every refusal says what was measured, what is required, and what to do."""

from __future__ import annotations

from typing import Any


class RefimplError(Exception):
    """Base of every error raised on purpose.

    Attributes
    ----------
    measured : what was found, usually a number.
    required : what the violated hypothesis or interface asks for.
    advice : one sentence that says what to do next.
    """

    def __init__(
        self, what: str, *, measured: object = None, required: object = None, advice: str = ""
    ) -> None:
        self.what, self.measured, self.required, self.advice = what, measured, required, advice
        lines = [what]
        if measured is not None:
            lines.append(f"measured: {measured}")
        if required is not None:
            lines.append(f"required: {required}")
        if advice:
            lines.append(f"advice: {advice}")
        super().__init__("\n  ".join(lines))

    def __reduce__(
        self,
    ):  # exceptions with keyword-only fields do not pickle by default; workers send them back
        return (_rebuild, (type(self), self.what, self.measured, self.required, self.advice), vars(self))


def _rebuild(
    kind: type[RefimplError], what: str, measured: object, required: object, advice: str
) -> RefimplError:
    return kind(what, measured=measured, required=required, advice=advice)


class HypothesisViolated(RefimplError):
    """A theorem's hypothesis fails at the point asked for (not strongly convex, not contracting, outside Λ)."""


class NotConverged(RefimplError):
    """An iterate handed in, or reached within the budget, does not solve its equation."""


class Diverged(NotConverged):
    """Iterates are no longer finite; ``result``: what a run had recorded until then, where it was one."""

    result: Any = None


class NotCertified(RefimplError):
    """No rigorous bound could be established; the number may still be right."""


class TooLarge(RefimplError):
    """The exact computation asked for does not fit in the stated time or memory."""


class WrongDerivative(RefimplError):
    """A hand-written derivative disagrees with an independent channel."""


class BackendUnavailable(RefimplError):
    """An optional package or device is missing or not set up; the advice names the extra to install."""


class BadInput(RefimplError, ValueError):
    """The arguments are not of the stated shape, dtype, backend or range."""


class OutsideTheory(UserWarning):
    """A theorem's conditions are missed, by the numbers in the text: what is computed carries no guarantee of it."""
