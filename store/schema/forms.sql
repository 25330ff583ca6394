-- rejected: what a check said of a good answer that it did not accept; it is in the prompt of the next
-- attempt. accept: the function that checked the answers of a run, its name and the SHA-256 of its
-- source as JSON; NULL if there was none.
ALTER TABLE attempts ADD COLUMN rejected TEXT;
ALTER TABLE runs ADD COLUMN accept TEXT;
