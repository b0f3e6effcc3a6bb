"""What the endpoints of the native API do, and which errors they have, for the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

OPERATIONS: Final[Mapping[str, str]] = {
    "CreateKeysAndCertificate": (
        "Makes an RSA key pair of 2048 bits and a certificate for it, which the server's device CA signs. Only this "
        "answer has the private key: the server does not keep it. Without `setAsActive=true` the certificate is "
        "INACTIVE."
    ),
    "AddCertificate": (
        "With `csr` it issues a certificate for the key of a certificate signing request. With `certificate_pem` it "
        "registers a certificate that was issued elsewhere. `cannot_connect` says why devices could not use it."
    ),
    "ListCertificates": "Lists the certificates of the account and region, the newest first.",
    "DescribeCertificate": "Returns one certificate with its PEM, its validity, and the CA certificate above it.",
    "UpdateCertificate": (
        "Sets the status of a certificate. Devices can connect with an ACTIVE certificate only. REVOKED is final. "
        "Connected devices are disconnected before the answer."
    ),
    "DeleteCertificate": "Deletes a certificate that is not ACTIVE, and attached to no thing and no policy.",
    "CountCertificates": "Counts the certificates. The counts are kept with each change, so the answer is quick.",
    "SearchCertificates": "Lists the certificates that satisfy every condition of the query, the newest first.",
    "FindCertificates": (
        "Finds certificates by one text: the beginning of an id, of a common name or of the name of a thing, an ARN, a "
        "serial number, or the name or id of a Yandex device. `found_by` says which it was."
    ),
    "ListRefusals": (
        "Lists what devices were refused and why. Equal refusals are one entry with a count, and the policy statements "
        "that came closest."
    ),
    "CountRefusals": "Counts the refusals of the last minutes by their reason.",
    "GetHealth": "Reports on the store, the broker, the audit log, certificates that end soon, and the disk.",
    "ListSessions": "Lists the sessions of connected devices, of all processes of the server.",
    "GetSession": "Returns one session with the topics that it subscribed to.",
    "EndSession": (
        "Closes the connection of a device. The device can connect again, unless its certificate or policy changes."
    ),
    "TestProvisioning": (
        "Runs a provisioning template for a sample device, in a transaction that is taken back: what would be made, as "
        "which role, and each action that the role needs, with the reason if it is refused. A pre-provisioning hook is "
        "not called. What an existing thing has is shown, and compared with the template, with the permission "
        "`iot:DescribeThing` on it."
    ),
    "ListProvisioningClaims": "Lists the certificates of CreateProvisioningClaim that have not ended, 50 at most.",
    "ListImports": "Lists the imports of the account, the newest first, with their progress and results.",
    "ListImportFindings": (
        "Lists what did not come as it was in an import, with the reason and what to do, in the order of the import."
    ),
    "ListAudit": (
        "Lists what callers and devices did or were refused, the newest first. Every condition of the query must hold."
    ),
    "account-set": "Sets a switch of the account. Connected devices are authenticated again.",
    "account-show": "Returns the switches of the account with their values.",
    "region-add": "Lets AWS clients use a further region of the account. Each region has certificates of its own.",
    "region-list": "Lists the regions of the account, its home region first.",
    "folder-create": "Makes a folder, in which Yandex clients make registries and brokers.",
    "folder-list": "Lists the folders of the account.",
    "user-create": "Makes a user, for a person. It may do nothing until a policy is attached.",
    "service-account-create": "Makes a service account, for a program. It may do nothing until a policy is attached.",
    "role-create": "Makes a role, which callers that its trust policy names can assume.",
    "key-create": (
        "Makes an access key of a user (AWS) or an authorized key of a service account (Yandex). Only this answer has "
        "the secret. With `access_key_id` and `secret_access_key` it imports a key that a user has at AWS."
    ),
    "key-list": "Lists the keys and sessions of a principal, without their secrets.",
    "role-trust": "Replaces the policy that names the callers which can assume the role.",
    "token-restrict": (
        "Gives the token a policy in place of the one that it has. The token can do what its user's policies and this "
        "policy allow. A later policy can allow more."
    ),
    "token-create": "Makes a token for the native API. Only this answer has it. A policy can narrow what it allows.",
    "token-list": "Lists the tokens of a user, without the tokens themselves.",
    "session-create": "Makes temporary AWS credentials of a principal. Only this answer has the secret.",
    "policy-put": "Makes a policy for callers, or replaces its document, with immediate effect.",
    "policy-show": "Returns the document of a policy of the account, or of a managed one.",
    "policy-list": "Lists the policies of the account, and the managed ones.",
    "policy-attach": "Attaches a policy to a principal. A Yandex role can be limited to one resource.",
    "policy-detach": "Detaches a policy from a principal, with immediate effect.",
    "policy-attached": "Lists the policies of a principal.",
}
"""By the operation's id. The other endpoints say all in their summary."""

WITHOUT_RESOURCE: Final = frozenset(
    {
        *("CreateKeysAndCertificate", "AddCertificate", "ListCertificates", "CountCertificates", "SearchCertificates"),
        *("FindCertificates", "ListRefusals", "CountRefusals", "GetHealth", "ListSessions", "ListAudit"),
        "ListImports",
    }
)
"""The endpoints that name no resource and no account, so that NOT_FOUND is impossible."""

CONFLICTS: Final = frozenset(
    {
        *("CreateKeysAndCertificate", "AddCertificate", "UpdateCertificate", "DeleteCertificate"),
        *("region-add", "folder-create", "user-create", "service-account-create", "role-create"),
        *("key-create", "token-create", "policy-put", "policy-delete", "policy-attach"),
    }
)
"""The endpoints that can answer CONFLICT."""

UNSUPPORTED: Final = frozenset({"GetHealth"})
"""The endpoints that the server's configuration can exclude."""

FIELDS: Final[Mapping[str, str]] = {
    "access_key_id": "The id of an access key that the user has at AWS.",
    "account": "The account's 12 digits. Only the caller's own account is possible, which is the default.",
    "arn": "The ARN, which policies are attached to.",
    "certificate": "The id of the device's certificate.",
    "certificate_pem": "The certificate in PEM.",
    "client_id": "The MQTT client id of the device.",
    "created_at": "The time of creation.",
    "description": "A text for people.",
    "document": "The policy in JSON: a version and statements with Effect, Action, Resource and Condition.",
    "ends_before": "It ends before that time.",
    "ends_from": "It ends at that time or later.",
    "event": "The name of what was done, such as `CreateThing`.",
    "lifetime": "How long the token is valid. Without it, until it is deleted.",
    "modified_at": "The time of the last change.",
    "not_after": "The end of the certificate's validity.",
    "not_before": "The beginning of the certificate's validity.",
    "order": "By the time of creation.",
    "outcome": "What was done, or what was refused.",
    "page_size": "How many items a page has at most.",
    "principal": "KIND/NAME, such as user/alice, or an ARN. A bare name is a user's.",
    "private_key": "The private key in PEM. Only this answer has it.",
    "public_key": "The public key in PEM.",
    "resource": "The folder, registry, device, broker or service account that a Yandex role is for, or `*`.",
    "secret_access_key": "The secret of that access key.",
    "seen_before": "A device was last connected with it before that time.",
    "seen_from": "A device was connected with it at that time or later.",
    "setAsActive": "`true`: devices can connect with the certificate at once.",
    "since": "At that time or later.",
    "status": "The status of the certificate.",
    "thing": "The name of the thing.",
    "trust_policy": "Who may assume the role: a policy in JSON with principals.",
    "until": "Before that time.",
    "address": "The address of the device.",
    "next_marker": "`marker` for the next page; null on the last one.",
}
"""By name, where the model has no description."""
