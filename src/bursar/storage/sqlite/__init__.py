"""SQLite, one file and one writer: the embedded profile's system of record."""
