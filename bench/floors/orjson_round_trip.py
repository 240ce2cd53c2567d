"""The floor for an echo in Python: `orjson.loads` and `orjson.dumps`, with collection off.

Run as `python -I orjson_round_trip.py FILE`. For each line on standard input, a count, it reads and writes
FILE's document so many times and prints the nanoseconds that each time took, on one line.
"""

import gc
import sys
from pathlib import Path
from time import perf_counter_ns

import orjson

document = Path(sys.argv[1]).read_bytes()
assert orjson.loads(orjson.dumps(orjson.loads(document))) == orjson.loads(document)
gc.disable()
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        start = perf_counter_ns()
        answer = orjson.dumps(orjson.loads(document))
        times.append(perf_counter_ns() - start)
        del answer
    print(*times, flush=True)
