"""The published contract of Yandex IoT Core, compiled from the protobuf descriptors: see ``load``."""

from __future__ import annotations

from thingmint.yandex.contract.contract import Contract, HttpBinding, Method, load

__all__ = ["Contract", "HttpBinding", "Method", "load"]
