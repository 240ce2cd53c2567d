"""The JSON documents that the codec benchmarks read and write, by name.

The three small ones are events in the shapes AWS sends, kept as files in bench/events. The others are
generated from a fixed seed: the two sizes of the end-to-end benchmark (80 kB, 4.9 MB), and one document per
kind of value.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

EVENTS_DIR = Path(__file__).parent.parent / "events"

SMALL_EVENTS = ("api_gateway_v2", "sqs_batch_10", "s3_put")
GENERATED = ("records_80_kb", "records_4_9_mb", "ascii_strings", "other_strings", "ints", "floats")
NAMES = SMALL_EVENTS + GENERATED

WORDS = "cold start warm invocation event handler context deadline queue bucket order customer stock".split()
NOTES = (
    "bitte vor 12 Uhr, Grüße",
    "納品書を同封してください",
    'she said "now"\nand left',
    "C:\\temp\\orders 🚚",
)


def record(random_: random.Random, number: int) -> dict[str, Any]:
    """Return a business record of about 500 bytes: strings, numbers, flags, lists and nested objects."""
    return {
        "id": f"{random_.getrandbits(64):016x}",
        "sequence": number,
        "customer": {
            "name": " ".join(random_.choices(WORDS, k=3)),
            "email": f"{random_.choice(WORDS)}{random_.randrange(1000)}@example.com",
            "vip": random_.random() < 0.1,
            "referrer": None,
        },
        "created_at": f"2026-08-{random_.randrange(1, 29):02d}T{random_.randrange(24):02d}:20:01.123Z",
        "amounts": {
            "net": round(random_.uniform(1, 900), 2),
            "tax": random_.random(),
            "cents": random_.randrange(10**6),
        },
        "tags": random_.sample(WORDS, 3),
        "note": random_.choice(NOTES) if number % 10 == 0 else " ".join(random_.choices(WORDS, k=12)),
        "lines": [
            {
                "sku": f"SK-{random_.randrange(10**5)}",
                "quantity": random_.randrange(1, 9),
                "weight": random_.uniform(0, 30),
            }
            for _ in range(2)
        ],
    }


def records(size: int) -> dict[str, Any]:
    """Return a batch of records whose JSON is at least `size` bytes, and at most one record more."""
    random_ = random.Random(80)
    batch: list[dict[str, Any]] = []
    length = 0
    while length < size:
        batch.append(record(random_, len(batch)))
        length += len(json.dumps(batch[-1], ensure_ascii=False, separators=(",", ":")).encode()) + 1
    return {"records": batch}


def document(name: str) -> Any:
    """Return the document called `name` (one of NAMES) as fresh Python objects."""
    random_ = random.Random(name)
    if name in SMALL_EVENTS:
        return json.loads((EVENTS_DIR / f"{name}.json").read_bytes())
    if name == "records_80_kb":
        return records(80_000)
    if name == "records_4_9_mb":
        return records(4_900_000)
    if name == "ascii_strings":
        return [" ".join(random_.choices(WORDS, k=random_.randrange(1, 60))) for _ in range(3000)]
    if name == "other_strings":
        return [random_.choice(NOTES) * random_.randrange(1, 12) for _ in range(3000)]
    if name == "ints":
        return [random_.randrange(-(10**k), 10**k) for k in (1, 2, 4, 6, 9, 12, 18) for _ in range(4000)]
    if name == "floats":
        return [random_.uniform(-1, 1) * 10**k for k in (-3, 0, 3, 9) for _ in range(5000)]
    raise ValueError(f"no document called {name!r}: one of {', '.join(NAMES)}")


def body(name: str) -> bytes:
    """Return the document called `name` as compact UTF-8 JSON, the form in which AWS sends events."""
    return json.dumps(document(name), ensure_ascii=False, separators=(",", ":")).encode()
