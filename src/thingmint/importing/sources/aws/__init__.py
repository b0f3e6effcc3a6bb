"""Reads an account of AWS IoT Core over its API, or one of another server that serves that API."""

from thingmint.importing.sources.aws.permissions import policy_document
from thingmint.importing.sources.aws.session import open_account
from thingmint.importing.sources.aws.source import AwsSource

__all__ = ["AwsSource", "open_account", "policy_document"]
