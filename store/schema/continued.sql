-- Whether an attempt goes on where the one before was cut: its opening is all that one drew, and its
-- seed that one's.
ALTER TABLE attempts ADD COLUMN continues INTEGER NOT NULL DEFAULT 0 CHECK (continues IN (0, 1));
-- How many tokens the context holds behind an attempt's prompt and `max_tokens`, NULL if nothing
-- limits it. Nobody noted it before: what was cut then is tried again from scratch.
ALTER TABLE attempts ADD COLUMN room INTEGER DEFAULT 0 CHECK (room >= 0);

-- As it was, but `tokens` are all of an answer, those that its prompt ends with included.
DROP VIEW results;
CREATE VIEW results AS
SELECT
    b.name AS batch,
    j.batch_id,
    j.id AS job_id,
    j.position,
    j.custom_id,
    j.status,
    j.model,
    last.final,
    last.analysis,
    last.finish_reason,
    (SELECT count(*) FROM turns AS t WHERE t.job_id = j.id) AS turns,
    (
        SELECT sum(length(a.opening) / 4 + a.completion_tokens)
        FROM turns AS t JOIN attempts AS a ON a.id = t.accepted_attempt_id
        WHERE t.job_id = j.id
    ) AS tokens,
    (
        SELECT sum(max(m.completion_tokens - 1, 0)) / nullif(sum(m.decode_seconds), 0)
        FROM turns AS t JOIN timings AS m ON m.attempt_id = t.accepted_attempt_id
        WHERE t.job_id = j.id
    ) AS tokens_per_second,
    j.error_code,
    j.error,
    j.finished_at,
    j.metadata
FROM jobs AS j
JOIN batches AS b ON b.id = j.batch_id
LEFT JOIN turns AS last ON last.rowid = (
    SELECT t.rowid FROM turns AS t
    WHERE t.job_id = j.id AND t.choice = 0
    ORDER BY t.turn DESC, t.step DESC
    LIMIT 1
)
WHERE j.status IN ('done', 'incomplete', 'failed', 'cancelled');

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
