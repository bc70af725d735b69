"""Makes keys; with a JSON file of ID blocks, checks those against sev-snp-measure and the cryptography package."""

import base64
import hashlib
import json
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from sevsnpmeasure import id_block

FORMATS = {
    "id.pem": serialization.PrivateFormat.PKCS8,
    "author.pem": serialization.PrivateFormat.TraditionalOpenSSL,
}
SIGNATURES = [slice(0x40, 0x40 + 144), slice(0x680, 0x680 + 144)]

if len(sys.argv) == 1:
    for name, form in FORMATS.items():
        key = ec.generate_private_key(ec.SECP384R1())
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        with open(name, "wb") as file:
            file.write(pem)
    sys.exit()


def number(auth, at):
    return int.from_bytes(auth[at : at + 72], "little")


def verify(auth, signature, key, message):
    point = ec.EllipticCurvePublicNumbers(number(auth, key + 4), number(auth, key + 76), ec.SECP384R1())
    encoded = utils.encode_dss_signature(number(auth, signature), number(auth, signature + 72))
    point.public_key().verify(encoded, message, ec.ECDSA(hashes.SHA384()))


def unsigned(auth):
    rest = bytearray(auth)
    for signature in SIGNATURES:
        rest[signature] = bytes(144)
    return rest


def check_theirs(case, block, auth):
    text = id_block.snp_calc_id_block(bytes.fromhex(case["launch_digest"]), "id.pem", "author.pem")
    blobs, id_key, author_key = text.split("\n")
    their_block, their_auth = blobs.removeprefix("id-block=").split(",id-auth=")
    assert base64.b64decode(their_block) == block, "another ID block"
    assert unsigned(base64.b64decode(their_auth)) == unsigned(auth), "another ID authentication"
    for line, digest in [(id_key, "id_key_digest"), (author_key, "author_key_digest")]:
        assert base64.b64decode(line.split(": ")[1]).hex() == case[digest], "another " + digest


with open(sys.argv[1], encoding="utf-8") as file:
    cases = json.load(file)
for case in cases:
    block, auth = (base64.b64decode(case[name], validate=False) for name in ["id_block", "id_auth"])
    assert (len(block), len(auth)) == (96, 4096)
    assert block[:48].hex() == case["launch_digest"]
    verify(auth, 0x40, 0x240, block)
    assert hashlib.sha384(auth[0x240:0x644]).hexdigest() == case["id_key_digest"]
    if case["author_key_digest"]:
        verify(auth, 0x680, 0x880, auth[0x240:0x644])
        assert hashlib.sha384(auth[0x880:0xC84]).hexdigest() == case["author_key_digest"]
    if case["theirs"]:
        check_theirs(case, block, auth)
