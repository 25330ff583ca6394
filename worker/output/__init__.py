"""What is in the database, as files, tables, reports and pages."""
