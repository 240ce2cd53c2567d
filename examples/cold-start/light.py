"""The same answers: what only some invocations need is imported by those, and what can be computed is not stored."""

import time


def handler(event, context):
    number = event.get("number", 12)
    # As a function does that asks another service.
    time.sleep(event.get("wait", 0))
    if event.get("report"):
        import xml.dom.minidom

        return {"report": xml.dom.minidom.parseString(f"<square>{number * number}</square>").toxml()}
    return {"square": number * number, "libraries": 0}
