"""The Lambda REST API: from HTTP to an operation of `caloric.local.service`, and back.

Routes, shapes and what is valid come from AWS's API model as botocore carries it.
"""
