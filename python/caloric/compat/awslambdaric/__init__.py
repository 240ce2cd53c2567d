"""`awslambdaric` in a process whose runtime is Caloric: the names that others import or patch, with the peer's
signatures (spec runtime-api 4.1), over Caloric's own code.
"""

# The version whose names these are; tools choose their way in by it.
__version__ = "4.2.2"
