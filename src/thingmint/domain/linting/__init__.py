"""Reads policies and provisioning templates for a person who edits them: what is wrong, and what they do, in sentences.

``compile_policy`` and ``parse_template`` decide whether a document is valid, and stop at the first error. The linters
name all errors with their lines, and warn of what is valid but hardly meant.
"""

from thingmint.domain.linting.policies import lint_policy
from thingmint.domain.linting.policy_vocabulary import Vocabulary
from thingmint.domain.linting.reading import Flaw, Report, Sentence
from thingmint.domain.linting.templates import lint_template

__all__ = ["Flaw", "Report", "Sentence", "Vocabulary", "lint_policy", "lint_template"]
