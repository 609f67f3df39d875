"""What the whole service stands on: settings, database, errors."""
