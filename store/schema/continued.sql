-- Whether an attempt goes on where the one before was cut: its opening is all that one drew, and its
-- seed that one's.
ALTER TABLE attempts ADD COLUMN continues INTEGER NOT NULL DEFAULT 0 CHECK (continues IN (0, 1));
-- How many tokens the context holds behind an attempt's prompt and `max_tokens`, NULL if nothing
-- limits it. Nobody noted it before: what was cut then is tried again from scratch.
ALTER TABLE attempts ADD COLUMN room INTEGER DEFAULT 0 CHECK (room >= 0);

-- As it was, with those that went on where the attempt before was cut apart.
DROP VIEW retry_yield;
CREATE VIEW retry_yield AS
SELECT
    before.retry_reason AS reason,
    a.attempt,
    a.rescued,
    a.continues,
    count(*) AS retries,
    sum(a.verdict = 'accept') AS accepted,
    1.0 * sum(a.verdict = 'accept') / count(*) AS yield,
    sum(a.completion_tokens) AS completion_tokens
FROM attempts AS a
JOIN attempts AS before
    ON before.job_id = a.job_id
    AND before.choice = a.choice
    AND before.turn = a.turn
    AND before.step = a.step
    AND before.attempt = a.attempt - 1
GROUP BY 1, 2, 3, 4;
