"""End-to-end comparisons: Caloric, awslambdaric and AWS's emulator against each other and against the floors.

`python -m bench` runs them; README.md in this folder says what is measured and how. The benchmarks of the
JSON codec alone are in `bench.codec` and run under pytest.
"""
