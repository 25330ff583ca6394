-- How many jobs are done with an answer that was forced from thoughts that had not ended. Like the
-- other totals it is kept by the transaction that ends a job; a job that is done stays so.
ALTER TABLE batches ADD COLUMN rescued INTEGER NOT NULL DEFAULT 0 CHECK (rescued >= 0);
UPDATE batches SET rescued = (
    SELECT count(*) FROM jobs AS j
    WHERE j.batch_id = batches.id AND j.status = 'done'
        AND EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.rescued = 1)
);

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
        SELECT sum(max(m.completion_tokens - 1, 0)) / nullif(sum(m.decode_seconds), 0)
        FROM turns AS t JOIN timings AS m ON m.attempt_id = t.accepted_attempt_id
        WHERE t.job_id = j.id
    ) AS tokens_per_second,
    j.error_code,
    j.error,
    j.finished_at,
    j.metadata,
    EXISTS (SELECT 1 FROM turns AS t WHERE t.job_id = j.id AND t.rescued = 1) AS rescued
FROM jobs AS j
JOIN batches AS b ON b.id = j.batch_id
LEFT JOIN turns AS last ON last.rowid = (
    SELECT t.rowid FROM turns AS t
    WHERE t.job_id = j.id AND t.choice = 0
    ORDER BY t.turn DESC, t.step DESC
    LIMIT 1
)
WHERE j.status IN ('done', 'incomplete', 'failed', 'cancelled');
