-- The JSON of an answer whose form is JSON, as the model wrote it.
ALTER TABLE turns ADD COLUMN parsed TEXT CHECK (parsed IS NULL OR json_valid(parsed));

-- What a check said of a good answer that it did not accept; it is in the prompt of the next attempt.
ALTER TABLE attempts ADD COLUMN rejected TEXT;

-- The function that checked the answers of a run: its name and the SHA-256 of its source, as JSON.
ALTER TABLE runs ADD COLUMN accept TEXT;

-- One row a finished job; the texts are those of the last turn of the first choice, tokens and
-- speed are over the attempts that were kept, and `rescued` is 1 if any of these was.
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
        SELECT sum(max(m.completion_tokens - 1, 0)) / nullif(sum(m.machine_seconds), 0)
        FROM turns AS t JOIN timings AS m ON m.attempt_id = t.accepted_attempt_id
        WHERE t.job_id = j.id
    ) AS tokens_per_second,
    j.error_code,
    j.error,
    j.finished_at,
    j.metadata,
    EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.rescued = 1) AS rescued,
    last.parsed
FROM jobs AS j
JOIN batches AS b ON b.id = j.batch_id
LEFT JOIN turns AS last ON last.rowid = (
    SELECT t.rowid FROM turns AS t
    WHERE t.job_id = j.id AND t.choice = 0
    ORDER BY t.turn DESC, t.step DESC
    LIMIT 1
)
WHERE j.status IN ('done', 'incomplete', 'failed', 'cancelled');
