"""The playground's pages: the list of all operations, and the page of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.console.browser import text_of
from tests.unit.console.test_pages import allow, user
from thingmint.console.playground.catalogue import Catalogue
from thingmint.console.playground.diagrams import operation_diagram, state_of
from thingmint.console.playground.schemas import Schemas
from thingmint.console.playground.shapes import Node, sample_of, tree_of
from thingmint.console.rendering import prose
from thingmint.server.contracts import CONTRACTS

if TYPE_CHECKING:
    from tests.unit.console.browser import Site
    from tests.world import World

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.of({api: make() for api, make in CONTRACTS.items()})


async def test_the_list_has_all_operations(site: Site, catalogue: Catalogue) -> None:
    answer = await (await site.signed_in()).get("/playground")
    everything = catalogue.search("")
    assert f"{len(everything)} operations, {len(catalogue.search('', served=True))} of them served." in text_of(answer)
    links = set(re.findall(r'href="/console(/playground/[^"]+)"', answer.text))
    assert links == {f"/playground/{each.api}/{each.id}" for each in everything}
    assert answer.text.count('pill mute">Not served<') == len(catalogue.search("", served=False))
    assert "Certificates 13 operations, all served" in text_of(answer)
    assert "Jobs 19 operations, none served" in text_of(answer)


async def test_the_page_of_each_operation(site: Site, catalogue: Catalogue) -> None:
    browser = await site.signed_in()
    for each in catalogue.search(""):
        answer = await browser.get(f"/playground/{each.api}/{each.id}")
        text = text_of(answer)
        assert answer.status_code == 200, each.id
        assert len(answer.text) < 200_000, each.id
        assert each.description or each.outline.replace("`", "") in text.replace(" . ", ". ").replace(" ,", ","), (
            each.id
        )
        assert ("This server does not serve it: a call" in text) == (not each.is_served), each.id
        controls = re.findall(r'<(?:input|select|textarea) id="field-([^"]+)" name="([^"]+)"', answer.text)
        assert sorted(controls) == sorted((field.name, field.name) for field in each.fields), each.id
        for failure in each.failures:
            assert failure.code in text, each.id
        assert ("<svg" in answer.text) == ("metadata" in (each.answer or {}).get("properties", {})), each.id


async def test_what_a_page_shows(site: Site) -> None:
    browser = await site.signed_in()
    answer = await browser.get("/playground/aws/UpdateCertificate")
    text = text_of(answer)
    for said in (
        "Call PUT /certificates/{certificateId}",
        "Permission iot:UpdateCertificate Your policies allow it for all resources.",
        "certificateId required path text",
        "exactly 64 characters Matches (0x)?[a-fA-F0-9]+",
        "newStatus required query text",
        "CertificateStateException 406",
    ):
        assert said in text, said
    select = re.search(r'<select id="field-newStatus".*?</select>', answer.text, re.DOTALL)
    assert select is not None
    assert re.findall(r"<option[^>]*>(\w+)", select[0])[:3] == ["Choose", "ACTIVE", "INACTIVE"]
    registered = await browser.get("/playground/aws/RegisterCACertificate")
    assert re.search(r'<textarea id="field-caCertificate"[^>]* required', registered.text)
    assert re.search(r'<details class="same">\s*<summary>6 optional fields', registered.text)
    given = await browser.get("/playground/aws/RegisterCACertificate?certificateMode=SNI_ONLY")
    assert re.search(r'<details class="same" open>\s*<summary>6 optional fields', given.text)
    assert re.search(
        r'<input id="field-maxResults"[^>]*type="number"', (await browser.get("/playground/aws/ListThings")).text
    )
    over_grpc = text_of(await browser.get("/playground/yandex/RegistryService.AddDataStreamExport"))
    assert (
        "Call Over gRPC only gRPC method yandex.cloud.iot.devices.v1.RegistryService/AddDataStreamExport" in over_grpc
    )
    assert "metadata: AddDataStreamExportMetadata" in over_grpc
    token = await browser.get("/playground/yandex/IamTokenService.Create")
    assert "None, and no sign-in" in text_of(token)
    assert re.search(r'<input id="field-yandexPassportOauthToken"[^>]*type="password"', token.text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/playground/aws/Nothing", 404),
        ("/playground/none/CreateThing", 404),
        ("/playground/aws/creatething", 404),
        ("/playground/aws/%00", 404),
        ("/playground/aws/CreateThing?example=x", 400),
        ("/playground/aws/CreateThing?example=99", 200),
        ("/playground?api=none", 400),
        ("/playground?tag=none/Things", 400),
        ("/playground?served=maybe", 400),
        (f"/playground?q={'x' * 257}", 400),
        ("/playground?q=%ff", 400),
        ("/playground?api=native&tag=aws/Things", 200),
    ],
)
async def test_addresses(site: Site, path: str, status: int) -> None:
    assert (await (await site.signed_in()).get(path)).status_code == status


@pytest.mark.parametrize(
    "words", [EVIL, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "(((", "\N{CYRILLIC SMALL LETTER ZHE}", "%", "\\"]
)
async def test_words_from_outside_stay_text(site: Site, words: str) -> None:
    browser = await site.signed_in()
    answer = await browser.client.get("/console/playground", params={"q": words})
    assert answer.status_code == 200
    assert "No operation matches." in text_of(answer)
    given = {"thingName": words, "attributePayload": words}
    filled = await browser.client.get("/console/playground/aws/CreateThing", params=given)
    for each in (answer, filled):
        assert "<script>alert" not in each.text
        assert "<img src=x" not in each.text
        assert "49" not in re.sub(r"[0-9a-f]{8,}|\d{4,}", "", text_of(each)) or "{{" not in words


async def test_searches(site: Site, catalogue: Catalogue) -> None:
    browser = await site.signed_in()
    answer = await browser.get("/playground?q=keys+certificate")
    found = re.findall(r'href="/console/playground/(\w+)/([\w.]+)"', answer.text)
    assert found[:2] == [("aws", "CreateKeysAndCertificate"), ("native", "CreateKeysAndCertificate")]
    only = await browser.get("/playground?q=certificate&api=yandex&served=yes")
    assert {api for api, _ in re.findall(r'href="/console/playground/(\w+)/([\w.]+)"', only.text)} == {"yandex"}
    many = await browser.get("/playground?q=e")
    assert "The first 100 are shown: add words." in text_of(many)
    assert len(re.findall(r'href="/console/playground/\w+/', many.text)) == 100
    assert f"{len(catalogue.operations('native'))} operations" in text_of(
        await browser.get("/playground?api=native&tag=aws/Things")
    )
    few = await browser.get("/playground?tag=aws/Endpoint")
    assert "1 operation, 1 of them served." in text_of(few)
    assert '<details class="choice" open>' in few.text


async def test_values_in_the_address_fill_the_form(site: Site) -> None:
    browser = await site.signed_in()
    filled = await browser.get("/playground/aws/CreateThing?thingName=pump&billingGroupName=a%22b")
    assert 'value="pump"' in filled.text
    assert 'value="a&#34;b"' in filled.text
    secret = await browser.get("/playground/yandex/RegistryService.Create?password=hunter22&name=lamps")
    assert "hunter22" not in secret.text
    assert 'value="lamps"' in secret.text


async def test_examples_fill_the_form(site: Site) -> None:
    document: dict[str, Any] = {
        "components": {"schemas": {}},
        "paths": {
            "/a": {
                "post": {
                    "operationId": "Make",
                    "requestBody": {
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "properties": {"name": {"type": "string"}, "labels": {"type": "object"}},
                                },
                                "examples": {"one": {"value": {"name": EVIL, "labels": {"a": 1}}}},
                            }
                        }
                    },
                    "responses": {
                        "200": {
                            "description": "",
                            "content": {"application/json": {"examples": {"one": {"summary": EVIL, "value": EVIL}}}},
                        }
                    },
                }
            }
        },
    }
    empty: dict[str, Any] = {"components": {}, "paths": {}}
    site.contracts.update({"aws": lambda: document, "yandex": lambda: empty, "native": lambda: empty})
    browser = await site.signed_in()
    plain = await browser.get("/playground/aws/Make")
    assert f"Examples {EVIL} 200 Fill the form with it" in text_of(plain)
    assert 'href="/console/playground/aws/Make?example=1#try"' in plain.text
    filled = await browser.get("/playground/aws/Make?example=1")
    assert re.search(r'<textarea id="field-labels"[^>]*>\s*\{\s*&#34;a&#34;: 1\s*\}', filled.text)
    assert 'value="&lt;script&gt;alert(' in filled.text
    assert "<script>alert" not in plain.text + filled.text


async def test_reading_needs_only_a_sign_in(site: Site, world: World, catalogue: Catalogue) -> None:
    assert (await site.browser().get("/playground")).status_code == 303
    little = await site.signed_in(await user(world, "little", allow("iot:DescribeEndpoint")))
    assert f"{len(catalogue.search(''))} operations" in text_of(await little.get("/playground"))
    refused = text_of(await little.get("/playground/aws/CreateThing"))
    assert "iot:CreateThing Your policies do not allow it: calls are refused." in refused
    allowed = text_of(await little.get("/playground/aws/DescribeEndpoint"))
    assert "iot:DescribeEndpoint Your policies allow it for all resources." in allowed
    one: dict[str, object] = {"Effect": "Allow", "Action": "iot:CreateThing", "Resource": "arn:aws:iot:*:*:thing/pump"}
    some = await site.signed_in(await user(world, "some", one))
    assert "for some resources, or under conditions" in text_of(await some.get("/playground/aws/CreateThing"))
    deny: dict[str, object] = {"Effect": "Deny", "Action": "iot:CreateThing", "Resource": "*"}
    denied = await site.signed_in(await user(world, "denied", one, deny))
    assert "do not allow it" in text_of(await denied.get("/playground/aws/CreateThing"))


def nodes(tree: tuple[Node, ...]) -> list[Node]:
    return [each for node in tree for each in (node, *nodes(node.children))]


def test_trees_end(catalogue: Catalogue) -> None:
    document = {
        "components": {
            "schemas": {
                "A": {
                    "type": "object",
                    "properties": {"self": {"$ref": "#/components/schemas/A"}, "b": {"type": "string"}},
                },
                "L": {"type": "array", "items": {"$ref": "#/components/schemas/L"}},
                "Wide": {
                    "type": "object",
                    "properties": {f"m{n}": {"$ref": "#/components/schemas/Wider"} for n in range(100)},
                },
                "Wider": {"type": "object", "properties": {f"m{n}": {"type": "string"} for n in range(100)}},
            }
        }
    }
    schemas = Schemas(document)
    of = {name: {"$ref": f"#/components/schemas/{name}"} for name in ("A", "L", "Wide")}
    tree = tree_of(schemas, of["A"])
    assert [(each.name, each.children) for each in tree] == [("self", ()), ("b", ())]
    assert tree[0].note == "the same members as above"
    assert tree_of(schemas, of["L"]) == ()
    assert len(nodes(tree_of(schemas, of["Wide"]))) <= 300
    for each in of.values():
        sample_of(schemas, each)
        schemas.words(each)
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(20):
        deep = {"type": "object", "properties": {"below": deep}}
    assert 3 < len(nodes(tree_of(schemas, deep))) < 10
    rule = catalogue.find("aws", "CreateTopicRule").field("actions")
    assert rule is not None
    found = nodes(tree_of(catalogue.schemas["aws"], rule.schema))
    assert {"dynamoDB", "hashKeyField", "lambda", "functionArn"} <= {each.name for each in found}


def test_diagrams() -> None:
    assert [state_of({}), state_of({"done": True, "response": {}}), state_of({"done": True, "error": {}})] == [
        "running",
        "response",
        "error",
    ]
    plain = operation_diagram(metadata=EVIL, response="Device")
    assert "state now" not in plain
    assert "<script>" not in plain
    assert "response: Device" in plain
    for state, said in (("running", "is running"), ("response", "with a response"), ("error", "with an error")):
        drawn = operation_diagram(state, metadata="M", response="R")  # type: ignore[arg-type]
        assert drawn.count("state now") == 2, "in the wide and in the narrow drawing"
        assert said in drawn
        assert "style=" not in drawn


def test_texts_of_descriptions() -> None:
    assert prose("a `b<` c\n\nd") == "<p>a <code>b&lt;</code> c</p><p>d</p>"
