"""What a valid statement does not do although it seems to, and what it allows beyond what is usually meant."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thingmint.domain.linting.policy_sentences import joined, listed
from thingmint.domain.linting.policy_vocabulary import ANY
from thingmint.domain.policies import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thingmint.domain.linting.policy_vocabulary import Vocabulary
    from thingmint.domain.linting.positions import Path

_MAX_CHECKED = 300  # actions and resources of a document
_MAX_SUGGESTIONS = 5  # in a document; each compares a name with some hundred others
_SHOWN = 100  # characters of a name in a message
_ESCALATING = (
    "thingmint:AttachUserPolicy",
    "thingmint:AttachRolePolicy",
    "thingmint:AttachServiceAccountPolicy",
    "thingmint:CreatePolicy",
    "thingmint:CreateAccessKey",
    "thingmint:CreateKey",
    "thingmint:CreateApiToken",
    "thingmint:UpdateAssumeRolePolicy",
    "thingmint:GetSessionToken",
)
"""Actions that lead to every other one."""
_TOPICS = {"iot:Publish", "iot:Receive", "iot:RetainPublish"}


@dataclass(frozen=True, slots=True)
class _Checked:
    """A statement with the actions that it selects, and True for ``everywhere`` if it has no other restriction."""

    path: Path
    effect: str
    actions: frozenset[str]
    everywhere: bool
    resources: frozenset[str]
    has_conditions: bool
    text: str


class StatementChecks:
    """Checks the statements of one document. ``warn`` gets the path of what is at fault, and a sentence.

    ``variables``: the document's version has variables.
    """

    def __init__(self, kind: Kind, vocabulary: Vocabulary, warn: Callable[..., None], *, variables: bool) -> None:
        self._kind = kind
        self._vocabulary = vocabulary
        self._warn = warn
        self._variables = variables
        self._left = _MAX_CHECKED
        self._suggestions = _MAX_SUGGESTIONS
        self._checked: list[_Checked] = []

    def check(self, path: Path, statement: dict[str, Any]) -> None:
        actions, unknown = self._actions(path, statement)
        if self._left <= 0:  # not all of its actions were looked at, or none of its resources will be
            for at, message in unknown:
                self._warn(at, message)
            return
        never = not actions
        if never and "NotAction" in statement:
            self._warn((*path, "NotAction"), "This statement never applies: it leaves no action that is asked for")
        elif never and len(unknown) == 1:
            at, message = unknown[0]
            unknown = [(at, f"This statement never applies. {message}")]
        elif never:
            self._warn(path, "This statement never applies: it names no action that is asked for")
        for at, message in unknown:
            self._warn(at, message)
        if not never:
            never = not self._resources_match(path, statement, actions) or self._conditions_never_hold(
                path, statement.get("Condition", {})
            )
        if statement["Effect"] == "Allow" and not never:
            self._warn_of_breadth(path, statement, actions)
        if not never:
            resources = frozenset(map(str, listed(statement.get("Resource", []))))
            same = {name: value for name, value in statement.items() if name != "Sid"}
            self._checked.append(
                _Checked(
                    path,
                    statement["Effect"],
                    frozenset(actions),
                    ANY in resources or self._kind is Kind.TRUST,
                    resources,
                    bool(statement.get("Condition")),
                    json.dumps(same, sort_keys=True),
                )
            )

    def check_together(self) -> None:
        """Looks for statements that another one of the document makes useless."""
        denying = [each for each in self._checked if each.effect == "Deny" and not each.has_conditions]
        known: set[str] = set()
        for each in self._checked:
            if each.text in known:
                self._warn(each.path, "This statement says the same as an earlier one")
            known.add(each.text)
            if each.effect == "Deny" or not each.actions or self._kind is Kind.TRUST:
                continue
            over = [one for one in denying if each.actions <= one.actions]
            if any(one.everywhere or (each.resources and each.resources <= one.resources) for one in over):
                self._warn(each.path, "This statement never applies: another one denies all that it allows")

    def _actions(self, path: Path, statement: dict[str, Any]) -> tuple[list[str], list[tuple[Path, str]]]:
        """The actions that the statement selects, and the places of those that nothing asks for, with why."""
        element = "Action" if "Action" in statement else "NotAction"
        given, selected = listed(statement[element]), dict[str, None]()
        unknown: list[tuple[Path, str]] = []
        for number, pattern in enumerate(given):
            if self._left <= 0:
                break
            self._left -= 1
            found = self._vocabulary.selected(pattern)
            selected |= dict.fromkeys(found)
            if not found:
                at = (*path, element, number) if isinstance(statement[element], list) else (*path, element)
                unknown.append((at, self._unknown(pattern)))
        if element == "NotAction":
            return [name for name in self._vocabulary.actions if name not in selected], unknown
        return list(selected), unknown

    def _unknown(self, pattern: str) -> str:
        shown, service = pattern[:_SHOWN], pattern.partition(":")[0]
        if self._vocabulary.is_unasked(pattern):
            whose = "devices" if self._kind is Kind.DEVICE else "users, roles and service accounts"
            return f"This server does not ask the policies of {whose} for {shown}"
        if service.lower() not in self._vocabulary.services and not {"*", "?"} & set(service):
            return f"{shown} is of a service that this server does not have"
        close: list[str] = []
        if self._suggestions > 0:
            self._suggestions -= 1
            names = [name for name in self._vocabulary.by_lower if name.startswith(f"{service.lower()}:")]
            close = difflib.get_close_matches(pattern.lower()[:_SHOWN], names, 1)
        hint = f": did you mean {self._vocabulary.by_lower[close[0]]}?" if close else ""
        return f"There is no action {shown}{hint}"

    def _resources_match(self, path: Path, statement: dict[str, Any], actions: Sequence[str]) -> bool:
        """False if no resource of the statement can be one of its actions'. Warns of those that cannot."""
        if "Resource" not in statement:
            return True
        given, kinds = listed(statement["Resource"]), self._vocabulary.kinds(actions)
        useless: list[tuple[Path, str]] = []
        for number, pattern in enumerate(given):
            if self._left <= 0:
                return True
            self._left -= 1
            at = (*path, "Resource", number) if isinstance(statement["Resource"], list) else (*path, "Resource")
            unknown = self._vocabulary.unknown_variables(pattern) if self._variables else []
            if unknown:
                useless.append((at, f"This resource matches nothing: no request has a value for {joined(unknown)}"))
            elif not self._selects(pattern, kinds):
                useless.append((at, f"This resource matches nothing: {self._why_not(pattern, actions, kinds)}"))
            elif self._kind is Kind.DEVICE and set(actions) <= _TOPICS and set("+#") & set(pattern):
                useless.append((at, "This resource matches no topic: + and # are plain characters here. Use *"))
        if len(useless) == len(given):
            for at, message in useless:
                self._warn(at, f"This statement never applies. {message}" if len(given) == 1 else message)
            if len(given) > 1:
                self._warn(path, "This statement never applies: none of its resources matches anything")
            return False
        for at, message in useless:
            self._warn(at, message)
        self._warn_of_actions_without_resource(path, statement, given)
        return True

    def _warn_of_actions_without_resource(
        self, path: Path, statement: dict[str, Any], resources: Sequence[str]
    ) -> None:
        if "Action" not in statement or ANY in resources:
            return
        for number, pattern in enumerate(listed(statement["Action"])):
            if "*" in pattern or "?" in pattern or self._left <= 0:
                continue
            self._left -= 1
            kinds = self._vocabulary.kinds(self._vocabulary.selected(pattern))
            if kinds and not any(self._selects(each, kinds) for each in resources):
                at = (*path, "Action", number) if isinstance(statement["Action"], list) else (*path, "Action")
                wanted = joined([self._vocabulary.written(kind) for kind in kinds], "or")
                self._warn(at, f"{pattern} has no effect here: it is asked for with the resource {wanted}")

    def _selects(self, pattern: str, kinds: Sequence[str]) -> bool:
        try:
            return self._vocabulary.resource_selects(pattern, kinds, variables=self._variables)
        except ValueError:  # the compiler says what is wrong with it
            return True

    def _why_not(self, pattern: str, actions: Sequence[str], kinds: Sequence[str]) -> str:
        foreign = self._vocabulary.foreign(pattern)
        if foreign is not None:
            return foreign
        wanted = joined([self._vocabulary.written(kind) for kind in kinds], "or")
        what = actions[0] if len(actions) == 1 else "the actions of this statement"
        return f"{what} {'is' if len(actions) == 1 else 'are'} asked for with {wanted}"

    def _conditions_never_hold(self, path: Path, conditions: dict[str, Any]) -> bool:
        """True if a condition is false for each request. Warns of it, and of keys that have no value."""
        never = False
        for operator, keys in conditions.items():
            negated = "Not" in operator or operator == "Null"
            lenient = operator.endswith("IfExists") or operator.startswith("ForAllValues:")
            for key, values in keys.items():
                at = (*path, "Condition", operator, key)
                if self._vocabulary.keys.fullmatch(key) is None:
                    effect = (
                        "so this condition is always met" if negated or lenient else "so this statement never applies"
                    )
                    if operator == "Null":
                        effect = "so its test always has the same result"
                    self._warn(at, f"No request has the key {key[:_SHOWN]}, {effect}", at_name=True)
                    never = never or not (negated or lenient)
                elif values == [] and not negated and not lenient:
                    self._warn(
                        at, "This statement never applies: the condition has no value to compare with", at_name=True
                    )
                    never = True
        return never

    def _warn_of_breadth(self, path: Path, statement: dict[str, Any], actions: Sequence[str]) -> None:
        if self._kind is Kind.TRUST:
            given = statement.get("Principal")
            all_callers = given == "*" or (isinstance(given, dict) and ANY in listed(given.get("AWS", [])))
            if all_callers and not statement.get("Condition"):
                self._warn((*path, "Principal"), "Every principal of this account may assume the role")
            return
        patterns = listed(statement.get("Action", []))
        resources = listed(statement.get("Resource", []))
        if "NotAction" in statement:
            self._warn(
                (*path, "NotAction"), "With Allow, NotAction allows all other actions, also those of later versions"
            )
        if "NotResource" in statement:
            self._warn((*path, "NotResource"), "With Allow, NotResource allows the actions on all other resources")
        broad = next((each for each in patterns if each == ANY or each.endswith(":*")), None)
        if broad is not None:
            what = "every action" if broad == ANY else f"all actions of {broad.partition(':')[0]}"
            where = " on every resource" if ANY in resources else ""
            self._warn((*path, "Action"), f"This allows {what}{where}. Name the actions that are needed")
        elif ANY in resources and any(kind != ANY for kind in self._vocabulary.kinds(actions)):
            self._warn(
                (*path, "Resource"), "This allows the actions on every resource. Name the resources that are needed"
            )
        if self._kind is Kind.DEVICE:
            self._warn_of_client_ids(path, statement, actions, resources)
        elif broad != ANY and (leading := [name for name in _ESCALATING if name in actions]):
            self._warn((*path, "Action"), f"With {joined(leading, 'or')} a principal can get every other permission")

    def _warn_of_client_ids(
        self, path: Path, statement: dict[str, Any], actions: Sequence[str], resources: Sequence[str]
    ) -> None:
        every = [each for each in resources if each == ANY or each.endswith(":client/*")]
        if "iot:Connect" in actions and every and not statement.get("Condition"):
            self._warn(
                (*path, "Resource"),
                "A device with this policy can connect under each client id, and so disconnect other devices. "
                "Use client/${iot:Connection.Thing.ThingName}",
            )
