-- The janitor looks after one job: its lease is over, its message was lost, its next try is due, its deadline is over.
-- ARGV: prefix, id, lane or "", reason, message, most attempts without a word, seconds that the record is kept if it
-- ends here
-- -> "queued" | "knocked" | "canceled" | "expired" | "failed" | "kept"
local _, id, lane, reason, message, most_lost, record_ttl = unpack(ARGV)
local job = load(id)
if not job or (job.state ~= "queued" and job.state ~= "running") then
  for _, name in ipairs({"leases", "delayed", "deadlines"}) do redis.call("ZREM", key(name), id) end
  if lane ~= "" then redis.call("ZREM", key("queued", lane), id) end
  return "kept"
end
if job.state == "running" and not lease_over(job) then return "kept" end
local over = overtaken(job, record_ttl)
if over then return over end
if job.state == "running" then
  if not survives_loss(job, tonumber(most_lost), record_ttl) then return "failed" end
  queue_again(job, message, 0, {reason = reason})
  return "queued"
end
if reason == "deadline" then
  set_deadline(job)
  return "kept"
end
local due = redis.call("ZSCORE", key("delayed"), id)
if due then
  if tonumber(due) > now() then return "kept" end
  redis.call("ZREM", key("delayed"), id)
  redis.call("ZADD", key("queued", job.lane), job.created, id)
end
push(job.lane, message)
return "knocked"
