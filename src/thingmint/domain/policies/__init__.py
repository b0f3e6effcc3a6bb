"""The AWS policy language, for the control planes, for roles and for the MQTT gateway.

``compile_policy`` reads a document once. ``evaluate``, ``evaluate_all`` and ``evaluate_any`` return ``Allow | Deny``.
``explain`` returns the statements that decided, or that would have allowed the request.
"""

from thingmint.domain.policies.compiler import MAX_LENGTH, compile_policy, document_size
from thingmint.domain.policies.decisions import (
    Allow,
    ContextValue,
    Decision,
    Deny,
    FailedCondition,
    Finding,
    Principal,
    Reason,
    Request,
    Scalar,
    StatementRef,
)
from thingmint.domain.policies.evaluation import MAX_FINDINGS, evaluate, evaluate_all, evaluate_any, explain, naming
from thingmint.domain.policies.statements import Kind, Policy

__all__ = [
    "MAX_FINDINGS",
    "MAX_LENGTH",
    "Allow",
    "ContextValue",
    "Decision",
    "Deny",
    "FailedCondition",
    "Finding",
    "Kind",
    "Policy",
    "Principal",
    "Reason",
    "Request",
    "Scalar",
    "StatementRef",
    "compile_policy",
    "document_size",
    "evaluate",
    "evaluate_all",
    "evaluate_any",
    "explain",
    "naming",
]
