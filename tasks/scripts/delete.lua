-- Forgets a job that has ended. ARGV: prefix, id  -> "deleted" | "active" | "not_found"
local id = ARGV[2]
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job then return "not_found" end
if job.state == "queued" or job.state == "running" then return "active" end
redis.call("DEL", job_key(id), key("events", id), key("steps", id), key("preview", id), key("attempts", id))
redis.call("ZREM", key("index", job.state), id)
redis.call("ZREM", key("index", job.state, job.tenant), id)
redis.call("ZREM", key("dead"), id)
return "deleted"
