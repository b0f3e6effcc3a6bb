"""The pages, a module each."""

from __future__ import annotations

import importlib
import pkgutil


def load_pages() -> None:
    """Imports every module here, which declares its pages."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
