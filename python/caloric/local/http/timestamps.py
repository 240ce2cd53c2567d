"""Points in time as the REST API writes them: a number in a body, ISO 8601 in a query, RFC 822 in a header."""

from __future__ import annotations

import re
from datetime import datetime, timezone

__all__ = ["format_of", "parse", "written"]

_FORMATS = {"querystring": "iso8601", "uri": "iso8601", "header": "rfc822"}
_ISO_8601 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-]\d\d):?(\d\d))")


def format_of(location: str, declared: str | None = None) -> str:
    """Return the format of a timestamp in `location`, by the AWS REST-JSON protocol unless its shape declares one."""
    return declared or _FORMATS.get(location, "unixTimestamp")


def parse(value: str | float, timestamp_format: str) -> datetime:
    """Return the point in time; a number is always seconds since 1970.

    Raises `ValueError` if `value` is none.
    """
    try:
        if not isinstance(value, str):
            return datetime.fromtimestamp(value, timezone.utc)
        if timestamp_format == "unixTimestamp":
            return datetime.fromtimestamp(float(value), timezone.utc)
        if timestamp_format == "rfc822":
            from email.utils import parsedate_to_datetime

            return parsedate_to_datetime(value).astimezone(timezone.utc)
        return _parse_iso_8601(value)
    except (OverflowError, OSError, TypeError) as error:
        raise ValueError(str(error)) from None


def written(value: datetime | float, timestamp_format: str) -> str | float:
    """Return a point in time, given as `datetime` or in seconds since 1970, as it goes on the wire."""
    if timestamp_format == "unixTimestamp":
        return value.timestamp() if isinstance(value, datetime) else value
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, timezone.utc)
    moment = moment.astimezone(timezone.utc)
    if timestamp_format == "rfc822":
        from email.utils import format_datetime

        return format_datetime(moment, usegmt=True)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_iso_8601(value: str) -> datetime:
    # Not datetime.fromisoformat: before Python 3.11 it takes neither Z nor fractions of any length.
    match = _ISO_8601.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is no ISO 8601 time")
    date, time, fraction, hours, minutes = match.groups()
    fraction = (fraction or "")[:6].ljust(6, "0")
    moment = datetime.fromisoformat(f"{date}T{time}.{fraction}{hours or '+00'}:{minutes or '00'}")
    return moment.astimezone(timezone.utc)
