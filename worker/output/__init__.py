"""The content of the database as files, tables and pages."""
