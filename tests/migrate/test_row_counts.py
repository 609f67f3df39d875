"""What a revision's statements have answered, given again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate_migrate.row_counts import RowCounts

statements = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1, 3)), max_size=30)


def noted(ran: list[tuple[str, int]]) -> RowCounts:
    counts = RowCounts()
    for text, count in ran:
        counts.note(text, count)
    return counts


@given(statements, st.integers(0, 30))
def test_what_comes_again_in_its_order_is_answered_as_it_was_and_noted_as_it_was(
    ran: list[tuple[str, int]], times: int
) -> None:
    again = RowCounts(noted(ran).written())
    assert [again.again(text) for text, _ in ran[:times]] == [count for _, count in ran[:times]]
    assert again.written() == noted(ran[:times]).written()


@given(statements, st.sets(st.integers(0, 29)))
def test_what_is_left_out_changes_no_answer_of_the_others(
    ran: list[tuple[str, int]], left_out: set[int]
) -> None:
    # All differ: of the same statement nobody knows which one was left out.
    named = [(f"{text}{place}", count) for place, (text, count) in enumerate(ran)]
    again = RowCounts(noted(named).written())
    kept = [each for place, each in enumerate(named) if place not in left_out]
    assert [again.again(text) for text, _ in kept] == [count for _, count in kept]
    assert again.again("another") is None


def test_a_loop_over_batches_is_noted_in_a_few_words() -> None:
    counts = noted([("UPDATE", 1000)] * 5000 + [("UPDATE", 7), ("UPDATE", 0)])
    assert len(counts.written()) < 100
