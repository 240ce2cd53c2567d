"""What survives a restart: documents in SQLite, code and layers as files by their content."""
