"""Fails while it is imported."""

raise ValueError("höher als 日本")
