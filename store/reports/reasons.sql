-- Why jobs of a run are not done. CROSS JOIN keeps SQLite to the index by status: it reads only the
-- jobs that did not end well. `custom_id` is that of the row with the smallest id.
SELECT j.status, j.error_code, count(*) AS jobs, min(j.id) AS job_id, j.custom_id
FROM batches AS b
CROSS JOIN jobs AS j
    ON j.batch_id = b.id AND j.status IN ('failed', 'incomplete', 'cancelled')
WHERE j.run_id = :run_id
GROUP BY j.status, j.error_code
ORDER BY jobs DESC, job_id
