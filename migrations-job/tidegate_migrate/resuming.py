"""Which statements of a revision an earlier run has committed, as they come again. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

from tidegate_migrate.indexes import COMMENTS
from tidegate_migrate.journal import Unfinished

# What holds for the session it has to do again, at every run.
_SETTING: Final = re.compile(
    rf"{COMMENTS}(?:SET|RESET|SELECT\s+(?:pg_catalog\.)?set_config)\b", re.IGNORECASE | re.DOTALL
)
# What a revision reads it may go by, and a transaction's own words are SQLAlchemy's.
_READS: Final = re.compile(
    rf"{COMMENTS}(?:\(\s*)*(?:SELECT|VALUES|TABLE|SHOW|EXPLAIN|SET|RESET|DECLARE|FETCH|CLOSE"
    r"|SAVEPOINT|RELEASE|ROLLBACK|COMMIT|BEGIN"
    r"|WITH\b(?!.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b))\b",
    re.IGNORECASE | re.DOTALL,
)


def is_setting(statement: str) -> bool:
    """Tell whether a statement only sets something for the session or the transaction."""
    return _SETTING.match(statement) is not None


def is_read(statement: str) -> bool:
    """Tell whether a statement leaves the database as it is, as far as its text shows."""
    return _READS.match(statement) is not None


class Course:
    """Follows a revision behind what an ``earlier`` run has committed of it.

    A transaction is committed as a whole, by the block that comes after it. So what stands before
    the part that the earlier run was in is passed over, whatever it says this time: it may hold
    the time or a UUID, or do what it finds to be done. In that part, a block where each statement
    stands alone, a statement is known by its text.

    Only where the file is another one, with another ``checksum``, its text has to begin as it did.
    ``text`` writes a statement out, ``changed`` is what is to be raised where that does not fit.
    """

    def __init__(
        self,
        earlier: Unfinished,
        checksum: Callable[[], str],
        *,
        text: Callable[[Any], str],
        changed: Callable[[str], Exception],
    ) -> None:
        # Of what has committed nothing, only the statement in doubt counts.
        self._earlier = earlier if earlier.done else Unfinished(begun=earlier.begun)
        self._same_file = not earlier.part or earlier.checksum == checksum()
        self._checksum = checksum
        self._text = text
        self._changed = changed
        self._hash = hashlib.sha256()
        self._passed: list[Any] = []
        self._before = ""
        self._alone: list[str] = []
        self._expected: list[str] = []
        self._part = 0
        self.done = self._earlier.done

    @property
    def passing(self) -> bool:
        """Whether all that comes in this part is committed."""
        return self._part < self._earlier.part

    @property
    def is_new(self) -> bool:
        """Whether no earlier run has come to this part."""
        return self._part > self._earlier.part

    def met(self, construct: Any) -> None:  # noqa: ANN401 - a text, or SQLAlchemy's
        """Take note of a statement, committed or not."""
        self._passed.append(construct)

    def next_part(self) -> None:
        """Go on to the next part: a block begins, or ends.

        Raises:
            Exception: ``changed``.
        """
        self._check_nothing_is_left()
        self._part += 1
        for construct in self._passed:
            self._hash.update(self._text(construct).encode() + b"\0")
        self._passed.clear()
        self._before = self._hash.hexdigest()
        here = self._part == self._earlier.part
        self._alone = list(self._earlier.alone) if here else []
        self._expected = list(self._alone)
        if here and not self._same_file and self._before != self._earlier.before:
            raise self._changed("its file no longer begins with them")

    def finish(self) -> None:
        """Come to the end.

        Raises:
            Exception: ``changed``.
        """
        self._check_nothing_is_left()
        if self.passing:
            raise self._changed("it ends now before it comes to where that was")

    def is_done(self, digest: str) -> bool:
        """Tell whether this statement of the block is committed.

        Raises:
            Exception: ``changed``.
        """
        if digest in (self._expected if self._same_file else self._expected[:1]):
            self._expected.remove(digest)
            return True
        if not self._same_file:
            self._check_nothing_is_left()
        return False

    def in_doubt(self, digest: str) -> bool:
        """Tell whether this statement was running when the earlier run ended."""
        return digest == self._earlier.begun and not self._earlier.stale

    def finished(self, digest: str) -> None:
        """Take note that this statement of the block is committed."""
        self._alone.append(digest)
        self.done += 1

    def entry(self, begun: str = "") -> Unfinished:
        """Return what is to be noted now, with the digest of the statement that is to run next."""
        return Unfinished(
            self._checksum(), self._part, self.done, self._before, tuple(self._alone), begun
        )

    def _check_nothing_is_left(self) -> None:
        if self._expected and not self._same_file:
            raise self._changed("its file no longer begins with them")


def digest(text: str) -> str:
    """Return what a statement is known by."""
    return hashlib.sha256(text.encode()).hexdigest()
