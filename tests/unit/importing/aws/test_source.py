"""Reading an account of AWS: what comes, in which order, and from which places it goes on."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.importing.aws.stub_account import (
    PEM,
    REGION,
    Clock,
    StubAccount,
    failure,
    furnished,
    items_of,
    read,
    source_of,
    told,
)
from thingmint.domain.certificates import parse_certificate
from thingmint.domain.keys import OWN_KEYS
from thingmint.importing.batches import SourceError
from thingmint.importing.sources.aws import AwsSource
from thingmint.importing.sources.aws.calls import Calls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.importing.batches import Item, Place

MICROS = 1_583_298_367_000_000
FINGERPRINT = parse_certificate(PEM, "pem", OWN_KEYS)[0].fingerprint


def test_everything_comes_in_an_order_in_which_nothing_precedes_what_it_refers_to() -> None:
    batches = read(source_of(furnished()))
    kinds = [item["kind"] for batch in batches for item in batch.items]
    assert list(dict.fromkeys(kinds)) == [
        "endpoint",
        "thing_type",
        "policy",
        "template",
        "ca",
        "thing",
        "group",
        "members",
        "certificate",
    ]
    assert all(item["region"] == REGION for batch in batches for item in batch.items)
    assert [group["name"] for group in items_of(batches, "group")] == ["top", "middle", "below"]
    assert told(batches) == []


def test_items_have_what_the_account_has() -> None:
    batches = read(source_of(furnished()))
    (thing_type,) = items_of(batches, "thing_type")
    assert thing_type == {
        "kind": "thing_type",
        "region": REGION,
        "name": "lamp",
        "description": "a lamp",
        "searchable_attributes": ["room"],
        "propagating_attributes": [],
        "deprecated_at": None,
        "created_at": MICROS,
        "tags": {},
    }
    policy = items_of(batches, "policy")[0]
    assert policy["versions"] == [
        {"id": "1", "document": "{}", "created_at": MICROS},
        {"id": "3", "document": "{ }", "created_at": MICROS},
    ]
    assert (policy["default"], policy["tags"]) == ("3", {"team": "light"})
    (template,) = items_of(batches, "template")
    assert [version["body"] for version in template["versions"]] == ["{}", "{ }"]
    (ca,) = items_of(batches, "ca")
    config = {"template_name": "line", "template_body": None, "role_arn": None}
    assert (ca["auto_registration"], ca["registration_config"]) == (True, config)
    assert items_of(batches, "thing")[3] == {
        "kind": "thing",
        "region": REGION,
        "name": "lamp-3",
        "type": "lamp",
        "attributes": {"room": "r3"},
    }
    top, middle, _ = items_of(batches, "group")
    assert (top["parent"], top["policies"], top["attributes"]) == (None, ["connect"], {"floor": "2"})
    assert middle["parent"] == "top"
    members = [(item["group"], item["things"]) for item in items_of(batches, "members")]
    assert members == [("below", ["lamp-0", "lamp-1"]), ("below", ["lamp-2"]), ("middle", ["lamp-3"])]
    certificate = items_of(batches, "certificate")[4]
    assert certificate == {
        "kind": "certificate",
        "region": REGION,
        "id": "4" * 64,
        "pem": PEM,
        "status": "ACTIVE",
        "mode": "DEFAULT",
        "ca": None,
        "created_at": MICROS,
        "modified_at": MICROS,
        "policies": ["connect", "publish", "subscribe"],
        "things": [{"name": "lamp-4", "exclusive": False}],
    }


def test_the_import_goes_on_from_every_place() -> None:
    whole = read_singly(furnished(), {})
    expected = [item for item, _ in whole]
    for number, (_, place) in enumerate(whole, 1):
        rest = [item for item, _ in read_singly(furnished(), json.loads(json.dumps(place)))]
        again = len(rest) - (len(expected) - number)
        # Groups above the next one come again.
        assert 0 <= again <= 2, place
        assert all(item in rest for item in expected[number:]), place


def test_every_place_has_the_same_parts() -> None:
    places = [place for _, place in read_singly(furnished(), {})]
    assert {frozenset(place) for place in places} == {
        frozenset({"region", "section", "marker", "after", "group", "token"})
    }


def read_singly(account: StubAccount, place: Place) -> list[tuple[Item, Place]]:
    """Every item with the place behind it: as if batches had one item, and the process were killed after each."""
    entries = source_of(account)._entries(place)
    return [(item, behind) for item, _, behind, _ in entries if item is not None]


def test_a_finished_import_reads_nothing_again() -> None:
    account = furnished()
    last = read(source_of(account))[-1].place
    account.calls.clear()
    assert read(source_of(account), last) == []
    assert not account.calls


def test_markers_that_are_not_accepted_any_more_are_replaced() -> None:
    account = furnished()
    places = [place for item, place in read_singly(account, {}) if item["kind"] == "certificate"]
    old = {**places[2], "marker": "old"}

    def refuse_old(operation: str, given: Mapping[str, Any]) -> None:
        if given.get("marker") == "old":
            raise failure(operation, "InvalidRequestException")

    account.fault = refuse_old
    rest = [item["id"][0] for item, _ in read_singly(account, old)]
    assert rest == ["3", "4"]
    account.lists["ListCertificates"].pop(2)
    assert [item["id"][0] for item, _ in read_singly(account, old)] == ["0", "1", "3", "4"]


def test_a_list_whose_markers_are_never_accepted_is_a_result() -> None:
    account = furnished()

    def refuse(operation: str, given: Mapping[str, Any]) -> None:
        if operation == "ListThings" and given.get("nextToken"):
            raise failure(operation, "InvalidRequestException")

    account.fault = refuse
    batches = read(source_of(account))
    assert told(batches) == [("region", "refused", f"{REGION}: things")]
    assert len(items_of(batches, "thing")) == 2
    assert len(items_of(batches, "certificate")) == 5


def test_an_entry_that_was_deleted_does_not_hide_the_ones_behind_it() -> None:
    account = furnished()
    places = [place for item, place in read_singly(account, {}) if item["kind"] == "thing"]
    account.lists["ListThings"].pop(2)
    rest = [item["name"] for item, _ in read_singly(account, places[2]) if item["kind"] == "thing"]
    assert rest[-1] == "lamp-4"
    assert "lamp-3" in rest


def test_members_go_on_within_a_group() -> None:
    account = furnished()
    places = [place for item, place in read_singly(account, {}) if item["kind"] == "members"]
    assert places[0]["token"] == "page-2"
    rest = [item["things"] for item, _ in read_singly(account, places[0]) if item["kind"] == "members"]
    assert rest == [["lamp-2"], ["lamp-3"]]


def test_the_first_version_of_list_principal_things_is_enough() -> None:
    account = furnished()

    def refuse(operation: str, _: Mapping[str, Any]) -> None:
        if operation == "ListPrincipalThingsV2":
            raise failure(operation, "UnknownOperationException", 404)

    account.fault = refuse
    batches = read(source_of(account))
    assert told(batches) == []
    assert items_of(batches, "certificate")[0]["things"] == [{"name": "lamp-0", "exclusive": False}]
    assert account.calls["ListPrincipalThingsV2"] <= 5  # of those that were under way at once


def test_exclusive_attachments_stay_exclusive() -> None:
    account = furnished()
    account.things_of[account.arn(f"cert/{'0' * 64}")] = [
        {"thingName": "lamp-0", "thingPrincipalType": "EXCLUSIVE_THING"}
    ]
    certificate = items_of(read(source_of(account)), "certificate")[0]
    assert certificate["things"] == [{"name": "lamp-0", "exclusive": True}]


def test_a_certificate_of_very_many_things_is_divided() -> None:
    account = furnished()
    arn = account.arn(f"cert/{'4' * 64}")
    account.things_of[arn] = [{"thingName": f"t{number}"} for number in range(250)]
    batches = read(source_of(account))
    assert len(items_of(batches, "certificate")[-1]["things"]) == 100
    further = items_of(batches, "attachments")
    assert [(item["certificate"], len(item["things"])) for item in further] == [(FINGERPRINT, 100), (FINGERPRINT, 50)]
    assert all(sum(len(item.get("things", ())) for item in batch.items) <= 350 for batch in batches)


def test_regions_come_one_after_the_other() -> None:
    accounts = furnished("eu-west-1"), furnished("us-east-2")
    whole = [(item, place) for item, _, place, _ in source_of(*accounts)._entries({}) if item is not None]
    regions = [item["region"] for item, _ in whole]
    assert regions == sorted(regions)
    assert len(set(regions)) == 2
    _, place = whole[-4]
    rest = [item for item, _, _, _ in source_of(*accounts)._entries(place) if item is not None]
    assert rest == [item for item, _ in whole[-3:]]
    with pytest.raises(SourceError, match="us-east-2"):
        read(source_of(accounts[0]), place)


def test_it_says_beforehand_how_long_it_takes() -> None:
    account = furnished()
    source = source_of(account, rate=None)
    assert list(source.check()) == [2, 4, 5, 7, 8, 10, 11]
    assert source.total() == 11
    assert source.notice() == (
        "About 5 certificates, 3 policies, 3 thing groups, 10 a second: the whole import takes about 1 minute."
    )
    source._counts = {"certificate": 1_000_000, "policy": 3, "group": 0}
    assert source.notice() == (
        "About 1,000,000 certificates, 3 policies, 10 a second: the whole import takes about 28 hours."
    )
    assert "as fast as the server answers" in source_of(account, rate=0).notice()


def test_batches_tell_how_much_of_the_total_they_are() -> None:
    source = source_of(furnished())
    assert list(source.check())
    assert sum(batch.size for batch in read(source)) == source.total()


def test_the_identity_is_that_of_the_account_and_its_regions() -> None:
    one, other = furnished("eu-west-1"), furnished("us-east-2")
    assert source_of(one).identity() == source_of(one).identity()
    assert source_of(one).identity() != source_of(one, other).identity()
    empty = StubAccount()
    assert source_of(empty).identity() != source_of(one).identity()


def test_an_import_that_waits_can_be_stopped() -> None:
    account, throttled = furnished(), threading.Event()

    def throttle(operation: str, _: Mapping[str, Any]) -> None:
        if operation == "DescribeCertificate":
            throttled.set()
            raise failure(operation, "ThrottlingException")

    account.fault = throttle
    client: Any = account
    source = AwsSource([REGION], lambda _: Calls(client, 0), rate=0)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, source)
        assert throttled.wait(30)
        source.stop()
        with pytest.raises(SourceError, match="stopped"):
            reading.result(30)


@pytest.mark.parametrize(("rate", "most"), [(None, 40), (0, 75), (1, 4), (1000, 75)])
def test_batches_are_small_if_calls_are_slow(rate: float | None, most: int) -> None:
    account = StubAccount(page=250)
    for number in range(200):
        account.thing(f"lamp-{number}")
    assert max(len(batch.items) for batch in read(source_of(account, rate=rate))) == most


def test_calls_keep_to_the_documented_rates() -> None:
    account = StubAccount(page=250)
    for number in range(300):
        account.certificate(f"{number:064x}")
    clock = Clock()
    began = clock.now
    read(source_of(account, rate=None, clock=clock))
    assert clock.now - began >= 299 / 10
