# Appraisal policy for Trustee's attestation service, in the place of its policy `default_cpu`.
#
# Trustee's own policy looks up each register in a list of its own, so that a guest with the firmware of one release and
# the kernel of another passes. Here a launch counts as a whole. What is wanted stands at the end of this file and
# nowhere else: the reference value provider registers whatever it is sent, value by value, and without asking who sent
# it, while a policy is set as a whole by the administrator.
#
# SEV-SNP and TDX only: whatever else attests gets no claim affirmed. A TPM alone does not make a machine confidential.
# Claims count if they are of one TEE, the only one there is; numbers count if they are numbers.
package policy

import rego.v1

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"file-system": 0,
	"instance-identity": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

# 33: what runs is not recognized. 3: only what is approved has been started.
default executables := 33

executables := 3 if count(recognized) > 0

# 97: the hardware or firmware is not recognized. 2: it is genuine and supported.
default hardware := 97

hardware := 2 if {
	count(recognized) > 0
	platform_is_current
}

# 36: what matters of the configuration is not known. 96: it makes the guest unsafe, or is somebody else's.
# 2: it is approved. 3: nobody has said what to approve, and it is safe.
default configuration := 36

configuration := 96 if {
	unsafe
} else := 2 if {
	safe
	as_wanted
} else := 3 if {
	snp
	safe
	not wanted.platforms.snp
}

### The TEE

# What Trustee puts beside the claims of a TEE, which have the name of the TEE.
beside := {"init_data", "init_data_claims", "report_data", "runtime_data_claims"}

tees := object.keys(input) - beside

snp := input.snp if {
	tees == {"snp"}
	is_object(input.snp)
}

tdx := input.tdx if {
	tees == {"tdx"}
	is_object(input.tdx)
}

### Launches

# The launches of which the evidence reports every value, and that are wanted today.
recognized contains launch if {
	some launch in wanted.launches
	launch.platform == platform
	count(launch.reports) > 0
	every name, values in launch.reports {
		reported[name] in values
	}
	current(launch)
}

platform := "snp" if {
	snp
} else := "tdx" if {
	tdx
}

reported := {"measurement": snp.measurement} if {
	snp
} else := object.filter(tdx.quote.body, ["mr_td", "rtmr_1", "rtmr_2"]) if {
	tdx
}

current(launch) if {
	object.get(launch, "generation", 0) >= wanted.minimum_generation
	has_begun(launch)
	lasts(launch)
}

# A release knows no dates; its generation record may.
has_begun(launch) if not "not_before" in object.keys(launch)

has_begun(launch) if time.parse_rfc3339_ns(launch.not_before) <= time.now_ns()

lasts(launch) if not "not_after" in object.keys(launch)

lasts(launch) if time.now_ns() <= time.parse_rfc3339_ns(launch.not_after)

### Platform

platform_is_current if {
	some minimum in wanted.platforms.snp.tcb
	at_least(snp.reported_tcb_bootloader, minimum.bootloader)
	at_least(snp.reported_tcb_tee, minimum.tee)
	at_least(snp.reported_tcb_snp, minimum.snp)
	at_least(snp.reported_tcb_microcode, minimum.microcode)
}

platform_is_current if {
	tdx.quote.header.tee_type == "81000000"
	tdx.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"
	tdx.tcb_status == "UpToDate"
	tdx.collateral_expiration_status == "0"
}

# Rego orders values of all types: any text is more than any number.
at_least(version, minimum) if {
	is_number(version)
	version >= minimum
}

### Configuration

unsafe if snp.policy_debug_allowed

unsafe if snp.policy_migrate_ma

unsafe if tdx.td_attributes.debug

unsafe if {
	tdx.quote.body
	not allowed_attributes
}

unsafe if {
	tdx.quote.body
	not no_service_td
}

unsafe if {
	wanted.init_data
	not input.init_data in wanted.init_data
}

safe if {
	snp.policy_debug_allowed == false
	snp.policy_migrate_ma == false
}

safe if {
	tdx.td_attributes.debug == false
	allowed_attributes
	no_service_td
}

allowed_attributes if tdx.quote.body.td_attributes in wanted.td_attributes

# Quotes of TDX 1.0 are never of a TD that has any.
no_service_td if not "mr_servicetd" in object.keys(tdx.quote.body)

no_service_td if tdx.quote.body.mr_servicetd == "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

as_wanted if {
	every name, value in wanted.platforms.snp.claims {
		snp[name] == value
	}
}

as_wanted if tdx.quote.body.xfam in wanted.platforms.tdx.xfam

### Extensions of the token

extensions := [
	{"name": "begat.launches", "key": -70001, "value": [summary(launch) | some launch in recognized]},
	{"name": "ear.trustee.identifiers", "key": -18, "value": {"validated": identifiers}},
]

# Which image, and which generation of it: for resource policies.
summary(launch) := object.remove(launch, ["reports"])

# What resource policies find in tokens of Trustee's own policy.
identifiers := {name: values |
	some name, values in {
		"container_images": [image |
			some container in input.init_data_claims.agent_policy_claims.containers
			image := container.OCI.Annotations["io.kubernetes.cri.image-name"]
		],
		"container_uids": [uid |
			some container in input.init_data_claims.agent_policy_claims.containers
			uid := container.OCI.Process.User.UID
		],
	}
	count(values) > 0
}

### What is wanted

