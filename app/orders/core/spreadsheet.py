"""Texts for cells of a spreadsheet."""

from __future__ import annotations


def neutral(text: str) -> str:
    """Return the text so that no spreadsheet takes it for a formula.

    One that begins as a formula does gets an apostrophe before it, which spreadsheets do not show.
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text
