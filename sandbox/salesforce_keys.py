"""The key pair of the JWT flow: the app keeps the public half, the client the private one."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import load_pem_x509_certificate

KEY_BITS = 2048


def public_pem(pem: str) -> str:
    """The public key of a certificate, or a public key as it is, in PEM.

    Raises:
        ValueError: it is neither, or no RSA key.
    """
    data = pem.encode()
    is_certificate = b"CERTIFICATE" in data
    key: object = (
        load_pem_x509_certificate(data).public_key()
        if is_certificate
        else serialization.load_pem_public_key(data)
    )
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("the key must be an RSA key")  # noqa: TRY004 - a bad setting
    return _written(key)


def new_pair() -> tuple[str, str]:
    """A fresh private key and its public half, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private.decode(), _written(key.public_key())


def _written(key: rsa.RSAPublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
