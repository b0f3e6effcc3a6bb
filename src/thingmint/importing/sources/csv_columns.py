"""The columns of a table of devices, for `thingmint import csv` and `thingmint fleet export`.

A row is a thing or a device of a registry, with one certificate or none; a thing with several certificates has a row
for each. A row without a name is a certificate that is attached to no thing.
"""

from __future__ import annotations

COLUMNS = (
    "name",  # of the thing, or of the device in its registry
    "type",  # the thing's type
    "serial",  # the device's serial number, kept as the attribute ``serial``; no two things have the same
    "attributes",  # a JSON object; for a device of a registry, its labels
    "groups",  # names, with spaces between them
    "certificate",  # a PEM, or the path of a PEM file in the directory of the table
    "status",  # of the certificate: ACTIVE (also if empty), INACTIVE or REVOKED
    "policies",  # names, with spaces between them
    "exclusive",  # true if the certificate can be attached to no other thing
    "ca",  # the id of the CA certificate under which the certificate is registered
    "mode",  # of a certificate with a CA: DEFAULT or SNI_ONLY
    "created_at",  # when the certificate was registered or the device was made, as 2026-12-01T10:00:00Z
    "region",
    "registry",  # the id of a registry of Yandex IoT Core: then the row is one of its devices
    "device_id",  # its id there
    "description",  # of the device
    "topic_aliases",  # of the device: a JSON object
)
SHOWN_COLUMNS = ("certificate_id", "certificate_serial")
"""What the export adds for people. An import does not read it."""
OTHER_NAMES = {"group": "groups", "policy": "policies"}
"""Other names of columns that an import takes."""
ATTRIBUTE = "attributes."
"""The beginning of columns for single attributes, such as ``attributes.site``."""
SERIAL_ATTRIBUTE = "serial"
