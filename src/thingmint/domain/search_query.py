"""The query language of AWS IoT's fleet indexing: a parser.

From AWS's guide, "Query syntax" and "Example thing queries". docs/search.md has the grammar. The length of a query, its
number of terms and its depth are limited, which bounds the work for it.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NoReturn

from thingmint.domain.errors import InvalidQuery
from thingmint.domain.search_conditions import (
    ONE,
    All,
    Either,
    Every,
    Exact,
    Not,
    Pattern,
    Present,
    Range,
    Term,
    fold,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thingmint.domain.search_conditions import Condition, Matcher

MAX_LENGTH = 1000  # characters
MAX_TERMS = 12  # AWS's
MAX_DEPTH = 20  # parentheses in each other
MAX_WILDCARDS = {"*": 2, "?": 5}  # of a term

ATTRIBUTES = "attributes."
"""How the field of an attribute begins."""

_ENDS_WORD = frozenset('()[]{}":<>')
_UNSEARCHABLE = frozenset("`@#%/';,")
_RESERVED = frozenset("!&+^|~")  # operators of other query languages
_KEYWORDS = frozenset(("AND", "OR", "NOT", "TO"))
_MANY = "\x01"  # the wildcard for any characters in a word, while it is read
_ESCAPE = "write \\ before a colon that belongs to a value"


def parse_query(text: str, fields: Mapping[str, str]) -> Condition:
    """Return the condition of a query. ``fields`` are the names of fields, each with the name that Terms have.

    Fields that begin with ATTRIBUTES are known besides. Raises InvalidQuery.
    """
    return _Parser(text, fields).parse()


class _Parser:
    """Reads from left to right, one method for each rule of the grammar."""

    def __init__(self, text: str, fields: Mapping[str, str]) -> None:
        self._text = text
        self._fields = fields
        self._at = 0
        self._terms = 0
        self._depth = 0

    def parse(self) -> Condition:
        if len(self._text) > MAX_LENGTH:
            self._fail(f"it has over {MAX_LENGTH} characters", MAX_LENGTH)
        for at, character in enumerate(self._text):
            if unicodedata.category(character) in ("Cc", "Cs") and not character.isspace():
                self._fail("a control character", at)
        condition = self._either(None)
        if self._at < len(self._text):
            self._fail("a parenthesis or bracket that closes nothing")
        return condition

    def _either(self, field: str | None) -> Condition:
        conditions = [self._all(field)]
        while self._keyword("OR"):
            conditions.append(self._all(field))
        return conditions[0] if len(conditions) == 1 else Either(conditions)

    def _all(self, field: str | None) -> Condition:
        conditions = [self._operand(field)]
        while True:
            if not self._keyword("AND") and (self._peek() in ("", ")", "]", "}") or self._sees("OR")):
                return conditions[0] if len(conditions) == 1 else All(conditions)
            conditions.append(self._operand(field))

    def _operand(self, field: str | None) -> Condition:
        negated = False
        while (hyphen := self._peek() == "-") or self._keyword("NOT"):
            self._at += hyphen
            negated = not negated
        condition = self._group(field) if self._peek() == "(" else self._term(field)
        return Not(condition) if negated else condition

    def _group(self, field: str | None) -> Condition:
        opened = self._at
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"parentheses over {MAX_DEPTH} levels deep")
        self._at += 1
        condition = self._either(field)
        if self._peek() != ")":
            self._fail("a parenthesis that is not closed", opened)
        self._at += 1
        self._depth -= 1
        return condition

    def _term(self, group: str | None) -> Condition:
        """A term, or the group of a field. ``group`` is the field of the group that the term is in."""
        character, start = self._peek(), self._at
        if character == "" or character in ")]}":
            self._fail("a term is missing")
        if character in _ENDS_WORD and character != ":":
            return self._made(group, self._value(), start)
        word = self._word()
        follows = self._peek()
        if follows == "" or follows not in ":<>":
            return self._made(group, self._matcher(word, start), start)
        if group is not None:
            self._fail(f"a field inside of the group of a field; {_ESCAPE}")
        field = self._field(word, start)
        self._at += follows == ":"
        return self._group(field) if self._peek() == "(" else self._made(field, self._value(), start)

    def _made(self, field: str | None, matcher: Matcher, start: int) -> Condition:
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._fail(f"over {MAX_TERMS} terms", start)
        if field is not None:
            return Term(field, matcher)
        if isinstance(matcher, Range):
            self._fail("a range without a field", start)
        return Every() if isinstance(matcher, Present) else Term(None, matcher)

    def _value(self) -> Matcher:
        character, start = self._peek(), self._at
        if character == '"':
            return Exact(self._phrase())
        if character in ("[", "{"):
            return self._range()
        if character in ("<", ">"):
            return self._comparison()
        return self._matcher(self._word(), start)

    def _matcher(self, word: str, start: int) -> Matcher:
        pieces = [piece for at, piece in enumerate(fold(word).split(_MANY)) if piece or at == 0]
        if word.endswith(_MANY):
            pieces.append("")
        if pieces == ["", ""]:
            return Present()
        if word[0] in (_MANY, ONE):
            self._fail("a wildcard at the beginning of a term", start)
        if len(pieces) - 1 > MAX_WILDCARDS["*"] or word.count(ONE) > MAX_WILDCARDS["?"]:
            self._fail(f"over {MAX_WILDCARDS['*']} asterisks or {MAX_WILDCARDS['?']} question marks in a term", start)
        return Exact(pieces[0]) if len(pieces) == 1 and ONE not in word else Pattern(pieces)

    def _range(self) -> Range:
        opened = self._at
        with_low = self._text[opened] == "["
        self._at += 1
        low = self._bound()
        if not self._keyword("TO"):
            self._fail("a range needs TO between its bounds")
        high = self._bound()
        closing = self._peek()
        if closing not in ("]", "}"):
            self._fail("a range that is not closed", opened)
        self._at += 1
        return Range(low, high, with_low=with_low, with_high=closing == "]")

    def _comparison(self) -> Range:
        operator = self._text[self._at]
        self._at += 1
        inclusive = self._text.startswith("=", self._at)
        self._at += inclusive
        bound = self._bound()
        if bound is None:
            self._fail("a comparison needs a value")
        low, high = (bound, None) if operator == ">" else (None, bound)
        return Range(low, high, with_low=inclusive, with_high=inclusive)

    def _bound(self) -> str | None:
        """The bound of a range; None for an asterisk, which means no bound."""
        if self._peek() == '"':
            return self._phrase()
        start, word = self._at, fold(self._word())
        if word == _MANY:
            return None
        if _MANY in word or ONE in word:
            self._fail("a wildcard in a range", start)
        return word

    def _field(self, word: str, start: int) -> str:
        if word.startswith(ATTRIBUTES) and len(word) > len(ATTRIBUTES) and not {_MANY, ONE} & set(word):
            return word
        if word.startswith(("shadow.", "deviceDefender.")):
            self._fail("a field of shadows or of Device Defender, which this server does not have", start)
        if word not in self._fields:
            known = ", ".join(sorted({*self._fields.values(), f"{ATTRIBUTES}NAME"}))
            self._fail(f"an unknown field (names are case-sensitive; known are {known})", start)
        return self._fields[word]

    def _word(self) -> str:
        """The characters up to a space or a special character, with _MANY and ONE for wildcards."""
        self._peek()
        start, word = self._at, ""
        while self._at < len(self._text):
            character = self._text[self._at]
            if character.isspace() or character in _ENDS_WORD:
                break
            if character == "\\":
                character = self._escaped()
            elif character in _UNSEARCHABLE or character in _RESERVED:
                self._fail("a character that has to be quoted, or to follow a \\")
            else:
                character = {"*": _MANY, "?": ONE}.get(character, character)
            word += character
            self._at += 1
        if not word:
            at_colon = self._peek() == ":"
            self._fail(f"a colon without a field; {_ESCAPE}" if at_colon else "a value is missing")
        if self._text[start : self._at] in _KEYWORDS:
            self._fail("a keyword in the place of a term; quote it to search for it", start)
        return word

    def _phrase(self) -> str:
        """The folded words between quotation marks, with a space between each two."""
        opened, phrase = self._at, ""
        self._at += 1
        while (character := self._text[self._at : self._at + 1]) != '"':
            if character == "":
                self._fail("a quotation mark that is not closed", opened)
            phrase += self._escaped() if character == "\\" else character
            self._at += 1
        self._at += 1
        words = fold(phrase).split()
        if not words:
            self._fail("a phrase without a word", opened)
        return " ".join(words)

    def _escaped(self) -> str:
        """The character after a backslash, at which it stops."""
        self._at += 1
        if self._at == len(self._text):
            self._fail("a backslash without a character after it", self._at - 1)
        return self._text[self._at]

    def _keyword(self, word: str) -> bool:
        """Skips the keyword if it is next."""
        found = self._sees(word)
        self._at += len(word) * found
        return found

    def _sees(self, word: str) -> bool:
        self._peek()
        after = self._text[self._at + len(word) : self._at + len(word) + 1]
        return self._text.startswith(word, self._at) and (after == "" or after.isspace() or after in '()[]{}"')

    def _peek(self) -> str:
        """The next character that is not a space; empty at the end."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _fail(self, what: str, at: int | None = None) -> NoReturn:
        raise InvalidQuery((self._at if at is None else at) + 1, what)
