"""Whether a trace is recorded, held against the SDK's own samplers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, TraceIdRatioBased

from tidegate.sampling import read_sampling

trace_ids = st.integers(1, (1 << 128) - 1)
ratios = st.floats(0, 1)
parents = st.sampled_from([None, True, False])


def decided_by(sampler: Sampler, trace_id: int, parent: bool | None) -> bool:
    context = Context()
    if parent is not None:
        ids = trace.SpanContext(trace_id, 1, True, trace.TraceFlags(parent))
        context = trace.set_span_in_context(trace.NonRecordingSpan(ids), context)
    return sampler.should_sample(context, trace_id, "name").decision is Decision.RECORD_AND_SAMPLE


@given(ratios, trace_ids, parents, st.booleans())
@example(1.0, (1 << 128) - 1, None, False)
@example(0.5, 1 << 63, None, False)
@example(0.5, (1 << 63) - 1, None, False)
@example(5e-324, 1, None, False)
def test_a_trace_is_sampled_when_the_sdk_would_sample_it(
    ratio: float, trace_id: int, parent: bool | None, parent_based: bool
) -> None:
    theirs: Sampler = TraceIdRatioBased(ratio)
    if parent_based:
        theirs = ParentBased(theirs)
    ours = read_sampling(f"{'parentbased_' * parent_based}traceidratio", repr(ratio))
    assert ours.decide(trace_id, parent) is decided_by(theirs, trace_id, parent)
    assert (f"{trace_id:032x}"[16:] < ours.below) is ours.decide(trace_id, None)


@given(trace_ids, parents)
def test_always_and_never_mean_what_they_say(trace_id: int, parent: bool | None) -> None:
    assert read_sampling("always_on", "").decide(trace_id, parent)
    assert not read_sampling("always_off", "").decide(trace_id, parent)
    assert read_sampling("traceidratio", "1").decide(trace_id, parent)
    assert not read_sampling("traceidratio", "0").decide(trace_id, parent)


@given(trace_ids)
def test_the_callers_decision_is_taken_over(trace_id: int) -> None:
    for name in ("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio", ""):
        sampling = read_sampling(name, "0.5" if "ratio" in name else "")
        assert sampling.decide(trace_id, True)
        assert not sampling.decide(trace_id, False)


@pytest.mark.parametrize("name", ["sometimes", "ALWAYS_ON", "parentbased_", "jaeger_remote", "1"])
def test_a_sampler_that_nobody_knows_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"^OTEL_TRACES_SAMPLER: use always_on"):
        read_sampling(name, "")


@pytest.mark.parametrize("argument", ["-0.1", "1.1", "nan", "inf", "half", "5%", "0,5"])
def test_a_ratio_that_is_none_is_named(argument: str) -> None:
    with pytest.raises(ValueError, match=r"^OTEL_TRACES_SAMPLER_ARG: use a number from 0 to 1"):
        read_sampling("traceidratio", argument)
