from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.aws.contract import percent
from thingmint.aws.contract.routing import Router, label_names
from thingmint.domain.errors import Invalid

TEMPLATES = (
    ("GET", "/things"),
    ("GET", "/things/{thingName}"),
    ("GET", "/things/{thingName}/principals"),
    ("GET", "/things/static/{other}/deep"),
    ("DELETE", "/things/{thingName}"),
    ("GET", "/authorizers/"),
    ("GET", "/destinations/{arn+}"),
    ("GET", "/destinations/{id}/state"),
)


@pytest.fixture
def router() -> Router[str]:
    made: Router[str] = Router()
    for method, template in TEMPLATES:
        made.add(method, template, f"{method} {template}")
    return made


@pytest.mark.parametrize(
    ("method", "path", "template", "labels"),
    [
        ("GET", b"/things", "/things", ()),
        ("GET", b"/things/a", "/things/{thingName}", ("a",)),
        ("DELETE", b"/things/a", "/things/{thingName}", ("a",)),
        ("GET", b"/things/a%2Fb%3A", "/things/{thingName}", ("a/b:",)),
        ("GET", b"/things/a+b%2b", "/things/{thingName}", ("a+b+",)),
        ("GET", b"/things/%C3%BC", "/things/{thingName}", ("ü",)),
        ("GET", b"/things/\xc3\xbc", "/things/{thingName}", ("ü",)),
        ("GET", b"/things/static", "/things/{thingName}", ("static",)),
        ("GET", b"/things/static/principals", "/things/{thingName}/principals", ("static",)),  # backtracks
        ("GET", b"/things/static/x/deep", "/things/static/{other}/deep", ("x",)),
        ("GET", b"/authorizers", "/authorizers/", ()),
        ("GET", b"/authorizers/", "/authorizers/", ()),
        ("GET", b"/destinations/arn:aws/http/1", "/destinations/{arn+}", ("arn:aws/http/1",)),
        ("GET", b"/destinations/a%2Fb/c", "/destinations/{arn+}", ("a/b/c",)),
        ("GET", b"/destinations/a", "/destinations/{arn+}", ("a",)),
        ("GET", b"/destinations/a/state", "/destinations/{id}/state", ("a",)),
    ],
)
def test_a_path_matches_its_template(
    router: Router[str], method: str, path: bytes, template: str, labels: tuple[str, ...]
) -> None:
    assert router.match(method, path) == (f"{method} {template}", labels)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", b""),
        ("GET", b"/"),
        ("GET", b"//"),
        ("GET", b"things"),
        ("GET", b"x/things"),
        ("GET", b"/things/"),
        ("GET", b"/things/a/"),
        ("GET", b"/things//principals"),
        ("GET", b"//things"),
        ("GET", b"/things/../things"),
        ("GET", b"/things/a/other"),
        ("GET", b"/Things"),
        ("GET", b"/%74hings"),
        ("GET", b"/authorizers//"),
        ("GET", b"/destinations"),
        ("GET", b"/destinations/a/"),
        ("GET", b"/destinations/a//b"),
        ("POST", b"/things"),
        ("get", b"/things"),
        ("", b"/things"),
    ],
)
def test_paths_without_a_route_do_not_match(router: Router[str], method: str, path: bytes) -> None:
    assert router.match(method, path) is None


@pytest.mark.parametrize(("raw", "name"), [(b".", "."), (b"..", ".."), (b"%2e", "."), (b"%2E.", "..")])
def test_dots_can_be_a_name(router: Router[str], raw: bytes, name: str) -> None:
    found = router.match("GET", b"/things/" + raw)
    assert found is not None
    assert found[1] == (name,)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"%", "is not correctly percent-encoded"),
        (b"%4", "is not correctly percent-encoded"),
        (b"a%zz", "is not correctly percent-encoded"),
        (b"%%41", "is not correctly percent-encoded"),
        (b"%+1", "is not correctly percent-encoded"),
        (b"%ff", "is not valid UTF-8"),
        (b"\xff", "is not valid UTF-8"),
        (b"%c0%af", "is not valid UTF-8"),
        (b"%ed%a0%80", "is not valid UTF-8"),
        (b"a%00", "must not contain the NUL character"),
        (b"a\0", "must not contain the NUL character"),
    ],
)
def test_malformed_labels_are_refused(router: Router[str], raw: bytes, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        router.match("GET", b"/things/" + raw)
    assert (caught.value.field, caught.value.reason) == ("thingName", reason)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/a", "/a"),
        ("/a/{x}", "/a/{y}"),
        ("/a", "/a/"),
        ("/{x}/b/{y}", "/{u}/b/{v}"),
        ("/a/{x+}", "/a/{y+}"),
    ],
)
def test_colliding_routes_are_refused(first: str, second: str) -> None:
    router: Router[int] = Router()
    router.add("GET", first, 1)
    router.add("PUT", second, 2)
    with pytest.raises(ValueError, match="collides"):
        router.add("GET", second, 3)


@pytest.mark.parametrize("template", ["/a/{x+}/b", "/a/x-{y}", "/a?b", "/a//b", "/a/{}", "/a#b", "/", "/%41"])
def test_malformed_templates_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"label|route"):
        label_names(template)


@given(st.sampled_from(["GET", "DELETE", "PUT"]), st.binary(max_size=60) | st.from_regex(rb"/[a-z%/.{}]+"))
def test_matching_raises_only_invalid(method: str, path: bytes) -> None:
    router: Router[int] = Router()
    for verb, template in TEMPLATES:
        router.add(verb, template, 1)
    try:
        router.match(method, path)
        router.match(method, b"/things/" + path)
    except Invalid as error:
        field = error.field
    else:
        field = "id"
    assert field in {"thingName", "other", "arn", "id"}


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_percent_encoded_text_is_decoded(text: str) -> None:
    encoded = "".join(f"%{octet:02x}" for octet in text.encode())
    assert percent.decode(encoded.encode(), "x") == percent.decode(text.replace("%", "%25").encode(), "x") == text


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"", {}),
        (b"a=1", {"a": "1"}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"&&a=1&", {"a": "1"}),
        (b"a", {"a": ""}),
        (b"a=x=y", {"a": "x=y"}),
        (b"a=x+y%2B%20z", {"a": "x y+ z"}),
        (b"%61=1", {"a": "1"}),
        (b"c=1&c=2&X-Amz-Date=%zz&%zz=1&\xff=1&A=1", {}),
    ],
)
def test_query_values_are_decoded(query: bytes, values: dict[str, str]) -> None:
    assert percent.query_values(query, {b"a": "a", b"b": "b"}) == values


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (b"a=1&a=1", "must be given only once"),
        (b"a=1&%61=2", "must be given only once"),
        (b"a=%", "is not correctly percent-encoded"),
        (b"a=%ff", "is not valid UTF-8"),
        (b"a=%00", "must not contain the NUL character"),
    ],
)
def test_malformed_query_values_are_refused(query: bytes, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        percent.query_values(query, {b"a": "a"})
    assert (caught.value.field, caught.value.reason) == ("a", reason)
