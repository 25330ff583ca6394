"""Tables in: rows of CSV, Parquet, saved data sets and JSON lines, made into lines of ours."""
