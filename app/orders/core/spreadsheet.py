"""Texts for cells of a spreadsheet."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, SQLColumnExpression, case, func, literal

# OWASP's list; and the same as wide as Chinese and Japanese keyboards write them, which may be read
# as these where a spreadsheet speaks such a language.
_NARROW: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_WIDE: Final = ("\uff1d", "\uff0b", "\uff0d", "\uff20")
_BEGIN_FORMULAS: Final = _NARROW + _WIDE


def neutral(text: str) -> str:
    """Return the text so that no spreadsheet takes it for a formula.

    One that begins as a formula does gets an apostrophe before it, which spreadsheets do not show.
    """
    return f"'{text}" if text.startswith(_BEGIN_FORMULAS) else text


def neutral_sql(column: SQLColumnExpression[str]) -> ColumnElement[str]:
    """Return what :func:`neutral` does as an expression, for rows that Python never sees.

    By the number of the first character, in a database in UTF-8: to cut it out and compare it as
    a text takes ten times as long.
    """
    begins = func.ascii(column).in_([ord(each) for each in _BEGIN_FORMULAS])
    return case((begins, literal("'").concat(column)), else_=column)
