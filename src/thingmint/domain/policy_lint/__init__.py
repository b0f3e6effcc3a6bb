"""Reads a policy document for a person who edits it: what is wrong with it, and what it does, in sentences.

``compile_policy`` decides whether a document is valid, and stops at the first error. ``lint`` names all errors with
their lines, and warns of what is valid but hardly meant: what never applies, and what allows more than it seems to.
"""

from thingmint.domain.policy_lint.linting import lint
from thingmint.domain.policy_lint.reading import Flaw, Report
from thingmint.domain.policy_lint.sentences import Sentence
from thingmint.domain.policy_lint.vocabulary import Vocabulary

__all__ = ["Flaw", "Report", "Sentence", "Vocabulary", "lint"]
