"""Who stands behind the credentials of a request."""

from __future__ import annotations

from orders.core.access import Principal
from orders.core.errors import InvalidTokenError
from orders.core.opaque import ApiKey
from orders.core.tokens import Tokens
from orders.repositories.lookups import Lookups


async def by_access_token(lookups: Lookups, tokens: Tokens, token: str) -> Principal:
    """Tell whose token it is.

    The signature alone would let a deactivated user go on until the token expires. So the user's
    standing is read each time: two columns by primary key.

    Raises:
        InvalidTokenError: it is not valid, or its user signed out everywhere or is not active.
    """
    claims = tokens.read(token)
    standing = await lookups.standing.find(claims.user_id)
    if standing is None or standing.token_version != claims.version:
        raise InvalidTokenError("the access token was revoked; sign in again")
    return Principal(claims.user_id, standing.role, token_version=standing.token_version)


async def by_api_key(lookups: Lookups, text: str) -> Principal:
    """Tell for whom a key speaks.

    Raises:
        InvalidTokenError: it is unknown, revoked or expired, or its user is not active.
    """
    key = ApiKey.parse(text)
    good = await lookups.api_key.find(key.prefix) if key else None
    if key is None or good is None or not key.matches(good.key_hash):
        raise InvalidTokenError("the API key is not valid (any more)")
    return Principal(good.user_id, good.role, good.scopes, good.id)
