-- The process that ran a job has ended, and its parent saw it: nobody waits for the lease to run out.
-- ARGV: prefix, id, worker, most attempts without a word, seconds that the record is kept if it ends here
-- -> "queued" | "canceled" | "expired" | "failed", or "kept" where another has it by now, or nobody
local _, id, worker, most_lost, record_ttl = unpack(ARGV)
local job = load(id)
if not job or job.state ~= "running" or job.worker ~= worker then return "kept" end
return lose(job, tonumber(most_lost), record_ttl, "worker_died")
