-- A wish of the job's owner for its worker to meet between two steps. It stays in the record until it is met, or the job
-- ends; one that is wished again is a new wish, so that whoever meets the older one leaves the newer.
-- ARGV: prefix, id, what is wished  -> "requested" | "not_begun" | "cancellation_requested" | "already_finished" |
-- "not_found"
local _, id, what = unpack(ARGV)
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job then return "not_found" end
if job.state ~= "queued" and job.state ~= "running" then return "already_finished" end
if job.claims == "0" then return "not_begun" end
if job.cancel then return "cancellation_requested" end
redis.call("HSET", job_key(id), "wish/" .. what, redis.call("HINCRBY", job_key(id), "wishes", 1))
return "requested"
