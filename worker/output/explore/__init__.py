"""`mh-batch explore`: the database in a browser, by datasette, which is an extra."""
