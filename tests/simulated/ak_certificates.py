"""Writes ak-certificates.json: certificates of an attestation key, in DER and base64, made by Python's `cryptography` 48.

The attestation key is the P-256 key whose scalar is 32 bytes of 7; keys of authorities are thrown away.
"""

import base64
import datetime
import json
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

AK_USAGE = ObjectIdentifier("2.23.133.8.3")
FROM, TO = datetime.datetime(2026, 1, 1), datetime.datetime(2027, 1, 1)


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, ca=None, usage=None, extended=None, to=TO, extra=None):
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(FROM).not_valid_after(to)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca[0], path_length=ca[1]), critical=True)
    if usage:
        all_ = dict.fromkeys(
            "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
            "crl_sign encipher_only decipher_only".split(),
            False,
        )
        builder = builder.add_extension(x509.KeyUsage(**{**all_, usage: True}), critical=True)
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage([extended]), critical=False)
    if extra:
        builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(extra), b"\x05\x00"), critical=True)
    signed = builder.sign(issuer_key, hashes.SHA384() if isinstance(issuer_key, rsa.RSAPrivateKey) else hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.DER)).decode()


ak = ec.derive_private_key(int.from_bytes(bytes([7] * 32)), ec.SECP256R1())
other = ec.derive_private_key(int.from_bytes(bytes([8] * 32)), ec.SECP256R1())
root, forged = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
middle = rsa.generate_private_key(65537, 2048)
under = ec.generate_private_key(ec.SECP256R1())

ca = {"ca": (True, None), "usage": "key_cert_sign"}
last = {"ca": (True, 0), "usage": "key_cert_sign"}
leaf = {"ca": (False, None), "usage": "digital_signature", "extended": AK_USAGE}
of_ak = ("AK", ak, "Middle", middle)
of_middle = ("Middle", middle, "Root", root)
json.dump(
    {
        "root": certificate("Root", root, "Root", root, **ca),
        "middle": certificate(*of_middle, **last),
        "ak": certificate(*of_ak, **leaf),
        "ak-plain": certificate(*of_ak),
        "ak-any-use": certificate(*of_ak, ca=(False, None), usage="digital_signature"),
        "ak-anything": certificate(*of_ak, **{**leaf, "extended": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}),
        "middle-any-use": certificate(*of_middle, ca=(True, 0)),
        "middle-of-aks": certificate(*of_middle, **last, extended=AK_USAGE),
        "middle-of-servers": certificate(*of_middle, **last, extended=ExtendedKeyUsageOID.SERVER_AUTH),
        "ak-under-root": certificate("AK", ak, "Root", root, **leaf),
        "forged-root": certificate("Root", forged, "Root", forged, **ca),
        "forged-middle": certificate("Middle", middle, "Root", forged, **last),
        "middle-no-authority": certificate(*of_middle, ca=(False, None), usage="digital_signature"),
        "middle-expired": certificate(*of_middle, **last, to=datetime.datetime(2026, 6, 1)),
        "middle-other-usage": certificate(*of_middle, ca=(True, 0), usage="digital_signature"),
        "under": certificate("Under", under, "Middle", middle, **last),
        "ak-under-under": certificate("AK", ak, "Under", under, **leaf),
        "ak-authority": certificate(*of_ak, ca=(True, None), usage="digital_signature"),
        "ak-other-key": certificate("AK", other, "Middle", middle, **leaf),
        "ak-server": certificate(*of_ak, **{**leaf, "extended": ExtendedKeyUsageOID.SERVER_AUTH}),
        "ak-encrypts": certificate(*of_ak, ca=(False, None), usage="key_encipherment"),
        "ak-unknown-critical": certificate(*of_ak, **leaf, extra="1.3.6.1.4.1.99999.1"),
        "ak-expired": certificate(*of_ak, **leaf, to=datetime.datetime(2026, 6, 1)),
    },
    sys.stdout,
    indent=2,
)
print()
