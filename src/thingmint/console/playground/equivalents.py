"""The same call in other clients, as code to copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thingmint.console.playground.aws_clients import aws_command, boto3
from thingmint.console.playground.curl import credentials, curl
from thingmint.console.playground.held_values import can_be_shown, held
from thingmint.console.playground.mqtt_code import mqtt
from thingmint.console.playground.shown_code import Equivalents
from thingmint.console.playground.terraform import terraform
from thingmint.console.playground.thingmint_command import thingmint
from thingmint.console.playground.yandex_clients import grpcurl, yandexcloud

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.console.playground.held_values import Resolve
    from thingmint.console.playground.operations import Operation
    from thingmint.console.playground.shown_code import Addresses


def equivalents(
    operation: Operation, given: Mapping[str, Any], addresses: Addresses, resolve: Resolve = dict
) -> Equivalents:
    """The code of each client that has such a call; of no client for values that are too long to copy.

    ``given`` has JSON values by the names of the operation's fields; others are left out. ``resolve`` returns a schema
    of the operation's document without a reference of its own.
    """
    if not can_be_shown(given):
        return Equivalents(credentials(operation.api, addresses), (), (), (), ())
    values = held(operation, given, resolve)
    found = [curl(operation, values, addresses)]
    if operation.api == "aws":
        found += [aws_command(operation, values, addresses), boto3(operation, values, addresses)]
    elif operation.api == "yandex":
        found += [grpcurl(operation, values, addresses), yandexcloud(operation, values, addresses, resolve)]
    else:
        found.append(thingmint(operation, values, addresses.account, addresses.region))
    found += [terraform(operation, values, addresses), *mqtt(operation, values, addresses)]
    return Equivalents(
        credentials(operation.api, addresses),
        values.files,
        values.secrets,
        values.missing,
        tuple(each for each in found if each is not None),
    )
