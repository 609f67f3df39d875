"""Names of files, to show and to download by. None of them ever becomes a path here."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from orders.core.media_types import ENDINGS

_LONGEST: Final = 200  # bytes in UTF-8: file systems take 255
# RFC 8187, 3.2.1: what stands for itself in an extended value.
_ATTR_CHARS: Final = "!#$&+-.^_`|~"
# Separators of paths, and what Windows takes in no name.
_IN_NO_NAME: Final = frozenset('<>:"/\\|?*')


def shown_name(given: str, media_type: str) -> str:
    """Return the name a client gave a file, as anybody may be shown it.

    Only its last part, without what is not seen (controls, marks that turn the direction of
    writing), and with an ending of what the file really is: ``bill.exe`` that is a PDF becomes
    ``bill.exe.pdf``. Without a name it is ``file``.
    """
    last = re.split(r"[/\\]", given)[-1]
    seen = "".join(
        "_" if each in _IN_NO_NAME else each
        for each in unicodedata.normalize("NFC", last)
        if unicodedata.category(each)[0] != "C"
    ).strip(" .")
    stem, ending = seen, ENDINGS[media_type][0]
    for known in ENDINGS[media_type]:
        if seen.lower().endswith(known):
            stem, ending = seen[: -len(known)], seen[-len(known) :]
    return _cut(stem, _LONGEST - len(ending)).strip(" .") + ending if stem else f"file{ending}"


def attachment(name: str) -> str:
    """Return a ``Content-Disposition`` (RFC 6266) that makes a browser save the file, not show it.

    Names that are not plain come twice: for those who read RFC 8187, and once more without what
    could end a quoted string or be taken for an escape.
    """
    plain = "".join(each if each.isascii() and _is_plain(each) else "_" for each in name)
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, _ATTR_CHARS)}"


def _is_plain(each: str) -> bool:
    return each.isalnum() or each in " ._-()+,="


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
