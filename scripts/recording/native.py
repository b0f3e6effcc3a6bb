"""Examples of the native API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from recording.aws_certificates import document, own_certificate
from recording.certificates import Key, fingerprint, pem
from recording.stand_ins import UNKNOWN

if TYPE_CHECKING:
    from recording.recorder import Json, Recorder

_TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}},
        ],
    }
)


def accounts(native: Recorder) -> None:
    """The account, its folders and regions, and the roles that examples of AWS IoT pass."""
    native("account-show", "All switches")
    native("account-set", "Devices of a CA depend on its status", name="ca_status_gates_devices", value="true")
    native("account-set", name="ca_status_gates_devices", value="false")
    native("region-add", "A further region", name="eu-central-1")
    native("region-list", "Both regions")
    native("folder-create", "A folder", name="lighting")
    native("folder-list", "All folders")
    native("role-create", "A role for provisioning", name="provisioning", trust_policy=_TRUST)
    native("role-create", name="storage", trust_policy=_TRUST, max_session_duration="2h")
    native("policy-attach", principal="role/provisioning", policy="thingmint/Administrator")
    native("role-trust", "A role for provisioning", name="storage", trust_policy=_TRUST)
    native("role-list", "All roles")
    native("role-disable", "A role", name="storage")
    native("role-enable", "A role", name="storage")
    native("role-create", name="old", trust_policy=_TRUST)
    native("role-delete", "A role", name="old")


def principals(native: Recorder) -> None:
    """Users, service accounts, their policies and credentials."""
    native("user-create", "A user", name="alice")
    native("user-create", "A name that is taken", 409, name="alice")
    native("user-list", "All users")
    native("service-account-create", "A service account", name="backend")
    native("service-account-list", "All service accounts")
    policy = document({"Effect": "Allow", "Action": ["iot:Describe*", "iot:List*"], "Resource": "*"})
    native("policy-put", "Read everything of AWS IoT", name="inspector", document=policy)
    native("policy-show", "One policy", name="inspector")
    native("policy-list", "All policies")
    native("policy-attach", "To a user", principal="user/alice", policy="inspector")
    native("policy-attached", "The policies of a user", principal="user/alice")
    viewer = native("key-create", "An access key of a user", principal="user/alice")
    native("key-create", "An authorized key of a service account", principal="service-account/backend")
    native("key-list", "The keys of a user", principal="user/alice")
    native("key-disable", "A key", id=viewer["data"]["access_key_id"])
    native("key-enable", "A key", id=viewer["data"]["access_key_id"])
    native("key-delete", "A key", id=viewer["data"]["access_key_id"])
    native("token-create", "A token for 90 days", principal="user/alice", lifetime="90d", description="dashboard")
    listed = native("token-list", "The tokens of a user", principal="user/alice")
    token = listed["data"][0]["id"]
    native("token-restrict", "To reading AWS IoT", id=token, policy=policy)
    native("token-disable", "A token", id=token)
    native("token-enable", "A token", id=token)
    native("token-delete", "A token", id=token)
    native("session-create", "Credentials for an hour", principal="user/alice", duration="1h")
    native("policy-detach", "From a user", principal="user/alice", policy="inspector")
    native("policy-delete", "A policy that is attached to nothing", name="inspector")
    for kind, name in (("user", "alice"), ("service-account", "backend")):
        noun = f"A {kind.replace('-', ' ')}"
        native(f"{kind}-disable", noun, name=name)
        native(f"{kind}-enable", noun, name=name)
        native(f"{kind}-delete", noun, name=name)


def certificates(native: Recorder) -> None:
    made = native("CreateKeysAndCertificate", "A certificate that devices can use at once", setAsActive="true")
    native("CreateKeysAndCertificate", "A value that is not true or false", 400, setAsActive="maybe")
    native("CreateKeysAndCertificate", "A token that the server does not know", 401, caller="unknown")
    native("AddCertificate", "Issue for the key of a device", csr=Key("lamp-21").csr(), status="ACTIVE")
    own = own_certificate(native, Key("lamp-22").certificate())
    native("AddCertificate", "Register a certificate that the device made itself", certificate_pem=pem(own))
    native("AddCertificate", "A second time", 409, certificate_pem=pem(own))
    id = fingerprint(own)
    page = native("ListCertificates", "The first page", page_size=2)
    native("ListCertificates", "The next page", page_size=2, marker=page["data"]["next_marker"])
    native("DescribeCertificate", "One certificate", id=id)
    native("DescribeCertificate", "An id that the account does not have", 404, id=UNKNOWN[0])
    native("UpdateCertificate", "Activate", id=id, status="ACTIVE")
    native("UpdateCertificate", id=id, status="REVOKED")
    native("SearchCertificates", "Certificates without a policy", status="ACTIVE", without_policy=True, page_size=2)
    native("SearchCertificates", "The certificates of a thing", thing="lamp-17")
    native("FindCertificates", "By a common name", text="lamp-22")
    native("CountCertificates", "Of three weeks and two days", weeks=3, days=2)
    native("DeleteCertificate", "A certificate that is REVOKED", id=id)
    native("DeleteCertificate", "A certificate that is ACTIVE", 409, id=made["data"]["id"])


def provisioning(native: Recorder) -> None:
    """With the template ``lamps``, a claim certificate of it, and an import."""
    template = {"template": "lamps"}
    sample: Json = {**template, "parameters": {"SerialNumber": "lamp-60", "Site": "paris"}}
    native("TestProvisioning", "What a device would get", **sample)
    native("TestProvisioning", "A device that sends no serial number", **template)
    native("ListProvisioningClaims", "The claims of a template", **template)
    imports = native("ListImports", "All imports")
    native("ListImportFindings", "What did not come as it was", id=imports["data"]["imports"][0]["id"])


def fleet(native: Recorder, connected: str) -> None:
    """``connected`` is the client id of a connected device that was refused something."""
    native.when(lambda found: found["data"]["sessions"], "ListSessions", "All sessions")
    native("GetSession", "One session", client_id=connected)
    native("GetSession", "A client that is not connected", 404, client_id="lamp-0")
    native.when(lambda found: found["data"]["refusals"], "ListRefusals", "What devices were refused")
    native.when(lambda found: found["data"]["total"], "CountRefusals", "Of the last hour")
    made: Json = {"event": "CreateThing", "outcome": "success", "page_size": 2}
    native.when(lambda found: len(found["data"]["records"]) == 2, "ListAudit", "Who made things", **made)
    refused = {"client_id": connected, "outcome": "refused"}
    native.when(lambda found: found["data"]["records"], "ListAudit", "What a device was refused", **refused)
    native.when(_is_sealed, "GetHealth", "The health of the server")
    native("EndSession", "Close the connection of a device", client_id=connected)


def _is_sealed(health: Json) -> bool:
    """True if the audit log is sealed up to now."""
    facts = {check["name"]: check["facts"] for check in health["data"]["checks"]}
    return bool(facts["audit"]["sealed_until"] == health["data"]["checked_at"])
