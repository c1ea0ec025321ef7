-- ARGV: prefix, id, seconds that the record is kept
-- -> "canceled" | "cancellation_requested" | "already_finished" | "not_found"
local _, id, record_ttl = unpack(ARGV)
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job then return "not_found" end
if job.state == "queued" or (job.state == "running" and lease_over(job)) then
  finish(job, "canceled", "", "", "{}", record_ttl)
  return "canceled"
end
if job.state ~= "running" then return "already_finished" end
if not job.cancel then redis.call("HSET", job_key(id), "cancel", "1", "canceled_at", now()) end
return "cancellation_requested"
