"""What the payment provider's answers mean: pure, and sure only where nothing else is possible."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Verdict(StrEnum):
    """What became of a payment."""

    AUTHORISED = "authorised"
    DECLINED = "declined"
    UNSURE = "unsure"
    """Nobody here knows: it may have been authorised. To be asked again, with the same key."""
    VOIDED = "voided"
    """What was authorised is given back."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and what goes with it."""

    verdict: Verdict
    reference: str = ""
    """The provider's own id of an authorisation."""
    reason: str = ""
    """Why it was declined, or is unsure: a word or two."""
    is_answer: bool = True
    """Whether the provider was well enough to say something about this very payment."""


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True)

    id: str = Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
    status: Literal["authorised", "declined"]
    order_id: str
    amount_cents: int
    reason: str = Field("", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")


_SAYS_SOMETHING: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.PAYMENT_REQUIRED)
# They say of this payment that something is wrong with it, and of the provider that it is well.
_ABOUT_THIS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.GONE)


def read(status: int, body: bytes, *, order_id: str, amount_cents: int) -> Outcome:
    """Judge one answer.

    An error status proves nothing: behind a gateway's 502 the provider may have authorised, and a
    401 is our fault and not the customer's. Nor does an answer about something else. But 422 is
    the provider's word for a payment method that it does not take, and so authorises nothing on.
    """
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return Outcome(Verdict.DECLINED, reason="the payment method is not accepted")
    if status not in _SAYS_SOMETHING:
        return Outcome(Verdict.UNSURE, reason=f"HTTP {status}", is_answer=status in _ABOUT_THIS)
    try:
        answer = _Answer.model_validate_json(body)
    except ValidationError:
        return Outcome(Verdict.UNSURE, reason="an answer that cannot be read", is_answer=False)
    if (answer.order_id, answer.amount_cents) != (order_id, amount_cents):
        return Outcome(Verdict.UNSURE, reason="an answer about another payment", is_answer=False)
    return Outcome(Verdict(answer.status), reference=answer.id, reason=answer.reason)


_VOIDED: Final = (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.GONE)


def read_void(status: int, _: bytes) -> Outcome:
    """Judge the answer to a void: 410 says that it has lapsed, which comes to the same."""
    if status in _VOIDED:
        return Outcome(Verdict.VOIDED)
    return Outcome(Verdict.UNSURE, reason=f"HTTP {status}", is_answer=status in _ABOUT_THIS)
