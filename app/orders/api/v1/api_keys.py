"""``/api/v1/api-keys``: for machines that act for a user."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from orders.api.deps import CurrentUser, OwnPassword, Session
from orders.core.openapi import problems
from orders.models import ApiKey
from orders.schemas.api_key import ApiKeyCreate, ApiKeyCreated, ApiKeyRead
from orders.services import api_keys

router = APIRouter(prefix="/api-keys", tags=["api keys"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    response_model=ApiKeyCreated,
    responses=problems(403),
    summary="Make an API key",
)
async def create_api_key(
    wanted: ApiKeyCreate, user: CurrentUser, session: Session, own_password: OwnPassword
) -> ApiKeyCreated:
    """Return the key this once; machines send it as `X-API-Key`."""
    stored, key = await api_keys.create(session, own_password, user, wanted)
    return ApiKeyCreated(**ApiKeyRead.model_validate(stored).model_dump(), key=key)


@router.get(
    "", response_model=list[ApiKeyRead], responses=problems(403), summary="List your API keys"
)
async def list_api_keys(user: CurrentUser, session: Session) -> Sequence[ApiKey]:
    """Return your keys, the newest first, revoked ones too."""
    return await api_keys.list_own(session, user)


@router.delete(
    "/{key_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(403, 404),
    summary="Revoke an API key",
)
async def revoke_api_key(key_id: UUID, user: CurrentUser, session: Session) -> None:
    """Refuse the key from now on; it stays in the list."""
    await api_keys.revoke(session, user, key_id)
