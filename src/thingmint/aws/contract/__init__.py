"""AWS IoT's control plane as botocore's service model describes it, compiled once at start."""

from __future__ import annotations

from thingmint.aws.contract.model import Contract, Operation, compile_contract, load_contract

__all__ = ["Contract", "Operation", "compile_contract", "load_contract"]
