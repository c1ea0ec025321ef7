-- The janitor knocks again: for a job whose lease is over (it waits again from now on) or whose message was lost.
-- ARGV: prefix, id, reason, message, seconds that the record is kept if it ends here
-- -> "queued" | "knocked" | "canceled" | "kept"
local _, id, reason, message, record_ttl = unpack(ARGV)
local job = load(id)
if not job then
  redis.call("ZREM", key("leases"), id)
  return "kept"
end
if job.state == "queued" then
  redis.call("RPUSH", key("queue", job.lane), message)
  return "knocked"
end
if job.state ~= "running" or not lease_over(job) then return "kept" end
if job.cancel then
  finish(job, "canceled", "", "", "{}", record_ttl)
  return "canceled"
end
redis.call("HDEL", job_key(id), "token", "worker", "progress")
redis.call("HSET", job_key(id), "queued", now())
redis.call("ZREM", key("leases"), id)
redis.call("ZADD", key("queued", job.lane), job.created, id)
move(job, "queued")
emit(id, job.tenant, "job.queued", cjson.encode({reason = reason}), true)
redis.call("RPUSH", key("queue", job.lane), message)
return "queued"
