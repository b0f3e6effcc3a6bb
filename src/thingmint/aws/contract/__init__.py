"""AWS IoT's APIs as botocore's service models describe them, compiled once at start."""

from __future__ import annotations

from thingmint.aws.contract.model import (
    Contract,
    Operation,
    compile_contract,
    load_contract,
    load_data_contract,
    load_jobs_contract,
    load_model,
)

__all__ = [
    "Contract",
    "Operation",
    "compile_contract",
    "load_contract",
    "load_data_contract",
    "load_jobs_contract",
    "load_model",
]
