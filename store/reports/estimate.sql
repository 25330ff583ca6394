-- The latest attempts of one model. They are looked for among the latest of all models, so that a
-- model that was never used costs no walk over years of attempts.
WITH latest AS (
    SELECT id, job_id, verdict FROM attempts ORDER BY id DESC LIMIT :horizon
)
SELECT l.verdict, m.completion_tokens, m.tokens_per_second, m.prefill_tokens_per_second
FROM latest AS l
JOIN jobs AS j ON j.id = l.job_id
JOIN timings AS m ON m.attempt_id = l.id
WHERE j.model = :model
ORDER BY l.id DESC
LIMIT :sample
