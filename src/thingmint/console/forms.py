"""A form that cannot be used, with what was typed: its page again, with a message and the field at fault marked.

The page is made anew, as its address shows it. Then the values that the browser sent are put into the form, so no page
has to do this itself. Passwords, and the fields that the server fills in, are not put back.
"""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from markupsafe import escape

from thingmint.console.sentences import sentence_of
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.errors import DomainError

_Attributes = dict[str, str | None]
_TEXTS = ("text", "search", "number", "email", "url", "tel")
_TICKED = ("checkbox", "radio")
_PRIVATE = "PRIVATE KEY-----"


class _Field(NamedTuple):
    """A field that a person fills in: its start tag, and the place after all of it."""

    tag: str
    attributes: _Attributes
    start: int
    inner: int
    end: int

    @property
    def name(self) -> str:
        return self.attributes.get("name") or ""


class _Option(NamedTuple):
    attributes: _Attributes
    select: str
    start: int
    end: int
    text: str


class _Form:
    def __init__(self, attributes: _Attributes) -> None:
        self.addresses = [attributes.get("action") or ""]
        self.hidden: list[tuple[str, str]] = []
        self.fields: list[_Field] = []
        self.options: list[_Option] = []


class _Forms(HTMLParser):
    """Finds the forms of a page, the labels of their fields, and where the content begins."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[_Form] = []
        self.labels: dict[str, str] = {}
        self.main: int | None = None
        self._lines = [0]
        for line in page.split("\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._form: _Form | None = None
        self._open: tuple[str, _Attributes, int, int] | None = None  # a text area or a list of choices
        self._option: tuple[_Attributes, int, int] | None = None
        self._label: str | None = None
        self._text = ""
        self.feed(page)
        self.close()

    @property
    def _place(self) -> int:
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes, start = dict(attrs), self._place
        end = start + len(self.get_starttag_text() or "")
        if tag == "main" and self.main is None:
            self.main = end
        elif tag == "form":
            self._form = _Form(attributes)
            self.forms.append(self._form)
        elif tag == "label":
            self._label, self._text = attributes.get("for"), ""
        elif tag == "button" and self._form is not None and attributes.get("formaction"):
            self._form.addresses.append(attributes["formaction"] or "")
        elif tag == "input" and self._form is not None:
            if attributes.get("type") == "hidden":
                self._form.hidden.append((attributes.get("name") or "", attributes.get("value") or ""))
            else:
                self._form.fields.append(_Field(tag, attributes, start, end, end))
        elif tag in ("textarea", "select"):
            self._open = tag, attributes, start, end
        elif tag == "option":
            self._option, self._text = (attributes, start, end), ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        end = self._place + len(tag) + len("</>")
        if tag == "form":
            self._form = None
        elif tag == "label" and self._label is not None:
            self.labels[self._label], self._label = " ".join(self._text.split()), None
        elif tag == "option" and self._option is not None and self._form is not None and self._open is not None:
            name = self._open[1].get("name") or ""
            self._form.options.append(_Option(self._option[0], name, *self._option[1:], self._text.strip()))
        elif self._open is not None and tag == self._open[0]:
            _, attributes, start, inner = self._open
            if self._form is not None:
                self._form.fields.append(_Field(tag, attributes, start, inner, end))
            self._open = None


def with_form(page: str, path: str, sent: Sequence[tuple[str, str]], error: DomainError) -> str | None:
    """The page with the message and what was sent; None if it has no form that is sent to the path."""
    found = _Forms(page)
    form = _form_of(found, path, sent)
    if form is None or found.main is None:
        return None
    wrong = _field_at_fault(form, error, dict(sent))
    label = found.labels.get(wrong.attributes.get("id") or "", "") if wrong is not None else ""
    message = sentence_of(error, label)
    alert = f'\n  <p class="alert bad" role="alert">{escape(message)}</p>'
    edits: list[tuple[int, int, str]] = [(found.main, found.main, alert)]
    values: dict[str, list[str]] = {}
    for name, value in sent:
        if _PRIVATE not in value:
            values.setdefault(name, []).append(value)
    for field in form.fields:
        edits += _edits(field, values, message if field is wrong else "")
    edits += [_chosen(option, values) for option in form.options if option.select in values]
    for start, end, text in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        page = page[:start] + text + page[end:]
    return page


def _form_of(found: _Forms, path: str, sent: Sequence[tuple[str, str]]) -> _Form | None:
    """The form that was sent: of several with the same address, the one with the same hidden fields."""
    forms = [form for form in found.forms if any(unquote(a.partition("#")[0]) == path for a in form.addresses)]
    return max(forms, key=lambda form: len(set(form.hidden) & set(sent)), default=None)


def _field_at_fault(form: _Form, error: DomainError, sent: Mapping[str, str]) -> _Field | None:
    """The field that has the name of the error's field, or its end: ``name`` is that of ``policyName``.

    Of an error about something by its id, it is the field in which that id was typed.
    """
    seen = [field for field in form.fields if field.attributes.get("type") not in _TICKED]
    if isinstance(error, Invalid):
        name = _bare(error.field)
        named = [field for field in seen if _bare(field.name) and name.endswith(_bare(field.name))]
        return max(named, key=lambda field: len(field.name), default=None)
    id = getattr(error, "id", None)
    return next((field for field in seen if id and sent.get(field.name, "").strip() == id), None)


def _bare(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())


def _edits(field: _Field, values: Mapping[str, Sequence[str]], message: str) -> list[tuple[int, int, str]]:
    attributes, given = dict(field.attributes), values.get(field.name, [])
    kind = attributes.get("type") or "text"
    edits = []
    if field.tag == "input" and kind in _TICKED:
        attributes.pop("checked", None)
        if (attributes.get("value") or "on") in given:
            attributes["checked"] = None
    elif field.tag == "input" and kind in _TEXTS and given:
        attributes["value"] = given[0]
    elif field.tag == "textarea" and given:
        edits.append((field.inner, field.end - len("</textarea>"), f"\n{escape(given[0])}"))
    if message:
        id = f"{attributes.get('id') or field.name}-error"
        described = attributes.get("aria-describedby")
        attributes |= {"aria-invalid": "true", "aria-describedby": f"{id} {described}" if described else id}
        attributes["autofocus"] = None
        edits.append((field.end, field.end, f'<p class="note bad-text" id="{escape(id)}">{escape(message)}</p>'))
    return [*edits, (field.start, field.inner, _tag(field.tag, attributes))]


def _chosen(option: _Option, values: Mapping[str, Sequence[str]]) -> tuple[int, int, str]:
    attributes = dict(option.attributes)
    value = attributes.get("value", option.text)
    attributes.pop("selected", None)
    if (value or "") in values[option.select]:
        attributes["selected"] = None
    return option.start, option.end, _tag("option", attributes)


def _tag(name: str, attributes: _Attributes) -> str:
    written = (f" {n}" if value is None else f' {n}="{escape(value)}"' for n, value in attributes.items())
    return f"<{name}{''.join(written)}>"
