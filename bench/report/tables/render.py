"""A table as Markdown, as LaTeX with the rules of booktabs, and as CSV. Whatever is shown is escaped."""

from __future__ import annotations

import io
import math
import re
import unicodedata
from typing import Any

import pandas as pd

from .model import Cell, Table, footnotes

LONG = 34  # letters from which on a column of words is set in lines


# ------------------------------------------------------------------------------------------------------ Markdown


def markdown(table: Table) -> str:
    """The table as GitHub's Markdown, the best in bold, notes as superscripts."""
    table = table.shown()
    marks = footnotes(table.rows)

    def shown(cell: Cell) -> str:
        text = markdown_text(cell.text)
        text = f"**{text}**" if cell.best and text else text
        noted = ",".join(marks[note] for note in cell.notes)
        return f"{text}<sup>{noted}</sup>" if noted else text

    lines = [
        "| " + " | ".join(markdown_text(column.name) for column in table.columns) + " |",
        "|" + "---|" * len(table.columns),
        *("| " + " | ".join(shown(cell) for cell in row) + " |" for row in table.rows),
    ]
    notes = [f"<sup>{mark}</sup> {markdown_text(note)}" for note, mark in marks.items()]
    return "\n\n".join(["\n".join(lines), *(["  \n".join(notes)] if notes else []), *table.below])


_MARKDOWN = {"|": r"\|", "<": "&lt;", ">": "&gt;", "`": r"\`", "*": r"\*", "\n": " ", "\r": " ", "\t": " "}


def markdown_text(text: str) -> str:
    """Text that is shown as it is, in a cell or a line."""
    return "".join(_MARKDOWN.get(letter, letter) for letter in text)


# --------------------------------------------------------------------------------------------------------- LaTeX

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "[": "{[}", "*": "{*}",  # either would be an option of the row that ends before it
       "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\symbol{34}", "±": r"$\pm$", "×": r"$\times$", "µ": r"\textmu{}", "μ": r"\textmu{}",
    "−": r"$-$", "–": "--", "—": "---", "…": r"\dots{}", "≥": r"$\geq$", "≤": r"$\leq$", "·": r"$\cdot$",
    "∞": r"$\infty$", "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}", "'": "'", "`": r"\textasciigrave{}",
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text that pdflatex sets as it is; a letter that its default fonts lack is named by its code."""
    return _latex_letters(" ".join(text.split()))


def _latex_letters(text: str) -> str:
    return "".join(map(_latex_letter, text))


_ACCENTS = "\u0300\u0301\u0302\u0303\u0308\u030a\u0327"  # that every encoding of LaTeX can set


def _latex_letter(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii():
        return letter if letter.isprintable() else " "
    plain = unicodedata.normalize("NFKD", letter)
    accented = len(plain) == 2 and plain[0].isascii() and plain[0].isalpha() and plain[1] in _ACCENTS
    return letter if accented and ord(letter) < 0x100 else f"{{[}}U+{ord(letter):04X}]"


def _latex_number(text: str) -> str:
    """A number with its interval: powers of ten as such, and a minus where a hyphen stands for one."""
    parts = re.split(r"(?<=\d)e([+-]\d+)", re.sub(r"(?<![\w.+-])-(?=[\d.∞])", "−", text))
    return "".join(
        rf"$\times10^{{{int(part)}}}$" if at % 2 else _latex_letters(part) for at, part in enumerate(parts)
    )


def latex(table: Table, provenance: str = "") -> str:
    """A tabular for a float of yours; it takes \\usepackage{booktabs}, and no other package.

    Words to the left, numbers to the right, the best in bold; footnotes and remarks stand below, in a smaller size.
    """
    table = table.shown()
    marks = footnotes(table.rows)

    def shown(cell: Any) -> str:
        noted = ",".join(marks[note] for note in cell.notes)
        text = latex_text(cell.text) if cell.value is None else _latex_number(cell.text)
        return text + (rf"\textsuperscript{{{noted}}}" if noted else "")

    heads = {str(at): latex_text(column.name) for at, column in enumerate(table.columns)}
    cells = pd.DataFrame([list(row) for row in table.rows], columns=list(heads), dtype=object)
    style = cells.style.hide(axis="index").format(shown).format_index(lambda at: heads[str(at)], axis="columns")
    style = style.map(lambda cell: "font-weight: bold" if cell.best else "")
    body = style.to_latex(hrules=True, convert_css=True, column_format=_format(table))
    head = [f"% {table.title}".replace("\n", " "), *([f"% {provenance}".replace("\n", " ")] if provenance else [])]
    notes = [rf"\textsuperscript{{{mark}}}\,{latex_text(note)}" for note, mark in marks.items()]
    below = [*notes, *(latex_text(_plain(text)) for text in table.below)]
    if not below:
        return "\n".join(head) + "\n" + body
    told = " \\par\n".join(below)
    return "\n".join(head) + f"\n{body}\n\\par\\smallskip\n{{\\footnotesize\\raggedright {told}\\par}}\n"


def _plain(text: str) -> str:
    return re.sub(r"`([^`]*)`|\*\*([^*]*)\*\*", lambda found: found[1] or found[2], text)


def _format(table: Table) -> str:
    """Column types; long words get the width that short ones leave."""
    widths = [max((len(row[i].text) for row in table.rows), default=0) for i in range(len(table.columns))]
    long = [column.words and width > LONG for column, width in zip(table.columns, widths, strict=True)]
    share = 0.5 / max(1, sum(long))
    return "".join(
        f"p{{{share:.2f}\\linewidth}}" if is_long else "l" if column.words else "r"
        for column, is_long in zip(table.columns, long, strict=True)
    )


# ----------------------------------------------------------------------------------------------------------- CSV


def csv(table: Table) -> str:
    """The table as CSV: numbers to the digits that their intervals support, the ends of intervals beside them."""
    data: dict[str, list[object]] = {}
    for index, column in enumerate(table.columns):
        cells = [row[index] for row in table.rows]
        name = column.name
        while name in data:
            name += " "
        data[name] = [_number(cell) for cell in cells]
        if any(math.isfinite(cell.lo) for cell in cells):
            data[f"{name} lo"] = [cell.lo if math.isfinite(cell.lo) else None for cell in cells]
            data[f"{name} hi"] = [cell.hi if math.isfinite(cell.hi) else None for cell in cells]
    notes = ["; ".join(dict.fromkeys(note for cell in row for note in cell.notes)) for row in table.rows]
    if any(notes):
        data["notes"] = list(notes)
    written = io.StringIO()
    pd.DataFrame(data, dtype=object).to_csv(written, index=False, lineterminator="\n")
    return written.getvalue()


def _number(cell: Cell) -> object:
    if cell.value is None:
        return cell.text
    return int(cell.value) if float(cell.value).is_integer() and abs(cell.value) < 2**53 else cell.value
