"""``/.well-known/jwks.json``: what others verify our access tokens with."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from orders.api.deps import Tokens
from orders.schemas.auth import JwksRead

router = APIRouter(tags=["auth"])


@router.get("/.well-known/jwks.json", response_model=JwksRead, summary="The public keys")
async def jwks(tokens: Tokens, response: Response) -> dict[str, Any]:
    """Return the JSON Web Key Set; with a shared secret (HS256) it is empty."""
    response.headers["cache-control"] = "public, max-age=300"
    return tokens.ring.jwks()
