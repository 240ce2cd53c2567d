"""Where Chromium is: the distribution's, which `tools/setup browser` installs, or what the variable CHROMIUM names."""

from __future__ import annotations

import os
import shutil
import sys

NAMES = ("chromium", "google-chrome")
"""What it may be called. Ubuntu's `chromium-browser` is no program but starts a snap, which needs systemd."""

HOW_TO_INSTALL = (
    "Chromium is missing, in which tests/browser looks at pages: install it (Debian: apt install chromium), or name it "
    "with CHROMIUM=/path/to/chromium"
)


class ChromiumMissingError(Exception):
    """There is none; the message says what to do."""


def find() -> str:
    """Return the path of the executable. Raises `ChromiumMissingError`."""
    for name in (os.environ["CHROMIUM"],) if os.environ.get("CHROMIUM") else NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    raise ChromiumMissingError(HOW_TO_INSTALL)


def main() -> None:
    """Say nothing where there is one; end with a sentence where there is none."""
    try:
        find()
    except ChromiumMissingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
