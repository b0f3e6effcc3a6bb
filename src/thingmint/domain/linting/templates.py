"""Finds what is wrong with the text of a provisioning template, and what is valid but hardly meant."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from thingmint.domain.errors import InvalidTemplate
from thingmint.domain.linting.reading import Notes, Report, Sentence, read_document
from thingmint.domain.templates import CERTIFICATE_ID, MAX_LENGTH, Kind, parse_template
from thingmint.domain.templates.documents import inside
from thingmint.domain.templates.expressions import pieces_of
from thingmint.domain.templates.subjects import PSEUDO_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.domain.linting.positions import Path

_SECTIONS = ("Parameters", "Mappings", "Resources", "DeviceConfiguration")
# Sections of CloudFormation that people copy, and a text that AWS's examples have.
_IGNORED = ("AWSTemplateFormatVersion", "Description", "Metadata")
_THING = {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "x"}}
_STEP = re.compile(r"\.?([^.\[]+)|\[(\d+)\]")
_NOUNS = {"AWS::IoT::Thing": "thing", "AWS::IoT::Certificate": "certificate", "AWS::IoT::Policy": "policy"}


def lint_template(text: str, kind: Kind) -> Report:
    """The report about a document. It never raises, whatever the text is."""
    found = read_document(text, MAX_LENGTH)
    if isinstance(found, Report):
        return found
    document, notes = found
    if not notes.has_errors and isinstance(document, dict):
        _check_parts(document, kind, notes)
    if not notes.has_errors:
        flaw = _flaw_of(text, kind)
        if flaw is not None:
            notes.error(_place(document, flaw), flaw)
    if notes.has_errors:
        return notes.report()
    _warn(document, kind, notes)
    return notes.report(list(_sentences(document)))


def _flaw_of(text: str, kind: Kind) -> str | None:
    try:
        parse_template(text, kind)
    except InvalidTemplate as error:
        return error.flaw
    return None


def _check_parts(document: Mapping[str, Any], kind: Kind, notes: Notes) -> None:
    """Parse each parameter, mapping, resource and text for devices as if it were the only one."""
    for section in _SECTIONS:
        parts = document.get(section)
        if not isinstance(parts, dict):
            continue
        for name, part in parts.items():
            if notes.is_full:
                return
            kept = part
            if isinstance(part, dict):
                kept = {key: value for key, value in part.items() if key != "DependsOn"}
            alone = {"Resources": {"thing": _THING}, section: {name: kept}}
            is_certificate = isinstance(kept, dict) and kept.get("Type") == "AWS::IoT::Certificate"
            text = json.dumps(alone, ensure_ascii=False, separators=(",", ":"))
            flaw = _flaw_of(text, kind if is_certificate else Kind.BULK)
            if flaw is not None:
                path = _place(document, flaw)
                notes.error(path if path[:2] == (section, name) else (section, name), flaw)


def _place(document: Any, flaw: str) -> Path:
    """The path that a flaw begins with, as far as the document has it."""
    named, here, path = flaw.split(" ", 1)[0], document, []
    if not named.startswith(_SECTIONS):
        return ()
    while named:
        if isinstance(here, list):
            step = _STEP.match(named)
            if step is None or step[2] is None or int(step[2]) >= len(here):
                break
            path.append(int(step[2]))
            here, named = here[int(step[2])], named[step.end() :]
            continue
        if not isinstance(here, dict):
            break
        named = named.removeprefix(".")
        known = [key for key in here if _begins(named, inside("", key).removeprefix("."))]
        if not known:
            break
        key = max(known, key=len)
        path.append(key)
        here, named = here[key], named[len(inside("", key)) - 1 :]
    return tuple(path)


def _begins(text: str, key: str) -> bool:
    return text.startswith(key) and text[len(key) : len(key) + 1] in ("", ".", "[")


def _warn(document: Mapping[str, Any], kind: Kind, notes: Notes) -> None:
    parameters, resources = document.get("Parameters") or {}, document["Resources"]
    used = dict(_references(document))
    for name in document:
        if name not in _SECTIONS and name not in _IGNORED:
            notes.warn((name,), f"{name} has no effect: a template has {', '.join(_SECTIONS)}", at_name=True)
    for path, name in _references(document):
        if notes.is_full:
            return
        if name in parameters or name in resources:
            continue
        if not name.startswith(PSEUDO_PREFIX):
            notes.warn(path, f"No device can be provisioned: there is no parameter and no resource {name}")
    for path, name in _references(document):
        if name.startswith(PSEUDO_PREFIX) and name != CERTIFICATE_ID and kind is Kind.FLEET:
            notes.warn(path, f"No device can be provisioned: {name} has a value in templates of the type JITP only")
    names = set(used.values())
    for name, declared in parameters.items():
        path = ("Parameters", name)
        is_pseudo = name.startswith(PSEUDO_PREFIX)
        if name not in names and not is_pseudo:
            notes.warn(path, f"Nothing uses the parameter {name}", at_name=True)
        elif kind is Kind.JITP and not is_pseudo and declared.get("Default") is None:
            notes.warn(path, f"{name} never has a value: devices of this type send no parameters", at_name=True)
    _warn_of_resources(resources, notes)


def _warn_of_resources(resources: Mapping[str, Any], notes: Notes) -> None:
    by_type = {given["Type"]: (name, given["Properties"]) for name, given in resources.items()}
    if "AWS::IoT::Thing" not in by_type:
        notes.warn(("Resources",), "The template makes no thing", at_name=True)
    thing = by_type.get("AWS::IoT::Thing", ("", {}))[1]
    if "AWS::IoT::Policy" not in by_type and not thing.get("ThingGroups"):
        what = "Devices get no policy and join no group, so they may do nothing after they are provisioned"
        notes.warn(("Resources",), what, at_name=True)
    name, certificate = by_type.get("AWS::IoT::Certificate", ("", {}))
    if str(certificate.get("Status", "")).lower() == "inactive":
        path = ("Resources", name, "Properties", "Status")
        notes.warn(path, "Devices cannot connect with an inactive certificate until it is activated")


def _references(document: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The places at which a valid document refers to names, and the names."""
    waiting: list[tuple[Path, Any]] = [((section,), document.get(section)) for section in ("Resources", _SECTIONS[3])]
    while waiting:
        path, here = waiting.pop()
        if isinstance(here, list):
            waiting += [((*path, number), each) for number, each in enumerate(here)]
        if not isinstance(here, dict):
            continue
        if len(here) == 1 and isinstance(here.get("Ref"), str):
            yield (*path, "Ref"), here["Ref"]
        elif len(here) == 1 and "Fn::Sub" in here:
            pattern, own = here["Fn::Sub"], {}
            if isinstance(pattern, list):
                pattern, own = pattern
            for name in pieces_of(pattern)[1::2]:
                if name not in own:
                    yield (*path, "Fn::Sub"), name
            waiting.append(((*path, "Fn::Sub"), list(own.values())))
        else:
            waiting += [((*path, key), each) for key, each in here.items()]


def _sentences(document: Mapping[str, Any]) -> Iterator[Sentence]:
    for name, given in document["Resources"].items():
        noun, properties = _NOUNS[given["Type"]], given["Properties"]
        match noun:
            case "thing":
                text = f"A thing with the name {_shown(properties['ThingName'])}"
                if "ThingTypeName" in properties:
                    text += f", of the type {_shown(properties['ThingTypeName'])}"
                if properties.get("AttributePayload"):
                    text += f", with the attributes {', '.join(properties['AttributePayload'])}"
                if properties.get("ThingGroups"):
                    text += f", in the groups {_shown(properties['ThingGroups'])}"
            case "certificate":
                text = f"The device's certificate becomes {_shown(properties.get('Status', 'ACTIVE')).lower()}"
            case _ if "PolicyName" in properties:
                text = f"The policy {_shown(properties['PolicyName'])} is attached to the certificate"
            case _:
                text = "A policy of the template's own is made, and attached to the certificate"
        yield Sentence("", name, f"{text}.")


def _shown(value: Any) -> str:
    """An expression for people: a text, or what functions are made of."""
    match value:
        case {"Ref": str(name)} if len(value) == 1:
            return f"<{name}>"
        case {"Fn::Join": [str(delimiter), list(items)]} if len(value) == 1:
            return delimiter.join(map(_shown, items))
        case {"Fn::Sub": str(pattern)} if len(value) == 1:
            pieces = pieces_of(pattern)
            pieces[1::2] = [f"<{name}>" for name in pieces[1::2]]
            return "".join(pieces)
        case list():
            return ", ".join(map(_shown, value))
        case dict():
            return f"<{next(iter(value), '')}>"
    return str(value)
