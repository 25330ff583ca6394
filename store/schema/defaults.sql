-- The names of the settings that somebody set, a JSON list; NULL in batches of older versions, and
-- then nothing of the model's own fills the others.
ALTER TABLE batches ADD COLUMN settings_given TEXT
    CHECK (settings_given IS NULL OR json_valid(settings_given));

-- The model's own values for settings that the batch left open, a JSON object; fixed at the first
-- claim. NULL where nothing was filled by the rule above.
ALTER TABLE batch_models ADD COLUMN defaults TEXT CHECK (defaults IS NULL OR json_valid(defaults));
