// Verifies bundles with a key, without any network: node bundles.mjs KEY BUNDLE…
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, toTrustMaterial, Verifier } from "@sigstore/verify";

const [pem, ...bundles] = process.argv.slice(2);
const publicKey = createPublicKey(readFileSync(pem));
const nobody = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const trust = toTrustMaterial(nobody, () => ({ publicKey, validFor: () => true }));
const verifier = new Verifier(trust, { ctlogThreshold: 0, timestampThreshold: 0, tlogThreshold: 0 });
for (const path of bundles) {
  verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(path)))));
}
