-- A death that no longer speaks against its job: the job was put back into the queue after it.
ALTER TABLE crashes ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0 CHECK (forgiven IN (0, 1));
