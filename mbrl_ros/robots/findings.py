"""What a check has found: rows of a table."""

from dataclasses import dataclass

OK, WARN, FIX = "ok", "look at", "fix"


@dataclass(frozen=True)
class Finding:
    """One row.

    Attributes:
        what: was looked at.
        verdict: OK, WARN or FIX.
        detail: the figures, or what to do.
    """

    what: str
    verdict: str
    detail: str = ""


def judged(what: str, problems: list[str], fine: str, verdict: str = FIX) -> Finding:
    """A row for a list of problems, or the row that says that all is well."""
    return Finding(what, verdict, "; ".join(problems)) if problems else Finding(what, OK, fine)
