"""The tests. A package, so that no `tests` of a dependency can take its name."""
