"""The switches of an account."""

from __future__ import annotations

from thingmint.services.accounts import AccountSettings


def test_settings_of_an_account_are_aws_unless_switched() -> None:
    assert AccountSettings.of({}) == AccountSettings()
    switched = AccountSettings.of({"weak_keys": "true", "keys_over_mqtt": "false", "unknown": "true"})
    assert (switched.weak_keys, switched.keys_over_mqtt, switched.check_validity) == (True, False, True)
