"""The differential suite: what a user can observe is the same under Caloric as under awslambdaric.

A case (`case.py`, `cases/`) is data. It runs under awslambdaric and under both of Caloric's ways in (`run.py`);
everything observable is recorded (`observation.py`) and compared (`comparison.py`). What may differ is listed in
`differences.py`, from which `docs/differences.md` is made (`python -m tests.conformance.document`).
"""
