"""The cases, a module per subject, each with a list `CASES`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conformance.case import Case

SUBJECTS: dict[str, list[Case]] = {
    module.name: import_module(f"{__name__}.{module.name}").CASES for module in pkgutil.iter_modules(__path__)
}
ALL: list[Case] = [case for cases in SUBJECTS.values() for case in cases]
