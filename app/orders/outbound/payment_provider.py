"""Asks the payment provider, over HTTP, within a bounded time.

``POST /authorisations`` with ``{order_id, amount_cents, payment_method_id}`` and the header
``Idempotency-Key``: however often it is sent, the provider authorises once. ``POST
/authorisations/{id}/void`` gives back what was authorised.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import Counter, Gauge, Histogram

from orders.core.settings import OrdersSettings
from orders.outbound.circuit import Circuit, Policy, ask, fail, succeed
from orders.outbound.payment_answers import Outcome, Verdict, read, read_void
from tidegate import carry

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 3
_PAUSE: Final = 0.1  # seconds before the second attempt, at most; doubled before the third
_LONGEST_ANSWER: Final = 64 * 1024  # bytes
_TRACER: Final = trace.get_tracer("orders.payments")

_CALLS: Final = Counter(
    "orders_payment_calls", "Calls to the payment provider, by what they came to.", ("outcome",)
)
_SECONDS: Final = Histogram(
    "orders_payment_call_seconds",
    "How long calls to the payment provider took.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_OPEN: Final = Gauge(
    "orders_payment_circuit_open",
    "1 while calls to the payment provider are refused here, else 0.",
    multiprocess_mode="livemax",
)


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked; ``route`` is its path without what is different each time."""

    route: str
    path: str
    key: str
    body: dict[str, Any]
    judge: Callable[[int, bytes], Outcome]


class PaymentProvider:
    """Made by :func:`open_provider`; shared by all requests of the process."""

    def __init__(self, client: httpx.AsyncClient, timeout: float, policy: Policy) -> None:
        self._client = client
        self._timeout = timeout
        self._policy = policy
        self._circuit = Circuit()

    async def authorise(
        self, key: UUID, order_id: UUID, amount_cents: int, payment_method_id: str
    ) -> Outcome:
        """Ask up to three times with the same key; what goes wrong makes it unsure.

        Args:
            key: the ``Idempotency-Key``.
            order_id: whose answer it must be.
            amount_cents: how much.
            payment_method_id: as the customer chose it at the provider.
        """
        body = {
            "order_id": str(order_id),
            "amount_cents": amount_cents,
            "payment_method_id": payment_method_id,
        }
        judge = partial(read, order_id=str(order_id), amount_cents=amount_cents)
        return await self._ask(_Call("/authorisations", "authorisations", str(key), body, judge))

    async def void(self, key: UUID, reference: str) -> Outcome:
        """Ask up to three times that an authorisation is given back.

        Args:
            key: that it was asked for with.
            reference: the provider's own id of it.
        """
        path = f"authorisations/{quote(reference, safe='')}/void"
        call = _Call("/authorisations/{id}/void", path, f"{key}-void", {}, read_void)
        return await self._ask(call)

    async def _ask(self, call: _Call) -> Outcome:
        outcome = Outcome(Verdict.UNSURE, reason="no answer in time", is_answer=False)
        try:
            # One bound for all of it: a server that sends a byte a second has no read time-out.
            async with asyncio.timeout(self._timeout):
                for attempt in range(_ATTEMPTS):
                    if attempt:
                        most = _PAUSE * 2 ** (attempt - 1)
                        await asyncio.sleep(random.uniform(most / 2, most))  # noqa: S311
                    self._circuit, allowed = ask(self._circuit, self._policy, monotonic())
                    if not allowed:
                        _CALLS.labels("refused").inc()
                        return Outcome(Verdict.UNSURE, reason="the circuit is open")
                    outcome = await self._measure(call)
                    if outcome.is_answer:
                        break
        except TimeoutError:
            pass
        return outcome

    async def _measure(self, call: _Call) -> Outcome:
        started = monotonic()
        outcome = Outcome(
            Verdict.UNSURE, reason="no answer in time", is_answer=False
        )  # if cancelled by then
        try:
            outcome = await self._send(call)
        finally:
            _CALLS.labels(outcome.verdict).inc()
            _SECONDS.observe(monotonic() - started)
            self._note(outcome)
        return outcome

    def _note(self, outcome: Outcome) -> None:
        was_open = self._circuit.is_open
        if not outcome.is_answer:
            self._circuit = fail(self._circuit, self._policy, monotonic())
        else:
            self._circuit = succeed(self._circuit)
        if self._circuit.is_open and not was_open:
            log.error(
                "the payment provider has failed %d times in a row (last: %s): it is left alone "
                "for %g s at a time; payments wait in the queue",
                self._circuit.failures,
                outcome.reason,
                self._policy.rest,
            )
        elif was_open and not self._circuit.is_open:
            log.info("the payment provider answers again")
        _OPEN.set(self._circuit.is_open)

    async def _send(self, call: _Call) -> Outcome:
        name = f"POST {call.route}"
        with _TRACER.start_as_current_span(name, kind=SpanKind.CLIENT) as span:
            span.set_attribute("http.request.method", "POST")
            span.set_attribute("server.address", self._client.base_url.host)
            # Of what joins requests, only this: the rest is not for another company's eyes.
            joined = {name: each for name, each in carry().items() if name == "traceparent"}
            try:
                async with self._client.stream(
                    "POST",
                    call.path,
                    headers={"Idempotency-Key": call.key, **joined},
                    json=call.body,
                ) as response:
                    span.set_attribute("http.response.status_code", response.status_code)
                    answer = await _read_bounded(response)
            # InvalidURL and the like are no transport errors, and no reason to lose an order.
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                outcome = Outcome(Verdict.UNSURE, reason=type(error).__name__, is_answer=False)
            else:
                outcome = call.judge(response.status_code, answer)
            if outcome.verdict is Verdict.UNSURE:
                span.set_attribute("error.type", outcome.reason)
                span.set_status(StatusCode.ERROR)
            return outcome


@asynccontextmanager
async def open_provider(
    settings: OrdersSettings, policy: Policy | None = None
) -> AsyncIterator[PaymentProvider | None]:
    """Open the connections to the provider; ``None`` where ``APP_PAYMENTS_URL`` names none."""
    if settings.payments_url is None:
        yield None
        return
    each = settings.payments_timeout / _ATTEMPTS
    token = settings.payments_token
    client = httpx.AsyncClient(
        base_url=str(settings.payments_url),
        headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token else {},
        timeout=httpx.Timeout(each, connect=min(each, 2.0), pool=min(each, 1.0)),
        limits=httpx.Limits(max_connections=20, max_keepalive_connections=20),
    )
    async with client:
        yield PaymentProvider(client, settings.payments_timeout, policy or Policy())


async def _read_bounded(response: httpx.Response) -> bytes:
    """Read the body; one that is too long is cut, and then cannot be read."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            break
    return body
