"""The same behaviour tests against every pair of endpoint and runtime.

A pair is an endpoint (AWS's emulator, ours) and a runtime (Caloric's two ways in, awslambdaric). Where a pair
legitimately differs, `differences` says how and why; everything else holds for all six.
"""
