"""Prints the launch digest of every case of a JSON file, one a line, as sev-snp-measure computes it."""

import json
import sys

from sevsnpmeasure import guest, vcpu_types, vmm_types
from sevsnpmeasure.sev_mode import SevMode

MODELS = list(vcpu_types.CPU_SIGS)

if len(sys.argv) == 1:
    print("\n".join(MODELS))
    sys.exit()

with open(sys.argv[1], encoding="utf-8") as file:
    cases = json.load(file)
for case in cases:
    for vcpus in case["vcpus"]:
        digest = guest.calc_launch_digest(
            SevMode.SEV_SNP,
            vcpus,
            vcpu_types.CPU_SIGS[case["theirs"]],
            case["ovmf"],
            case["kernel"],
            case["initrd"],
            case["append"],
            case["features"],
            "",
            vmm_types.VMMType["QEMU" if case["vmm"] == "qemu" else case["vmm"]],
        )
        print(digest.hex())
