-- How many conversations decode together is part of what a result depends on: it is fixed for a
-- batch and a model at the first claim, and stands with every attempt.
ALTER TABLE batch_models ADD COLUMN parallel INTEGER CHECK (parallel >= 1);
UPDATE batch_models SET parallel = 1;
ALTER TABLE runs ADD COLUMN parallel INTEGER CHECK (parallel >= 1);

-- rows: the mean number of busy slots while the attempt decoded. stall_seconds: the time in which
-- the prompts of others were read meanwhile. machine_seconds: its decode steps, each divided by the
-- number of slots that were busy in it; before this there was one slot.
ALTER TABLE timings ADD COLUMN parallel INTEGER NOT NULL DEFAULT 1 CHECK (parallel >= 1);
ALTER TABLE timings ADD COLUMN rows REAL NOT NULL DEFAULT 1.0;
ALTER TABLE timings ADD COLUMN stall_seconds REAL NOT NULL DEFAULT 0.0;
ALTER TABLE timings ADD COLUMN machine_seconds REAL NOT NULL DEFAULT 0.0;
UPDATE timings SET machine_seconds = decode_seconds;
ALTER TABLE batches ADD COLUMN machine_seconds REAL NOT NULL DEFAULT 0.0;
UPDATE batches SET machine_seconds = decode_seconds;

-- A death of the process counts against an attempt only if it ran alone.
ALTER TABLE crashes ADD COLUMN alone INTEGER NOT NULL DEFAULT 1 CHECK (alone IN (0, 1));
