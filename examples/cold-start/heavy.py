"""Everything at the top: what most functions look like when they have grown."""

import asyncio
import email
import http.client
import multiprocessing
import sqlite3
import time
import unittest.mock
import xml.dom.minidom

LIBRARIES = [asyncio, email, http.client, multiprocessing, sqlite3, unittest.mock, xml.dom.minidom]
SQUARES = {number: number * number for number in range(300_000)}


def handler(event, context):
    number = event.get("number", 12)
    # As a function does that asks another service.
    time.sleep(event.get("wait", 0))
    return {"square": SQUARES[number], "libraries": len(LIBRARIES)}
