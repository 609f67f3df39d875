"""Which statements of a revision an earlier run has committed, as they come again. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from tidegate_migrate.journal import Unfinished
from tidegate_migrate.row_counts import RowCounts

_DIGITS: Final = 16  # of each digest: a block may hold many


class Course:
    """Follows a revision behind what an ``earlier`` run has committed of it.

    A transaction is committed as a whole, by the block that comes after it. So what stands before
    the part that the earlier run was in is passed over, whatever it says this time: it may hold
    the time or a UUID, or do what it finds to be done. In a block each statement stands alone, and
    is known by its digest: one that nobody has seen there was never done.

    Only where the file is another one, with another ``checksum``, its text has to begin as it did.
    ``changed`` is what is to be raised where something does not fit.
    """

    def __init__(
        self,
        earlier: Unfinished,
        checksum: Callable[[], str],
        *,
        changed: Callable[[str], Exception],
    ) -> None:
        # Of what has committed nothing, only the statements in doubt count.
        self._earlier = (
            earlier
            if earlier.done or earlier.part > 1
            else Unfinished(begun=earlier.begun, stale=earlier.stale)
        )
        self.counts = RowCounts(self._earlier.counts)
        self._same_file = not earlier.part or earlier.checksum == checksum()
        self._checksum = checksum
        self._changed = changed
        self._hash = hashlib.sha256()
        self._met: list[str] = []
        self._before = ""
        self._ended: list[tuple[str, ...]] = []
        self._alone: list[str] = []
        self._unnoted: list[str] = []
        self._expected: list[str] = []
        self._doubts = [] if earlier.stale else list(earlier.begun)
        self._running = ""
        self._part = 0
        self._counted = 0
        self.done = self._earlier.done

    @property
    def passing(self) -> bool:
        """Whether all that comes in this part is committed."""
        return self._part < self._earlier.part

    @property
    def is_new(self) -> bool:
        """Whether no earlier run has come to this part."""
        return self._part > self._earlier.part

    def met(self, text: str) -> None:
        """Take note of what a statement says, committed or not."""
        self._met.append(text)

    def count(self) -> None:
        """Count a statement of the transaction that is open."""
        self._counted += 1

    def end_transaction(self, *, wrote: bool | None) -> None:
        """Go on to the block that commits the transaction before it.

        ``wrote`` tells whether the revision has changed anything in that, whatever its statements
        looked like; None where nobody knows.

        Raises:
            Exception: ``changed``.
        """
        if wrote is None:
            self.done += self._counted
        elif wrote:
            self.done += max(1, self._counted)
        self._next_part()
        if self.passing:
            block = len(self._ended)
            noted = self._earlier.ended[block] if block < len(self._earlier.ended) else ()
            self._alone = list(noted)
        elif not self.is_new:
            self._alone = list(self._earlier.alone)
        self._expected = list(self._alone)

    def end_block(self, *, failed: bool = False) -> None:
        """Go on to the transaction behind a block; of one that has ``failed`` some may be left.

        Raises:
            Exception: ``changed``.
        """
        if not (self.passing or failed):
            self._check_nothing_is_left()
            self._doubts.clear()
        self._ended.append((*self._alone, *self._unnoted))
        self._alone, self._unnoted, self._expected = [], [], []
        self._next_part()

    def _next_part(self) -> None:
        self._part += 1
        self._counted = 0
        for text in self._met:
            self._hash.update(text.encode() + b"\0")
        self._met.clear()
        self._before = self._hash.hexdigest()
        here = self._part == self._earlier.part
        if here and not self._same_file and self._before != self._earlier.before:
            raise self._changed("its file no longer begins with them")

    def finish(self) -> None:
        """Come to the end.

        Raises:
            Exception: ``changed``.
        """
        if self.passing:
            raise self._changed("it ends now before it comes to where that was")

    def pass_over(self, digest: str) -> None:
        """Leave out a statement of a block that has ended.

        Raises:
            Exception: ``changed``: it was not among the block's statements.
        """
        if digest not in self._expected:
            raise self._changed("a block that had ended holds another statement now")
        self._expected.remove(digest)

    def is_done(self, digest: str) -> bool:
        """Tell whether this statement of the block is committed.

        Raises:
            Exception: ``changed``.
        """
        if digest in (self._expected if self._same_file else self._expected[:1]):
            self._expected.remove(digest)
            return True
        self._check_nothing_is_left()
        return False

    def in_doubt(self, digest: str) -> bool:
        """Tell whether this statement was running when an earlier run ended."""
        return digest in self._doubts

    def ran(self, digest: str, *, counts: bool) -> None:
        """Take note of a statement of the block that is run again until the block has ended."""
        self._unnoted.append(digest)
        self.done += counts

    def begin(self, digest: str) -> None:
        """Take note that this statement of the block is to run next."""
        self._running = digest

    def failed(self) -> None:
        """Take note that it has committed nothing. What was in doubt before remains so."""
        self._running = ""

    def finished(self) -> None:
        """Take note that it is committed."""
        self._alone.append(self._running)
        if self._running in self._doubts:
            self._doubts.remove(self._running)
        self._running = ""
        self.done += 1

    def entry(self) -> Unfinished:
        """Return what is to be noted now."""
        begun = dict.fromkeys([*self._doubts, *filter(None, [self._running])])
        return Unfinished(
            self._checksum(),
            self._part,
            self.done,
            self._before,
            tuple(self._alone),
            tuple(begun),
            tuple(self._ended),
            self.counts.written(),
        )

    def _check_nothing_is_left(self) -> None:
        if self._expected and not self._same_file:
            raise self._changed("its file no longer begins with them")


def digest(text: str, values: object = None) -> str:
    """Return what a statement of a block is known by: what it says, and the values it is given."""
    told = f"{text}\0{values!r}" if values else text
    return hashlib.sha256(told.encode(errors="replace")).hexdigest()[:_DIGITS]
