"""What the methods of Yandex IoT Core do, which errors they have, and what fields mean, for the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thingmint.yandex.contract.answers import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWNERS: Final = {
    "DeviceService": ("device", "registry"),
    "RegistryService": ("registry", "folder"),
    "BrokerService": ("broker", "folder"),
}
_OF_ALL_OWNERS: Final[Mapping[str, str]] = {
    "Get": "Returns one {noun}.",
    "List": "Lists the {plural} of a {parent}, the oldest first.",
    "Create": (
        "Makes a {noun} in a {parent}. It can get its first certificates and a password in the same call. The answer "
        "is an Operation that is done: its response is the {noun}."
    ),
    "Update": (
        "Changes the fields that `updateMask` names. A field that it names and the request lacks becomes empty. "
        "Without a mask, all fields are set."
    ),
    "Delete": "Deletes a {noun} with its certificates and passwords. Its connections end before the answer.",
    "ListOperations": "Lists the operations on a {noun}, the newest first. Operations are kept for 30 days.",
    "ListCertificates": "Lists the certificates that are bound to a {noun}, as they were added.",
    "AddCertificate": (
        "Binds a certificate to a {noun}, which can connect with it at once. Any issuer will do: the client proves "
        "that it has the private key. A certificate can be bound once in an account."
    ),
    "DeleteCertificate": (
        "Unbinds a certificate from a {noun}. Connections with the certificate are closed before the answer."
    ),
    "ListPasswords": "Lists the passwords of a {noun}: their ids and times, not the passwords themselves.",
    "AddPassword": (
        "Adds a password to a {noun}, which can then connect over MQTT with its id as the user name. A password has "
        "at least 14 characters of three kinds."
    ),
    "DeletePassword": "Deletes a password of a {noun}. Connections with the password are closed before the answer.",
}
_PLURALS: Final = {"device": "devices", "registry": "registries", "broker": "brokers"}

METHODS: Final[Mapping[str, str]] = {
    **{
        f"{service}.{name}": text.format(noun=noun, plural=_PLURALS[noun], parent=parent)
        for service, (noun, parent) in _OWNERS.items()
        for name, text in _OF_ALL_OWNERS.items()
    },
    "DeviceService.AddCertificate": (
        "Binds a certificate to a device, which can connect with it at once. Any issuer will do, also the device "
        "itself: the device proves that it has the private key. A certificate can be bound once in an account. The "
        "answer is an Operation that is done: its metadata has the device and the fingerprint, its response the "
        "certificate."
    ),
    "DeviceService.Get": "Returns one device. The view FULL also tells when it was connected and what it did last.",
    "DeviceService.GetByName": "Returns the device with this name in a registry.",
    "DeviceService.List": "Lists the devices of a registry or of a whole folder, the oldest first.",
    "RegistryService.GetByName": "Returns the registry with this name in a folder.",
    "RegistryService.Delete": "Deletes a registry that has no devices, with its certificates, passwords and export.",
    "RegistryService.Disable": (
        "Disables a registry: its connections and those of its devices end, and no new ones are accepted."
    ),
    "RegistryService.Enable": "Enables a registry again. Its devices can connect.",
    "RegistryService.ListDeviceTopicAliases": "Lists the topic aliases of all devices of a registry.",
    "RegistryService.ListDataStreamExports": "Lists the data stream export of a registry, if it has one.",
    "RegistryService.AddDataStreamExport": (
        "Sends the messages on topics that match a filter to the operator's hook for exports. A registry has one "
        "export at most."
    ),
    "RegistryService.DeleteDataStreamExport": "Ends a data stream export. Messages that wait for it are deleted.",
    "DeviceDataService.Publish": "Publishes a message as if the device had sent it over MQTT.",
    "RegistryDataService.Publish": "Publishes a message as if the registry had sent it over MQTT.",
    "BrokerDataService.Publish": "Publishes a message as if a client of the broker had sent it over MQTT.",
    "OperationService.Get": "Returns an operation. The caller that started it needs no further permission.",
    "OperationService.Cancel": "Returns the operation as it is. Changes are made before their operation is returned.",
    "ApiEndpointService.Get": "Returns the address of one service. All services have the same address here.",
    "ApiEndpointService.List": "Lists the addresses of the services, which clients ask for first.",
    "IamTokenService.Create": (
        "Returns an IAM token for a JWT that a service account signed, or for an API token. It is valid for 12 hours."
    ),
    "IamTokenService.CreateForServiceAccount": (
        "Returns an IAM token with which the caller acts as a service account."
    ),
    "IamTokenService.Revoke": "Refuses an IAM token from now on.",
}
"""By label."""

FIELDS: Final[Mapping[str, str]] = {
    "api_endpoint_id": "The id of the service, such as `iot-devices`.",
    "broker_id": "The id of the broker.",
    "certificate_data": "The certificate in PEM.",
    "certificates": "The first certificates.",
    "created_at": "The time of creation.",
    "created_by": "The id of the caller that started the operation.",
    "data": "The payload, at most 256 KiB.",
    "data_stream_export_id": "The id of the export.",
    "database": "The database of the stream, as Yandex Data Streams calls it. The hook gets the text.",
    "description": "A text for people.",
    "device_id": "The id of the device.",
    "device_name": "The name of the device.",
    "device_view": "FULL: with the times of its last connection and messages.",
    "done": "True when the operation has a response or an error.",
    "error": "Why the operation failed.",
    "fingerprint": "The SHA-256 of the certificate's DER in hexadecimal digits. SHA-1 is accepted in requests, too.",
    "folder_id": "The id of the folder. `thingmint access folder list` shows the folders.",
    "iam_token": "The IAM token, for the header `Authorization: Bearer`.",
    "jwt": "A JWT that a service account signed with its authorized key (PS256).",
    "labels": "Names and values of your choice.",
    "metadata": "What the operation is about.",
    "mqtt_topic_filter": "A filter of topics of devices or registries, such as `$devices/+/events/#`.",
    "name": "The name, unique in its parent. It may be empty.",
    "operation_id": "The id of the operation.",
    "Operation.description": "What the operation does.",
    "Operation.id": "The id of the operation, for OperationService.Get.",
    "page_size": "How many items a page has at most. More than 1,000 are read as 1,000.",
    "page_token": "`nextPageToken` of the page before.",
    "next_page_token": "Absent on the last page.",
    "password": "The password. The server keeps a slow hash of it.",
    "password_id": "The id of the password.",
    "registry_id": "The id of the registry.",
    "registry_name": "The name of the registry.",
    "response": "The result of the operation.",
    "service_account_id": "The id of the service account.",
    "stream": "The name of the stream. The hook gets the text.",
    "topic": "The topic of the message: one of the sender's own topics, without wildcards.",
    "topic_aliases": "Other names for topics of the device: an alias, and the beginning of the topics that it is for.",
    "update_mask": "The fields to change, with commas between them. Without it, all fields are set.",
    "yandex_passport_oauth_token": "An API token of a user, in place of Yandex's OAuth token.",
}
"""By the field's name in the contract, or by the names of message and field."""

DEFAULTS: Final[Mapping[str, int | str]] = {"page_size": 100, "device_view": "BASIC"}
"""What an absent field of a request means."""

_TAKEN: Final = (Code.ALREADY_EXISTS,)
_TAKEN_OR_OFFERED: Final = (Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION)  # a certificate in transfer
ERRORS: Final[Mapping[str, tuple[Code, ...]]] = {
    **{f"{service}.{name}": _TAKEN_OR_OFFERED for service in _OWNERS for name in ("Create", "AddCertificate")},
    **{f"{service}.Update": _TAKEN for service in _OWNERS},
    **{f"{service}DataService.Publish": (Code.FAILED_PRECONDITION,) for service in ("Device", "Registry", "Broker")},
    "RegistryService.AddDataStreamExport": (Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION),
    "RegistryService.Delete": (Code.FAILED_PRECONDITION,),
    "ApiEndpointService.Get": (Code.NOT_FOUND,),
    "IamTokenService.Create": (Code.UNAUTHENTICATED,),
    "IamTokenService.Revoke": (Code.UNAUTHENTICATED,),
}
"""The errors of a method beyond those that all calls, or all calls with a token, can have."""
