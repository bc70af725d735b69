"""Verifies the envelopes of bundles with a key: envelopes.py KEY BUNDLE…"""

import json
import sys

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

pem, *bundles = sys.argv[1:]
with open(pem, "rb") as file:
    key = load_pem_public_key(file.read())
for path in bundles:
    with open(path) as file:
        bundle = json.load(file)
    name = bundle["verificationMaterial"]["publicKey"]["hint"]
    Envelope.from_dict(bundle["dsseEnvelope"]).verify([SSlibKey.from_crypto(key, keyid=name)], 1)
