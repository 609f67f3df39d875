"""If-Match: what names a version, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.core.etags import etag, matches


@given(st.integers(1), st.lists(st.integers(1)))
def test_a_version_is_named_alone_or_among_others(version: int, others: list[int]) -> None:
    named = ", ".join(etag(each) for each in others)
    assert matches(named, version) == (version in others)
    assert matches(f"{named} ,{etag(version)}", version)


@given(st.text(), st.integers(1))
def test_whatever_is_sent_can_be_judged(sent: str, version: int) -> None:
    assert not matches(sent, version) or etag(version) in sent or sent.strip() == "*"


@pytest.mark.parametrize("sent", ["", "1", 'W/"1"', '"11"', '"1', '" 1"', '*, "2"', '"*"'])
def test_a_weak_a_bare_and_a_longer_tag_are_not_the_version(sent: str) -> None:
    assert not matches(sent, 1)


def test_a_star_is_every_version() -> None:
    assert matches("*", 1)
