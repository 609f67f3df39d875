"""The keys that sign access tokens: one secret, or key pairs that rotate.

The ``kid`` of a key pair is its JWK thumbprint (RFC 7638): nobody has to name a key, and no two
keys share a name. To rotate: add the new public key to ``APP_JWT_VERIFICATION_KEYS`` everywhere,
then make its private key ``APP_JWT_SIGNING_KEY`` and keep the old public key in the list until the
last token that it signed has expired.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

LEAST_SECRET_BYTES: Final = 32
"""A shorter HS256 secret could be guessed from any token (RFC 7518, 3.2)."""
_LEAST_RSA_BITS: Final = 2048
_PUBLIC_KEY: Final = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)

PrivateKey = RSAPrivateKey | Ed25519PrivateKey
PublicKey = RSAPublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """What verifies a token: the key, and the one algorithm that it is good for."""

    algorithm: str
    verifier: PublicKey | bytes = field(repr=False)
    kid: str | None = None
    """``None`` for the secret: there is only one."""
    jwk: dict[str, Any] | None = field(default=None, repr=False)
    """For the public, without ``kid``, ``use`` and ``alg``."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The key that signs, and all that verify."""

    signer: PrivateKey | bytes = field(repr=False)
    current: Key
    keys: dict[str | None, Key]

    @classmethod
    def of_secret(cls, secret: str) -> KeyRing:
        """One secret signs and verifies (HS256)."""
        key = Key("HS256", secret.encode())
        return cls(secret.encode(), key, {None: key})

    @classmethod
    def of_pairs(cls, signing_key: str, verification_keys: str = "") -> KeyRing:
        """A private key signs; its public key and the further ones verify.

        Args:
            signing_key: PEM of an RSA (RS256) or Ed25519 (EdDSA) private key.
            verification_keys: PEM of public keys, one after the other.

        Raises:
            ValueError: no such key can be read, or one is too weak.
        """
        signer = read_private_key(signing_key)
        current = _key(signer.public_key())
        others = map(_key, read_public_keys(verification_keys))
        return cls(signer, current, {key.kid: key for key in (*others, current)})

    def jwks(self) -> dict[str, Any]:
        """Return the JSON Web Key Set (RFC 7517) of the public keys; a secret is in none."""
        return {
            "keys": [
                {**key.jwk, "kid": key.kid, "use": "sig", "alg": key.algorithm}
                for key in self.keys.values()
                if key.jwk
            ]
        }


def read_private_key(pem: str) -> PrivateKey:
    """Read a PEM private key.

    Raises:
        ValueError: it is none, of another kind, encrypted, or too weak.
    """
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not the library's text, which may quote the key.
        raise ValueError(
            "it is no unencrypted PEM private key; make one with `openssl genpkey -algorithm "
            "ed25519`"
        ) from None
    if not isinstance(key, PrivateKey):
        raise ValueError("it is neither an RSA nor an Ed25519 key")
    _refuse_weak(key)
    return key


def read_public_keys(pems: str) -> list[PublicKey]:
    """Read PEM public keys, one after the other; an empty text holds none.

    Raises:
        ValueError: one cannot be read, is of another kind, or too weak.
    """
    blocks = _PUBLIC_KEY.findall(pems)
    if _PUBLIC_KEY.sub("", pems).strip():
        raise ValueError("write PEM public keys (-----BEGIN PUBLIC KEY-----) one after the other")
    keys: list[PublicKey] = []
    for position, block in enumerate(blocks, 1):
        try:
            key = load_pem_public_key(block.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError(f"key {position} cannot be read as a PEM public key") from None
        if not isinstance(key, PublicKey):
            raise ValueError(f"key {position} is neither an RSA nor an Ed25519 key")
        _refuse_weak(key)
        keys.append(key)
    return keys


def _refuse_weak(key: PrivateKey | PublicKey) -> None:
    if isinstance(key, RSAPrivateKey | RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        raise ValueError(f"an RSA key of {key.key_size} bits is too weak; take {_LEAST_RSA_BITS}")


def _key(public: PublicKey) -> Key:
    if isinstance(public, RSAPublicKey):
        jwk, algorithm = RSAAlgorithm.to_jwk(public, as_dict=True), "RS256"
        jwk = {name: jwk[name] for name in ("e", "kty", "n")}
    else:
        jwk, algorithm = OKPAlgorithm.to_jwk(public, as_dict=True), "EdDSA"
        jwk = {name: jwk[name] for name in ("crv", "kty", "x")}
    # The required members only, sorted, without spaces: RFC 7638, 3.
    canonical = json.dumps(jwk, sort_keys=True, separators=(",", ":")).encode()
    kid = base64.urlsafe_b64encode(sha256(canonical).digest()).rstrip(b"=").decode()
    return Key(algorithm, public, kid, jwk)
