-- What an answer was begun with by a rescue (uint32, little-endian), and how often its job had been
-- put back into the queue by `mh-batch retry`.
ALTER TABLE attempts ADD COLUMN opening BLOB NOT NULL DEFAULT x'' CHECK (length(opening) % 4 = 0);
ALTER TABLE attempts ADD COLUMN round INTEGER NOT NULL DEFAULT 0 CHECK (round >= 0);
ALTER TABLE jobs ADD COLUMN round INTEGER NOT NULL DEFAULT 0 CHECK (round >= 0);
-- Somebody asked for the end of a job that a worker has in its hands.
ALTER TABLE jobs ADD COLUMN cancel_requested INTEGER NOT NULL DEFAULT 0
    CHECK (cancel_requested IN (0, 1));
-- Who rendered and read for this model, so that its tokens can be read again without it.
ALTER TABLE batch_models ADD COLUMN adapter TEXT;
