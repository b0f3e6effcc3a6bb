"""Fills an account through the AWS API and over MQTT: resources of every kind, in every state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.access.local_admin import allow, deny, document
from tests.e2e.material import key_pem
from tests.e2e.mqtt.devices import Device
from tests.e2e.provisioning.support import CERTIFICATE, CREATE, CREATE_FROM_CSR, TRUST, template
from tests.e2e.yandex.certificates import certificate as unsigned_certificate
from tests.issuers import pem, rewritten
from tests.old_stores.material import BEGINS, ENDS, csr_for, customer_ca

if TYPE_CHECKING:
    from tests.e2e.mqtt.devices import Credential
    from tests.issuers import Issuer
    from tests.old_stores.owners import Owner

PROVISION = "$aws/provisioning-templates/fleet/provision/json"

_ALL = allow("iot:*")
_THING = "${iot:Connection.Thing.ThingName}"
_OWN_TOPICS = allow(
    ["iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive"],
    [f"arn:aws:iot:*:*:{what}" for what in (f"client/{_THING}", f"topic/{_THING}/*", f"topicfilter/{_THING}/*")],
)
_STRING = {"Type": "String"}


def policies(owner: Owner) -> None:
    iot = owner.iot
    iot.create_policy(policyName="everything", policyDocument=document(_ALL), tags=[{"Key": "kind", "Value": "wide"}])
    iot.create_policy(policyName="own-topics", policyDocument=document(_ALL))
    no_secrets = deny("iot:Publish", "arn:aws:iot:*:*:topic/lamp-0/secret")
    for statements in ([_OWN_TOPICS], [_OWN_TOPICS, no_secrets], [_OWN_TOPICS, _ALL]):
        iot.create_policy_version(policyName="own-topics", policyDocument=document(*statements))
    iot.set_default_policy_version(policyName="own-topics", policyVersionId="3")
    iot.delete_policy_version(policyName="own-topics", policyVersionId="1")
    iot.create_policy(policyName="connect", policyDocument=document(allow("iot:Connect")))
    iot.create_policy(policyName="quiet", policyDocument=document(deny("iot:Publish", "arn:aws:iot:*:*:topic/loud")))
    iot.create_policy(policyName="gone", policyDocument=document(_ALL))
    iot.delete_policy(policyName="gone")


def certificates(owner: Owner) -> None:
    """Makes certificates in every status, registered in every way."""
    iot, keep, place = owner.iot, owner.material, owner.place
    made = iot.create_keys_and_certificate(setAsActive=True)
    owner.allow(keep.keep(f"{place}-keys", made["certificatePem"], made["keyPair"]["PrivateKey"]))
    iot.create_keys_and_certificate()
    keep.csr(f"{place}-never-active", iot)
    for status in ("ACTIVE", "INACTIVE", "REVOKED"):
        registered = keep.self_signed(f"{place}-{status.lower()}")
        iot.register_certificate_without_ca(certificatePem=registered.pem, status="ACTIVE")
        owner.allow(registered)
        iot.attach_principal_policy(policyName="quiet", principal=owner.cert(registered))
        owner.status(registered, status)
    expired = keep.self_signed(f"{place}-expired", ends=BEGINS.replace(month=2))
    iot.register_certificate_without_ca(certificatePem=expired.pem, status="ACTIVE")
    owner.allow(expired)
    for status in ("INACTIVE", "REVOKED"):
        deleted = keep.csr(f"{place}-deleted-{status.lower()}", iot, setAsActive=True)
        owner.status(deleted, status)
        iot.delete_certificate(certificateId=deleted.fingerprint)
    iot.register_certificate_without_ca(certificatePem=unsigned_certificate(), status="ACTIVE")


def shared_certificate(*owners: Owner) -> None:
    """Registers one certificate in several accounts, and in several regions of one account."""
    shared = owners[0].material.self_signed("shared")
    for owner, status in zip(owners, ("ACTIVE", "INACTIVE", "ACTIVE"), strict=True):
        owner.iot.register_certificate_without_ca(certificatePem=shared.pem, status=status)
        owner.allow(shared)


def things(owner: Owner) -> None:
    iot = owner.iot
    described = {"thingTypeDescription": "lights", "searchableAttributes": ["site", "room"]}
    iot.create_thing_type(thingTypeName="lamp", thingTypeProperties=described, tags=[{"Key": "team", "Value": "light"}])
    iot.create_thing_type(thingTypeName="candle")
    iot.deprecate_thing_type(thingTypeName="candle")
    for number in range(7):
        of_a_type = {"thingTypeName": "lamp"} if number % 2 else {}
        attributes = {"site": ("berlin", "bremen")[number % 2], "number": str(number)}
        iot.create_thing(thingName=f"lamp-{number}", attributePayload={"attributes": attributes}, **of_a_type)
    iot.update_thing(thingName="lamp-2", attributePayload={"attributes": {"room": "attic"}, "merge": True})
    iot.update_thing(thingName="lamp-3", removeThingType=True)
    iot.create_thing(thingName="gone")
    iot.delete_thing(thingName="gone")
    _groups(owner)
    _principals(owner)


def _groups(owner: Owner) -> None:
    iot = owner.iot
    within: dict[str, str] = {}
    for group in ("house", "floor", "room"):
        properties = {"thingGroupDescription": group, "attributePayload": {"attributes": {"size": group}}}
        tags = [{"Key": "level", "Value": group}]
        iot.create_thing_group(thingGroupName=group, thingGroupProperties=properties, tags=tags, **within)
        within = {"parentGroupName": group}
    iot.create_thing_group(thingGroupName="roof", parentGroupName="house")
    iot.update_thing_group(thingGroupName="roof", thingGroupProperties={"thingGroupDescription": "tiles"})
    iot.create_thing_group(thingGroupName="empty")
    iot.tag_resource(resourceArn=owner.arn("thinggroup/empty"), tags=[{"Key": "a", "Value": "1"}])
    iot.untag_resource(resourceArn=owner.arn("thinggroup/empty"), tagKeys=["a"])
    for number, group in enumerate(("house", "floor", "room", "room", "roof")):
        iot.add_thing_to_thing_group(thingName=f"lamp-{number}", thingGroupName=group)
    iot.create_thing_group(thingGroupName="gone")
    iot.add_thing_to_thing_group(thingName="lamp-5", thingGroupName="gone")
    iot.remove_thing_from_thing_group(thingName="lamp-5", thingGroupName="gone")
    iot.delete_thing_group(thingGroupName="gone")
    iot.attach_policy(policyName="connect", target=owner.arn("thinggroup/house"))
    iot.attach_policy(policyName="own-topics", target=owner.arn("thinggroup/floor"))


def _principals(owner: Owner) -> None:
    for number, kind in enumerate(("EXCLUSIVE_THING", "NON_EXCLUSIVE_THING", "NON_EXCLUSIVE_THING")):
        made = owner.material.csr(f"{owner.place}-lamp-{number}", owner.iot, setAsActive=True)
        owner.iot.attach_thing_principal(
            thingName=f"lamp-{number}", principal=owner.cert(made), thingPrincipalType=kind
        )
        if number == 0:
            owner.allow(made, "own-topics")
    owner.iot.attach_thing_principal(thingName="lamp-3", principal=owner.cert(made))


def cas_in_default_mode(owner: Owner) -> None:
    """Registers CA certificates with and without a template, active and inactive, and certificates under each."""
    role = _role(owner, "just-in-time")
    body = _just_in_time()
    owner.iot.create_provisioning_template(
        templateName="just-in-time", type="JITP", templateBody=body, provisioningRoleArn=role, enabled=True
    )
    _ca_without_template(owner, _proven_ca(owner, "plain"))
    for kind, configuration in {
        "body": {"templateBody": body, "roleArn": role},
        "template": {"templateName": "just-in-time"},
    }.items():
        issuer = _proven_ca(owner, kind, registrationConfig=configuration)
        owner.connects(owner.material.under(f"ca-{kind}-arrived", issuer))
        owner.material.under(f"ca-{kind}-new", issuer)
    for kind in ("inactive", "deleted"):
        issuer = _proven_ca(owner, kind)
        _registered(owner, issuer, kind)
        owner.material.under(f"ca-{kind}-new", issuer)
        owner.iot.update_ca_certificate(
            certificateId=issuer.fingerprint, newStatus="INACTIVE", newAutoRegistrationStatus="DISABLE"
        )
        if kind == "deleted":
            owner.iot.delete_ca_certificate(certificateId=issuer.fingerprint)


def _proven_ca(owner: Owner, kind: str, **further: Any) -> Issuer:
    issuer = customer_ca(f"CA {kind}")
    code = owner.iot.get_registration_code()["registrationCode"]
    owner.iot.register_ca_certificate(
        caCertificate=issuer.pem,
        verificationCertificate=pem(issuer.sign(code, begins=BEGINS, ends=ENDS)),
        setAsActive=True,
        allowAutoRegistration=True,
        tags=[{"Key": "kind", "Value": kind}],
        **further,
    )
    return issuer


def _registered(owner: Owner, issuer: Issuer, kind: str) -> Credential:
    made = owner.material.under(f"ca-{kind}-registered", issuer)
    owner.iot.register_certificate(certificatePem=made.pem, caCertificatePem=issuer.pem, status="ACTIVE")
    owner.allow(made)
    return made


def _ca_without_template(owner: Owner, issuer: Issuer) -> None:
    iot, keep = owner.iot, owner.material
    registered = _registered(owner, issuer, "plain")
    key = registered.file.read_text().partition("-----BEGIN CERTIFICATE")[0]
    keep.keep("ca-plain-re-signed", pem(rewritten(x509.load_pem_x509_certificate(registered.pem.encode()))), key)
    arrived = {what: keep.under(f"ca-plain-{what}", issuer) for what in ("pending", "activated", "revoked", "deleted")}
    for made in arrived.values():
        assert not owner.connects(made)
    owner.status(arrived["activated"], "ACTIVE")
    owner.allow(arrived["activated"])
    for what in ("revoked", "deleted"):
        owner.status(arrived[what], "REVOKED")
    iot.delete_certificate(certificateId=arrived["deleted"].fingerprint)
    keep.under("ca-plain-new", issuer)


def ca_in_sni_only_mode(owner: Owner) -> None:
    issuer = customer_ca("CA sni-only")
    owner.iot.register_ca_certificate(
        caCertificate=issuer.pem, certificateMode="SNI_ONLY", setAsActive=True, allowAutoRegistration=True
    )
    owner.iot.get_registration_code()
    assert not owner.connects(owner.material.under("ca-sni-only-arrived", issuer))
    _registered(owner, issuer, "sni-only")


def provisioning(owner: Owner) -> None:
    """Makes templates, claim certificates, certificates with an unused ownership token, and provisioned things."""
    iot, keep, role = owner.iot, owner.material, _role(owner, "fleet")
    body = template(policy="own-topics")
    merging = template(policy="own-topics", OverrideSettings={"AttributePayload": "MERGE"})
    iot.create_provisioning_template(
        templateName="fleet",
        description="for lamps",
        templateBody=body,
        provisioningRoleArn=role,
        enabled=True,
        tags=[{"Key": "kind", "Value": "lamps"}],
    )
    for text, default in ((body, False), (merging, True), (merging, False)):
        iot.create_provisioning_template_version(templateName="fleet", templateBody=text, setAsDefault=default)
    iot.delete_provisioning_template_version(templateName="fleet", versionId=2)
    iot.create_provisioning_template(templateName="off", templateBody=body, provisioningRoleArn=role, enabled=False)
    iot.update_provisioning_template(templateName="off", description="not in use")
    iot.create_provisioning_template(templateName="gone", templateBody=body, provisioningRoleArn=role)
    iot.delete_provisioning_template(templateName="gone")
    for claim in ("used", "unused"):
        made = iot.create_provisioning_claim(templateName="fleet")
        keep.keep(f"{owner.place}-claim-{claim}", made["certificatePem"], made["keyPair"]["PrivateKey"])
    with Device(owner.server, keep.device(f"{owner.place}-claim-used"), endpoint=owner.endpoint) as device:
        device.connect("provisioning")
        names = {token: f"{owner.place}-provisioned-{token}" for token in ("used", "unused")}
        tokens = {token: _made_over_mqtt(owner, device, name) for token, name in names.items()}
        keep.keep_credentials(**{f"ownership-{owner.place}-{each}": token for each, token in tokens.items()})
        ask(device, PROVISION, registration_of(tokens["used"], "0"))
    made = keep.csr(f"{owner.place}-register-thing", iot)
    iot.register_thing(templateBody=_register_thing(), parameters={"Id": made.fingerprint})


def _made_over_mqtt(owner: Owner, device: Device, name: str) -> str:
    """Creates a certificate over MQTT, and returns its ownership token."""
    key = ec.generate_private_key(ec.SECP256R1())
    if owner.local_admin.ask("account.show")["keys_over_mqtt"]:
        made = ask(device, f"{CREATE}/json", {})
    else:
        made = ask(device, f"{CREATE_FROM_CSR}/json", {"certificateSigningRequest": csr_for(key, name)})
    owner.material.keep(name, made["certificatePem"], made.get("privateKey") or key_pem(key))
    token: str = made["certificateOwnershipToken"]
    return token


def registration_of(token: str, serial_number: str) -> Any:
    return {
        "certificateOwnershipToken": token,
        "parameters": {"SerialNumber": serial_number, "Site": "berlin"},
    }


def ask(device: Device, topic: str, question: Any) -> Any:
    """The accepted reply to a request of fleet provisioning."""
    device.subscribe(f"{topic}/accepted", f"{topic}/rejected")
    device.publish(topic, json.dumps(question).encode())
    reply = device.receive()
    assert reply.topic == f"{topic}/accepted", reply
    return json.loads(reply.payload)


def _role(owner: Owner, name: str) -> str:
    owner.local_admin.ask("role.create", name=name, trust_policy=TRUST)
    owner.local_admin.ask("policy.attach", principal=f"role/{name}", policy="thingmint/FullAccess")
    return f"arn:aws:iam::{owner.account}:role/{name}"


def _just_in_time() -> str:
    common_name = "AWS::IoT::Certificate::CommonName"
    return _body({common_name: _STRING, "AWS::IoT::Certificate::Id": _STRING}, {"Ref": common_name}, CERTIFICATE)


def _register_thing() -> str:
    certificate = {"Type": CERTIFICATE["Type"], "Properties": {"CertificateId": {"Ref": "Id"}, "Status": "Active"}}
    return _body({"Id": _STRING}, "by-register-thing", certificate)


def _body(parameters: Any, thing: Any, certificate: Any) -> str:
    resources = {
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": thing}},
        "certificate": certificate,
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "everything"}},
    }
    return json.dumps({"Parameters": parameters, "Resources": resources})
