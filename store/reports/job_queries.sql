-- Questions about one job, `:job_id`, for `explore`.

-- name: job_channels
-- All parts of all answers of one job, also of attempts that were refused.
SELECT
    a.choice,
    a.turn,
    a.step,
    a.attempt,
    a.verdict,
    a.retry_reason,
    c.channel,
    c.recipient,
    c.text,
    a.id AS attempt_id
FROM attempts AS a
JOIN parses AS p ON p.attempt_id = a.id AND p.current = 1
JOIN channels AS c ON c.parse_id = p.id
WHERE a.job_id = :job_id
ORDER BY a.choice, a.turn, a.step, a.attempt, c.position;
