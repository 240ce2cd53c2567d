"""Values of `AWS_LAMBDA_MAX_CONCURRENCY` that start no worker (spec runtime-api 6.2).

What the workers do is not a matter of one sequence of requests: `tests/integration/test_workers.py` compares it.
"""

from __future__ import annotations

from tests.conformance.case import Case, example, function

CASES: list[Case] = [
    *(
        function(
            f"no worker is asked for: {example(value)}",
            "print('imported')\ndef handler(event, context): pass\n",
            environment={"AWS_LAMBDA_MAX_CONCURRENCY": value},
            events=(),
            posts=(),
        )
        for value in ("0", "-1", " 0 ", "00")
    ),
    *(
        function(
            f"a number of workers that is none: {example(value)}",
            "print('imported')\ndef handler(event, context): pass\n",
            environment={"AWS_LAMBDA_MAX_CONCURRENCY": value},
            events=(),
            posts=(),
            differs=("worker-count",),
        )
        for value in ("", "abc", "1.5", "0x10")
    ),
]
