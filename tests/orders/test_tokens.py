"""Access tokens and their keys: what is forged, borrowed or old is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from orders.core.access import Role
from orders.core.errors import InvalidTokenError
from orders.core.signing import KeyRing, PrivateKey, read_private_key, read_public_keys
from orders.core.tokens import Tokens
from tests.orders.conftest import Start
from tests.orders.factories import make_user

SECRET = "a secret of more than thirty-two bytes"
USER = uuid4()


def tokens(ring: KeyRing | None = None, **changes: Any) -> Tokens:  # noqa: ANN401
    wanted: dict[str, Any] = {
        "ring": ring or KeyRing.of_secret(SECRET),
        "issuer": "orders",
        "audience": "orders",
        "lifetime": timedelta(minutes=15),
    }
    return Tokens(**(wanted | changes))


def signed(secret: str = SECRET, *, without: str = "", **changes: Any) -> str:  # noqa: ANN401
    """A token like ours, but for what is changed."""
    claims: dict[str, Any] = jwt.decode(
        tokens().issue(USER, Role.CUSTOMER, 3), options={"verify_signature": False}
    )
    claims |= changes
    claims.pop(without, None)
    return jwt.encode(claims, secret, algorithm="HS256")


def unsigned() -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = jwt.decode(signed(), options={"verify_signature": False})
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(scope="module")
def rsa() -> PrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


def ago(**span: float) -> int:
    return int((datetime.now(UTC) - timedelta(**span)).timestamp())


def test_a_token_reads_back_as_it_was_issued() -> None:
    claims = tokens().read(tokens().issue(USER, Role.ADMIN, 3))
    assert (claims.user_id, claims.version) == (USER, 3)
    assert timedelta(minutes=14) < claims.expires_at - datetime.now(UTC) <= timedelta(minutes=15)


def test_a_token_is_verified_once_and_judged_by_the_time_of_each_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, token = tokens(), signed(exp=ago(seconds=5))  # as another pod's clock has it
    claims = ours.read(token)
    monkeypatch.setattr(jwt, "decode", None)
    assert ours.read(token) == claims
    monkeypatch.setattr("orders.core.tokens._LEEWAY", timedelta())
    with pytest.raises(InvalidTokenError, match="has expired"):
        ours.read(token)


@pytest.mark.parametrize(
    "forge",
    [
        lambda: signed("another secret of thirty-two bytes"),
        lambda: signed(exp=ago(seconds=11)),
        lambda: signed(nbf=ago(seconds=-60)),
        lambda: signed(iat=ago(seconds=-60)),
        lambda: signed(aud="another"),
        lambda: signed(iss="another"),
        lambda: signed(type="refresh"),
        lambda: signed(sub="ann"),
        lambda: signed(ver="latest"),
        lambda: signed(without="ver"),
        *(
            lambda claim=claim: signed(without=claim)
            for claim in ("sub", "iat", "exp", "nbf", "jti", "type", "iss", "aud", "role")
        ),
        unsigned,
        lambda: signed()[:-2],
        lambda: jwt.encode({}, SECRET, algorithm="HS256"),
        lambda: jwt.encode({}, SECRET * 2, algorithm="HS512"),
        lambda: jwt.encode({}, SECRET, algorithm="HS256", headers={"kid": "../../dev/null"}),
        lambda: "",
        lambda: "..",
        lambda: "\x00.\udfff.é",
    ],
)
def test_what_was_not_issued_for_this_here_and_now_is_refused(forge: Callable[[], str]) -> None:
    tokens().read(signed())
    with pytest.raises(InvalidTokenError):
        tokens().read(forge())


@given(st.text(max_size=300))
def test_no_text_makes_reading_fail_in_another_way(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        tokens().read(text)


def test_a_public_key_is_no_secret_to_sign_with(rsa: PrivateKey) -> None:
    ours = tokens(KeyRing.of_pairs(pem(rsa)))
    kid = ours.ring.current.kid
    header = {"alg": "HS256", "typ": "JWT", "kid": kid}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, jwt.decode(signed(), options={"verify_signature": False}))
    ]
    import hmac

    signature = hmac.digest(public_pem(rsa).encode(), ".".join(parts).encode(), "sha256")
    forged = ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])
    with pytest.raises(InvalidTokenError):
        ours.read(forged)


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_keys_rotate_without_refusing_a_token_that_still_lives(
    rsa: PrivateKey, algorithm: str
) -> None:
    old: PrivateKey = rsa if algorithm == "RS256" else Ed25519PrivateKey.generate()
    new = Ed25519PrivateKey.generate()
    before = tokens(KeyRing.of_pairs(pem(old), public_pem(new)))
    after = tokens(KeyRing.of_pairs(pem(new), public_pem(old)))
    done = tokens(KeyRing.of_pairs(pem(new)))
    older, newer = before.issue(USER, Role.CUSTOMER, 0), after.issue(USER, Role.CUSTOMER, 0)
    assert jwt.get_unverified_header(older)["alg"] == algorithm
    for ours in (before, after):
        assert ours.read(older).user_id == ours.read(newer).user_id == USER
    assert done.read(newer)
    with pytest.raises(InvalidTokenError, match="not known here"):
        done.read(older)


def test_the_name_of_a_key_is_its_thumbprint() -> None:
    # The example of RFC 8037, A.3: nothing but the key decides it.
    der = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    ring = KeyRing.of_pairs(pem(Ed25519PrivateKey.from_private_bytes(der)))
    assert ring.current.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_others_verify_our_tokens_with_the_published_keys(
    start: Start, rsa: PrivateKey
) -> None:
    other = Ed25519PrivateKey.generate()
    live = start(jwt_signing_key=pem(other), jwt_verification_keys=public_pem(rsa))
    answer = await live.client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    published = jwt.PyJWKSet.from_dict(answer.json())
    assert {(key.key_type, key.algorithm_name) for key in published.keys} == {
        ("OKP", "EdDSA"),
        ("RSA", "RS256"),
    }
    assert all("d" not in key for key in answer.json()["keys"])
    async with live.sessions() as session:
        ann = await make_user(session)
    token = live.app.state.tokens.issue(ann.id, Role.CUSTOMER, 0)
    key = published[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, audience="orders")["sub"] == str(ann.id)
    headers = {"authorization": f"Bearer {token}"}
    assert (await live.client.get("/api/v1/auth/me", headers=headers)).status_code == 200


async def test_a_shared_secret_is_not_published(client: httpx.AsyncClient) -> None:
    assert (await client.get("/.well-known/jwks.json")).json() == {"keys": []}


@pytest.mark.parametrize(
    ("forge", "detail"),
    [
        (lambda: signed(exp=ago(seconds=11)), "the access token has expired; refresh it"),
        (unsigned, "the access token is not valid"),
        (lambda: signed(aud="another"), "the access token is not valid"),
        (lambda: "A" * 5000, "the access token is not valid"),
    ],
)
async def test_the_api_says_why_a_token_is_refused_and_repeats_none_of_it(
    start: Start, session: AsyncSession, forge: Callable[[], str], detail: str
) -> None:
    live = start(jwt_secret=SECRET)
    token = forge()
    answer = await live.client.get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["detail"]) == (401, detail)
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert token[:20] not in answer.text


def test_a_key_that_is_weak_or_none_is_refused_without_quoting_it(rsa: PrivateKey) -> None:
    weak = generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - on purpose
    with pytest.raises(ValueError, match="1024 bits is too weak"):
        read_private_key(pem(weak))
    with pytest.raises(ValueError, match="1024 bits is too weak"):
        read_public_keys(public_pem(rsa) + public_pem(weak))
    for text in (pem(rsa)[:200], public_pem(rsa), "hunter2"):
        with pytest.raises(ValueError, match="openssl genpkey") as refused:
            read_private_key(text)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueError, match="one after the other"):
        read_public_keys(pem(rsa))
