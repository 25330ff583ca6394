-- Speeds are of decoding: the first token of an answer belongs to the prefill.

-- One row a finished job; the texts are those of the last turn of the first choice, tokens and
-- speed are over the attempts that were kept.
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
        SELECT sum(a.completion_tokens)
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

-- One row an hour (UTC): what was generated, and how fast while it was decoding.
CREATE VIEW throughput AS
SELECT
    strftime('%Y-%m-%dT%H:00Z', a.finished_at) AS hour,
    count(*) AS attempts,
    sum(a.verdict = 'accept') AS accepted,
    count(DISTINCT a.job_id) AS jobs,
    sum(m.prompt_tokens) AS prompt_tokens,
    sum(m.completion_tokens) AS completion_tokens,
    sum(m.decode_seconds) AS decode_seconds,
    sum(max(m.completion_tokens - 1, 0)) / nullif(sum(m.decode_seconds), 0) AS tokens_per_second,
    sum(m.prefill_tokens) / nullif(sum(m.prefill_seconds), 0) AS prefill_tokens_per_second
FROM timings AS m
JOIN attempts AS a ON a.id = m.attempt_id
GROUP BY 1;

-- Decoding speed by how full the cache was at the end, in steps of 1,024 positions.
CREATE VIEW speed_by_context AS
SELECT
    kv_len / 1024 * 1024 AS kv_from,
    kv_len / 1024 * 1024 + 1023 AS kv_to,
    count(*) AS attempts,
    sum(completion_tokens) AS completion_tokens,
    sum(max(completion_tokens - 1, 0)) / nullif(sum(decode_seconds), 0) AS tokens_per_second,
    sum(prefill_tokens) / nullif(sum(prefill_seconds), 0) AS prefill_tokens_per_second
FROM timings
GROUP BY 1, 2;

-- What trying again brought: why the attempt before was refused, and how often the next was taken.
CREATE VIEW retry_yield AS
SELECT
    before.retry_reason AS reason,
    a.attempt,
    a.rescued,
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
GROUP BY 1, 2, 3;
