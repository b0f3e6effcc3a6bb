"""Certificate providers: the function of the operator that signs for CreateCertificateFromCsr over MQTT."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from thingmint.domain.arns import Scope, arn
from thingmint.domain.certificates import parse_csr, parse_issued_certificate
from thingmint.domain.errors import AlreadyExists, Invalid, LimitExceeded, NotFound, ProvisioningRefused
from thingmint.domain.keys import CSR_KEYS
from thingmint.services.certificates import REGISTRATIONS, NewCertificate, was_revoked
from thingmint.services.function_calls import CallFailed
from thingmint.services.functions import check_function_arn, is_another_accounts
from thingmint.services.pages import Page, page_by_text
from thingmint.services.tags import drop_tags, put_tags
from thingmint.store.table import Table, record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from thingmint.services.change import Change, Query
    from thingmint.services.function_calls import Outcome
    from thingmint.services.pages import Cursor
    from thingmint.store.engine import Transaction

_KIND = "certificate provider"
_PEM = "certificatePem"

_FAILURES: Mapping[Outcome, tuple[ProvisioningRefused.Step, str]] = {
    "empty": ("result", "The certificate provider did not return a response."),
    "invalid": ("result", "Certificate provider result is in an invalid format."),
    "too_large": ("result", "Certificate provider result is in an invalid format."),
    "wrong_key": ("result", "The certificate of the certificate provider has another key than the CSR."),
    "forbidden": ("invocation", "Access denied while invoking Lambda function"),
    "not_found": ("invocation", "Access denied while invoking Lambda function"),
    "unreachable": ("invocation", "A failure occurred while invoking the certificate provider."),
}
_NOT_EXECUTED: tuple[ProvisioningRefused.Step, str] = (
    "invocation",
    "The certificate provider was not executed successfully.",
)


@record
class CertificateProvider:
    """The certificate provider of an account and region."""

    scope: Scope
    name: str
    function_arn: str
    client_token: str | None
    created_at: datetime
    modified_at: datetime

    @property
    def resource(self) -> str:
        return f"certificateprovider/{self.name}"

    @property
    def arn(self) -> str:
        return arn(self.scope, self.resource)


PROVIDERS = Table(CertificateProvider, "certificate_providers", _KIND, key=("account", "region"))


class SigningRequestOfDevice(NamedTuple):
    """``claim`` is the fingerprint of the certificate with which the device is connected."""

    csr: str
    claim: str
    client_id: str


async def create_provider(
    tx: Transaction, change: Change, name: str, function_arn: str, client_token: str | None, tags: Mapping[str, str]
) -> CertificateProvider:
    """Create the provider. The function need not be in the settings yet. A call with the token of the call that
    created the provider returns it. Raises Invalid, AlreadyExists and LimitExceeded.
    """
    check_function_arn(function_arn, "lambdaFunctionArn")
    new = CertificateProvider(change.scope, name, function_arn, client_token, change.now, change.now)
    if await PROVIDERS.insert(tx, new):
        await put_tags(tx, change.scope, new.resource, tags)
        tx.audit_resources.append(new.arn)
        return new
    found = await PROVIDERS.get(tx, *change.scope)
    if found.name != name:
        raise LimitExceeded(_KIND, name, "An account can have one certificate provider")
    if client_token is None or (client_token, function_arn) != (found.client_token, found.function_arn):
        raise AlreadyExists(_KIND, name, arn=found.arn, reason=f"Certificate provider {name} already exists")
    return found


async def get_provider(tx: Transaction, scope: Scope, name: str) -> CertificateProvider:
    """Return the provider. Raises NotFound."""
    found = await PROVIDERS.find(tx, *scope)
    if found is None or found.name != name:
        raise NotFound(_KIND, name)
    return found


async def list_providers(tx: Transaction, query: Query, cursor: Cursor) -> Page[CertificateProvider]:
    """Return the page with the provider, if there is one. Raises Invalid."""

    async def fetch(after: str, _limit: int) -> list[CertificateProvider]:
        found = await PROVIDERS.find(tx, *query.scope)
        return [found] if found is not None and found.name > after else []

    return await page_by_text(query, cursor, "certificate-providers", fetch, lambda provider: provider.name)


async def update_provider(tx: Transaction, change: Change, name: str, function_arn: str | None) -> CertificateProvider:
    """Change the provider's function; None keeps it. Raises Invalid and NotFound."""
    provider = await get_provider(tx, change.scope, name)
    if function_arn is not None:
        check_function_arn(function_arn, "lambdaFunctionArn")
    changed = replace(provider, function_arn=function_arn or provider.function_arn, modified_at=change.now)
    await PROVIDERS.update(tx, changed)
    tx.audit_resources.append(changed.arn)
    return changed


async def delete_provider(tx: Transaction, change: Change, name: str) -> None:
    """Delete the provider and its tags. From then on, this server signs again. Raises NotFound."""
    provider = await get_provider(tx, change.scope, name)
    await PROVIDERS.delete(tx, *change.scope)
    await drop_tags(tx, change.scope, provider.resource)
    tx.audit_resources.append(provider.arn)


async def find_signing_provider(tx: Transaction, query: Query) -> CertificateProvider | None:
    """Return the provider that signs for the devices, if there is one. Raises ProvisioningRefused.

    At AWS, the policy of another account's function would refuse the call.
    """
    found = await PROVIDERS.find(tx, *query.scope)
    if found is not None and await is_another_accounts(tx, query.account, found.function_arn):
        failed = query.environment.functions.refuse(query.account, found.function_arn, "certificate_provider")
        raise _refusal(failed.outcome)
    return found


async def signed_by_provider(
    change: Change, provider: CertificateProvider, request: SigningRequestOfDevice, field: str
) -> NewCertificate:
    """Return the certificate that the provider's function signed for the key in the CSR.

    Which CA signed it is the operator's affair. Raises InvalidSigningRequest, which names ``field``, and
    ProvisioningRefused.
    """
    csr = parse_csr(request.csr, field, CSR_KEYS)
    change.environment.own_authorities.check_request(csr.subject, csr.public_key, field)
    event = {
        "certificateSigningRequest": request.csr,
        "principalId": request.claim,
        "clientId": request.client_id,
    }

    def read(answer: object) -> NewCertificate:
        return _read(answer, csr.public_key, change.now)

    try:
        return await change.environment.functions.call(
            change.account, provider.function_arn, "certificate_provider", event, read
        )
    except CallFailed as failed:
        raise _refusal(failed.outcome) from None


async def check_not_used(tx: Transaction, scope: Scope, new: NewCertificate) -> None:
    """Raises ProvisioningRefused if a provider's certificate is registered, or was deleted when it was REVOKED."""
    fingerprint = new.certificate.fingerprint
    if await REGISTRATIONS.find(tx, *scope, fingerprint) or await was_revoked(tx, scope, "", "", *[fingerprint] * 2):
        raise ProvisioningRefused("result", "The certificate of the certificate provider was registered before.")


def _read(answer: object, key: PublicKeyTypes, now: datetime) -> NewCertificate:
    """Raises CallFailed."""
    if answer is None:
        raise CallFailed("empty", "it has no answer")
    pem = answer.get(_PEM) if isinstance(answer, dict) else None
    if not isinstance(pem, str):
        raise CallFailed("invalid", f"its answer has no {_PEM}")
    try:
        issued = parse_issued_certificate(pem, _PEM)
    except Invalid as error:
        raise CallFailed("invalid", str(error)) from None
    certificate = issued.certificate
    if _encoded(issued.public_key) != _encoded(key):
        raise CallFailed("wrong_key", "its certificate has another key than the CSR")
    # The function's clock may be a little ahead, so a certificate may become valid soon.
    if flaw := issued.flaw(max(now, certificate.not_before)):
        raise CallFailed("invalid", f"its certificate {flaw}")
    if issued.obstacle is not None:
        raise CallFailed("invalid", f"devices cannot connect with its certificate: {issued.obstacle.reason}")
    return NewCertificate(certificate, "registered")


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _refusal(outcome: Outcome) -> ProvisioningRefused:
    return ProvisioningRefused(*_FAILURES.get(outcome, _NOT_EXECUTED))
