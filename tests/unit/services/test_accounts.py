"""The settings of an account."""

from __future__ import annotations

from thingmint.services.accounts import AccountSettings


def test_settings_default_to_the_behaviour_of_aws() -> None:
    assert AccountSettings.of({}) == AccountSettings()
    switched = AccountSettings.of({"weak_keys": "true", "keys_over_mqtt": "false", "unknown": "true"})
    assert (switched.weak_keys, switched.keys_over_mqtt, switched.check_validity) == (True, False, True)
