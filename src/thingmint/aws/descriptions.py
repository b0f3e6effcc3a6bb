"""What the served operations of AWS IoT do, and what their fields mean, for the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

OPERATIONS: Final[Mapping[str, str]] = {
    # Certificates
    "CreateKeysAndCertificate": (
        "Makes an RSA key pair of 2048 bits and a certificate for it, which the server's device CA signs. Only this "
        "answer has the private key: the server does not keep it. Without `setAsActive` the certificate is INACTIVE, "
        "and no device can connect with it."
    ),
    "CreateCertificateFromCsr": (
        "Issues a certificate for the key of a certificate signing request (CSR). The private key stays with the "
        "device. Each call issues a new certificate, also for the same CSR."
    ),
    "RegisterCertificate": (
        "Registers a certificate that a registered CA certificate signed. `caCertificatePem` is needed only if several "
        "CA certificates with the same subject are registered."
    ),
    "RegisterCertificateWithoutCA": (
        "Registers a certificate that was issued elsewhere, such as a self-signed one. Its CA certificate need not be "
        "registered. Devices that use it must name this server when they connect (SNI)."
    ),
    "DescribeCertificate": (
        "Tells everything about one certificate: its PEM, status, owner, validity, and a pending transfer."
    ),
    "ListCertificates": "Lists the certificates of the account in this region, the newest first.",
    "ListCertificatesByCA": "Lists the certificates that were registered under a CA certificate.",
    "UpdateCertificate": (
        "Sets the status of a certificate. Devices can connect with an ACTIVE certificate only. INACTIVE is for a "
        "pause, and REVOKED is final."
    ),
    "DeleteCertificate": (
        "Deletes a certificate that is not ACTIVE. It must be attached to no thing and no policy, unless `forceDelete` "
        "is set. `forceDelete` detaches policies, but things must be detached first."
    ),
    "TransferCertificate": (
        "Offers an INACTIVE certificate to another account. The certificate stays in this account, PENDING_TRANSFER, "
        "until the other account accepts or rejects it, or this account cancels the offer."
    ),
    "AcceptCertificateTransfer": (
        "Takes a certificate that another account offers. It is INACTIVE afterwards, unless `setAsActive` is set."
    ),
    "RejectCertificateTransfer": "Refuses a certificate that another account offers. It becomes INACTIVE there again.",
    "CancelCertificateTransfer": "Takes back the offer of a certificate. It becomes INACTIVE again.",
    "ListOutgoingCertificates": "Lists the certificates that this account offers to others.",
    # CA certificates
    "GetRegistrationCode": (
        "Returns the account's registration code, and makes one if there is none. The verification certificate of "
        "RegisterCACertificate has the code as its common name."
    ),
    "DeleteRegistrationCode": "Deletes the account's registration code. CA certificates stay registered.",
    "RegisterCACertificate": (
        "Registers a CA certificate of yours. In DEFAULT mode, `verificationCertificate` proves that you have its "
        "private key. With `allowAutoRegistration`, certificates that it signed are registered when their devices "
        "connect for the first time."
    ),
    "DescribeCACertificate": "Tells everything about one CA certificate, and how its devices are registered.",
    "ListCACertificates": "Lists the CA certificates of the account in this region.",
    "UpdateCACertificate": (
        "Changes the status of a CA certificate, and how devices with its certificates are registered. An INACTIVE CA "
        "certificate takes no new certificates."
    ),
    "DeleteCACertificate": (
        "Deletes a CA certificate that is INACTIVE. Certificates that were registered under it stay."
    ),
    # Policies
    "CreatePolicy": (
        "Makes a device policy. Its document says which MQTT actions are allowed on which resources. It has an effect "
        "once it is attached to a certificate or a thing group."
    ),
    "GetPolicy": "Returns a policy with the document of its default version.",
    "ListPolicies": "Lists the device policies of the account in this region.",
    "DeletePolicy": "Deletes a policy that is attached to nothing and has no version but the default one.",
    "CreatePolicyVersion": (
        "Adds a version to a policy. With `setAsDefault` it is in force at once, also for connected devices. A policy "
        "has at most five versions."
    ),
    "GetPolicyVersion": "Returns one version of a policy with its document.",
    "ListPolicyVersions": "Lists the versions of a policy, and says which one is in force.",
    "DeletePolicyVersion": "Deletes a version of a policy that is not the default one.",
    "SetDefaultPolicyVersion": "Puts a version of a policy in force, at once and also for connected devices.",
    "AttachPolicy": (
        "Attaches a policy to a certificate or a thing group. It is in force at once, also for connected devices."
    ),
    "DetachPolicy": (
        "Detaches a policy from a certificate or a thing group. Connected devices that lose their permission to "
        "connect are disconnected before the answer."
    ),
    "AttachPrincipalPolicy": "Attaches a policy to a certificate. AttachPolicy does the same, for groups too.",
    "DetachPrincipalPolicy": "Detaches a policy from a certificate. DetachPolicy does the same, for groups too.",
    "ListAttachedPolicies": (
        "Lists the policies that are attached to a certificate or a thing group; with `recursive` also those of its "
        "parent groups."
    ),
    "ListTargetsForPolicy": "Lists the certificates and thing groups that a policy is attached to.",
    "ListPolicyPrincipals": (
        "Lists the certificates that a policy is attached to. ListTargetsForPolicy lists thing groups, too."
    ),
    "ListPrincipalPolicies": "Lists the policies that are attached to a certificate.",
    "GetEffectivePolicies": (
        "Lists all policies that apply to a device: those of its certificate, and those of the groups of its thing."
    ),
    "TestAuthorization": (
        "Says whether a device may do something, and which policies decide. It changes nothing. Policies can be added "
        "or left out for the test."
    ),
    # Things
    "CreateThing": (
        "Makes a thing: the entry of a device in the registry, with a type and attributes. The same call again "
        "returns the same thing; other properties conflict."
    ),
    "DescribeThing": "Returns a thing with its type, attributes, version and billing group.",
    "ListThings": "Lists things: all of them, those of a type, or those with a value of an attribute.",
    "UpdateThing": (
        "Changes the type or the attributes of a thing. Without `merge`, the attributes are replaced. With "
        "`expectedVersion`, the call fails if the thing was changed in the meantime."
    ),
    "DeleteThing": "Deletes a thing that has no certificate attached. Its group memberships end.",
    "AttachThingPrincipal": (
        "Attaches a certificate to a thing. Policies can use the thing's name and attributes when a device with this "
        "certificate connects."
    ),
    "DetachThingPrincipal": "Detaches a certificate from a thing. Connected devices are authorized again at once.",
    "ListThingPrincipals": "Lists the certificates of a thing by their ARNs.",
    "ListThingPrincipalsV2": "Lists the certificates of a thing, and whether each of them is exclusive to it.",
    "ListPrincipalThings": "Lists the names of the things that a certificate is attached to.",
    "ListPrincipalThingsV2": (
        "Lists the things that a certificate is attached to, and whether it is exclusive to one of them."
    ),
    "GetThingConnectivityData": "Says whether the device of a thing is connected, since when, and why it was not.",
    # Thing types
    "CreateThingType": (
        "Makes a thing type: up to three searchable attributes, and the attributes that MQTT 5 messages carry."
    ),
    "DescribeThingType": "Returns a thing type with its properties, and whether it is deprecated.",
    "ListThingTypes": "Lists the thing types of the account in this region.",
    "UpdateThingType": "Changes the properties of a thing type.",
    "DeprecateThingType": "Closes a thing type for further things. With `undoDeprecate` it is open again.",
    "DeleteThingType": "Deletes a thing type that is deprecated and that no thing has.",
    # Thing groups
    "CreateThingGroup": (
        "Makes a thing group, at the top or below a parent group. Policies of a group apply to its things and to "
        "those of the groups below it."
    ),
    "DescribeThingGroup": "Returns a thing group with its properties, its parent groups and its version.",
    "ListThingGroups": "Lists thing groups: all of them, or those below a parent group.",
    "UpdateThingGroup": "Changes the description or the attributes of a thing group.",
    "DeleteThingGroup": "Deletes a thing group that has no groups below it. Its things stay.",
    "AddThingToThingGroup": "Adds a thing to a thing group. The policies of the group apply to it at once.",
    "RemoveThingFromThingGroup": (
        "Removes a thing from a thing group. Connected devices that lose a permission are disconnected."
    ),
    "UpdateThingGroupsForThing": "Adds a thing to several groups and removes it from others, in one step.",
    "ListThingsInThingGroup": "Lists the things of a thing group; with `recursive` also those of the groups below it.",
    "ListThingGroupsForThing": "Lists the groups that a thing is a direct member of.",
    # Billing groups
    "CreateBillingGroup": "Makes a billing group. A thing is in at most one of them.",
    "DescribeBillingGroup": "Returns a billing group with its properties and its version.",
    "ListBillingGroups": "Lists the billing groups of the account in this region.",
    "UpdateBillingGroup": "Changes the description of a billing group.",
    "DeleteBillingGroup": "Deletes a billing group. Its things stay.",
    "AddThingToBillingGroup": "Puts a thing into a billing group. It leaves the one that it was in.",
    "RemoveThingFromBillingGroup": "Removes a thing from its billing group.",
    "ListThingsInBillingGroup": "Lists the names of the things in a billing group.",
    # Provisioning
    "CreateProvisioningTemplate": (
        "Makes a template, which says what a device gets when it is provisioned: a thing, a certificate, policies. "
        "The server acts as the role `provisioningRoleArn` for it, which the caller must be allowed to pass."
    ),
    "DescribeProvisioningTemplate": "Returns a template with the body of its default version.",
    "ListProvisioningTemplates": "Lists the provisioning templates of the account in this region.",
    "UpdateProvisioningTemplate": (
        "Changes a template: whether it is enabled, its default version, its role, and its pre-provisioning hook."
    ),
    "DeleteProvisioningTemplate": (
        "Deletes a template with all its versions. Its claim certificates cannot connect any more."
    ),
    "CreateProvisioningTemplateVersion": "Adds a version with another body to a template.",
    "DescribeProvisioningTemplateVersion": "Returns one version of a template with its body.",
    "ListProvisioningTemplateVersions": "Lists the versions of a template, and says which one is in force.",
    "DeleteProvisioningTemplateVersion": "Deletes a version of a template that is not the default one.",
    "CreateProvisioningClaim": (
        "Makes a key pair and a claim certificate, which is valid for five minutes. A device connects with it and "
        "provisions itself by the template. Only this answer has the private key."
    ),
    "RegisterThing": (
        "Provisions one device: makes what the template in `templateBody` asks for, with the given parameters. "
        "Either everything is made or nothing."
    ),
    "StartThingRegistrationTask": (
        "Starts a task that provisions many devices: each line of a file in a bucket has the parameters of one device."
    ),
    "DescribeThingRegistrationTask": "Tells how far a task of bulk registration is.",
    "ListThingRegistrationTasks": "Lists the ids of the tasks of bulk registration, of all or with one status.",
    "ListThingRegistrationTaskReports": "Lists the links to the files of a task: what was made, or what failed.",
    "StopThingRegistrationTask": "Stops a task of bulk registration. What it has made stays.",
    "CreateCertificateProvider": (
        "Names a function that issues certificates for CSRs, in place of this server's CA. CreateCertificateFromCsr "
        "and devices that provision themselves use it."
    ),
    "DescribeCertificateProvider": "Returns a certificate provider with its function.",
    "ListCertificateProviders": "Lists the certificate providers. An account has at most one in a region.",
    "UpdateCertificateProvider": "Changes the function of a certificate provider, or the operations that use it.",
    "DeleteCertificateProvider": "Deletes a certificate provider. This server's CA issues for CSRs again.",
    # Further nouns
    "CreateRoleAlias": (
        "Makes a role alias: a name by which devices get temporary AWS credentials of a role, with their certificate."
    ),
    "DescribeRoleAlias": "Returns a role alias with its role and the lifetime of the credentials.",
    "ListRoleAliases": "Lists the role aliases of the account in this region.",
    "UpdateRoleAlias": "Changes the role of a role alias, or the lifetime of the credentials.",
    "DeleteRoleAlias": "Deletes a role alias. Devices get no further credentials by it.",
    "TagResource": "Adds tags to a resource, or changes their values. Policies of callers can depend on tags.",
    "UntagResource": "Removes tags from a resource by their keys.",
    "ListTagsForResource": "Lists the tags of a resource.",
    "DescribeEndpoint": "Returns the host name that devices and clients connect to.",
    "DescribeEventConfigurations": "Tells for which kinds of resources the server publishes events over MQTT.",
    "UpdateEventConfigurations": "Switches the events of kinds of resources on or off. Other kinds stay as they are.",
    "DescribeIndex": "Returns the status and the schema of an index.",
    "ListIndices": "Lists the indexes that SearchIndex can search.",
    "SearchIndex": ("Finds things or thing groups by a query over names, types, groups, attributes and connectivity."),
    "GetIndexingConfiguration": "Returns the configuration that UpdateIndexingConfiguration was given.",
    "UpdateIndexingConfiguration": "Stores the configuration of fleet indexing.",
}

FIELDS: Final[Mapping[str, str]] = {
    "CreateKeysAndCertificate.setAsActive": "True: devices can connect with the certificate at once.",
    "CreateKeysAndCertificate.certificateArn": "The ARN, which policies are attached to.",
    "CreateKeysAndCertificate.keyPair": "The key pair. The server does not keep the private key.",
    "allowAutoRegistration": "True: devices with certificates of this CA are registered when they first connect.",
    "ascendingOrder": "True: the oldest first.",
    "attributePayload": "The attributes, and whether they are merged with the present ones.",
    "attributes": "Names and values. An empty value removes the attribute.",
    "authInfos": "What to test: actions with their resources.",
    "billingGroupName": "The name of the billing group.",
    "caCertificate": "The CA certificate in PEM.",
    "caCertificateId": "The id of the CA certificate: the SHA-256 of its DER in hexadecimal digits.",
    "caCertificatePem": "The CA certificate in PEM.",
    "certificateArn": "The ARN of the certificate.",
    "certificateId": "The id of the certificate: the SHA-256 of its DER in hexadecimal digits.",
    "certificateMode": "DEFAULT, or SNI_ONLY for devices that name this server when they connect.",
    "certificatePem": "The certificate in PEM.",
    "certificateSigningRequest": "A PKCS#10 request in PEM. Its subject becomes that of the certificate.",
    "clientId": "The MQTT client id of the device.",
    "creationDate": "The time of creation.",
    "credentialDurationSeconds": "How long the credentials are valid, in seconds.",
    "defaultVersionId": "The version that is in force.",
    "description": "A text for people.",
    "enabled": "True: devices can be provisioned by the template.",
    "endpointType": "The type of endpoint, such as `iot:Data-ATS`. All types have the same name here.",
    "expectedVersion": "The version that the caller knows. If there is a newer one, the call fails.",
    "forceDelete": "True: also detaches the certificate from its policies.",
    "indexName": "`AWS_Things` or `AWS_ThingGroups`.",
    "inputFileBucket": "The name of a bucket in the operator's settings.",
    "inputFileKey": "The name of the file in the bucket.",
    "lambdaFunctionArn": "The ARN of a function in the operator's settings.",
    "marker": "`nextMarker` of the page before.",
    "maxResults": "How many items a page has at most.",
    "merge": "True: the given attributes are added to the present ones. False: they replace them.",
    "namePrefixFilter": "The beginning of the names.",
    "newStatus": "The new status. PENDING_TRANSFER and PENDING_ACTIVATION are set by the service only.",
    "nextMarker": "Absent on the last page.",
    "nextToken": "In a request the token of the page before; in an answer absent on the last page.",
    "pageSize": "How many items a page has at most.",
    "parameters": "Values for the parameters of the template, by name.",
    "parentGroupName": "The group above it. It cannot be changed later.",
    "policyArn": "The ARN of the policy.",
    "policyDocument": "The policy in JSON: a version and statements with Effect, Action, Resource and Condition.",
    "policyName": "The name of the policy.",
    "policyVersionId": "The number of the version.",
    "preProvisioningHook": "A function that decides before a device is provisioned.",
    "principal": "The ARN of a certificate.",
    "PrivateKey": "The private key in PEM. Only this answer has it.",
    "provisioningRoleArn": "The ARN of the role as which the server makes what the template asks for.",
    "PublicKey": "The public key in PEM.",
    "queryString": "The query, such as `attributes.site:berlin AND connectivity.connected:true`.",
    "queryVersion": "The version of the query's language.",
    "recursive": "True: also those of the groups above or below it.",
    "registrationConfig": "The template and the role for devices that are registered when they connect.",
    "rejectReason": "A text for the account that offers the certificate.",
    "reportType": "RESULTS for what was made, ERRORS for what failed.",
    "resourceArn": "The ARN of the resource.",
    "roleArn": "The ARN of the role.",
    "setAsActive": "True: ACTIVE at once.",
    "setAsDefault": "True: puts the new version in force.",
    "tags": "Keys and values. Policies of callers can depend on them.",
    "target": "The ARN of a certificate or of a thing group.",
    "targetAwsAccount": "The number of the account, which must be on this server.",
    "taskId": "The id of the task.",
    "templateBody": "The template in JSON: parameters and resources.",
    "templateName": "The name of the template.",
    "thingArn": "The ARN of the thing.",
    "thingGroupName": "The name of the thing group.",
    "thingName": "The name of the thing. Devices often use it as their MQTT client id.",
    "thingPrincipalType": "EXCLUSIVE_THING: the certificate can be attached to this thing only.",
    "thingTypeName": "The name of the thing type.",
    "transferMessage": "A text for the account that gets the offer.",
    "undoDeprecate": "True: things can have the type again.",
    "usePrefixAttributeValue": "True: the value is the beginning of the attribute's values.",
    "verificationCertificate": "A certificate that the CA signed, with the registration code as its common name.",
    "version": "A number that grows with each change.",
}
"""By the member's name, or by an operation and the member's name."""

DEFAULTS: Final[Mapping[str, bool | int | str | None]] = {
    **dict.fromkeys(("maxResults", "pageSize"), 25),
    **dict.fromkeys(
        (
            *("allowAutoRegistration", "ascendingOrder", "forceDelete", "includeSocketInformation", "merge"),
            *("recursive", "removeAutoRegistration", "removePreProvisioningHook", "removeThingType", "setAsActive"),
            *("setAsDefault", "undoDeprecate", "usePrefixAttributeValue"),
        ),
        False,
    ),
    "CreateProvisioningTemplate.enabled": False,
    "CreateProvisioningTemplate.type": "FLEET_PROVISIONING",
    "CreateRoleAlias.credentialDurationSeconds": 3600,
    "DescribeEndpoint.endpointType": "iot:Data",
    "ListIndices.maxResults": None,
    "ListThingGroups.recursive": None,
    "RegisterCACertificate.certificateMode": "DEFAULT",
    "RegisterCertificate.status": "INACTIVE",
    "RegisterCertificateWithoutCA.status": "INACTIVE",
    "RegisterCertificate.setAsActive": None,
    "SearchIndex.indexName": "AWS_Things",
    "SearchIndex.maxResults": 100,
    "SearchIndex.queryVersion": "2017-09-30",
}
"""What an absent member of a request means, by the member's name, or by an operation and the member's name.

None: what it means depends on other members.
"""

ERRORS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            *("CreateKeysAndCertificate", "CreateCertificateFromCsr", "RegisterCertificate"),
            *("RegisterCertificateWithoutCA", "AcceptCertificateTransfer", "CreateBillingGroup"),
        ),
        ("LimitExceededException",),  # the quotas of `limits`
    ),
    **dict.fromkeys(
        ("AttachPolicy", "AttachPrincipalPolicy", "AttachThingPrincipal"),
        ("CertificateStateException",),  # while the certificate is offered to another account
    ),
    **dict.fromkeys(("StartThingRegistrationTask", "ListThingRegistrationTaskReports"), ("ResourceNotFoundException",)),
}
"""The errors of operations that the model does not list."""
