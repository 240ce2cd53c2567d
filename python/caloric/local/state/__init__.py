"""What survives a restart: documents in SQLite, code and layers as files by their content."""

STATE_FILE = "state.db"
"""The name of the file with the documents, by which a data directory is known."""
