"""Tables for the terminal."""

from collections import Counter
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column left, the others right aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def left_out_table(left_out: Counter[str]) -> str:
    """What was left out and why, the most frequent first."""
    rows = [(reason, str(count)) for reason, count in left_out.most_common()]
    return table(("left out", "periods"), rows or [("nothing", "0")])
