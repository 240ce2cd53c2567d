"""Execution environments of the service's functions: how they are made, and when they start and end."""
