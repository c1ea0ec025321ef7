-- The janitor looks after one job: its lease is over, its next try is due, its deadline is over.
-- ARGV: prefix, id, lane or "", reason, most attempts without a word, seconds that the record is kept if it
-- ends here
-- -> "queued" | "let_in" | "canceled" | "expired" | "failed" | "kept", or, once, "unreadable"
local _, id, lane, reason, most_lost, record_ttl = unpack(ARGV)
local job, unreadable = load(id)
local ended = job and job.state ~= "queued" and job.state ~= "running"
-- Places that it should not have are taken back: it would be looked after in every round.
if lane ~= "" and (not job or lane ~= job.lane or job.state ~= "queued") then try("ZREM", key("queued", lane), id) end
if not job or job.state ~= "running" then try("ZREM", key("leases"), id) end
if not job or job.state ~= "queued" then try("ZREM", key("delayed"), id) end
if not job or ended then
  try("ZREM", key("deadlines"), id)
  return unreadable and note_unreadable(id, record_ttl) and "unreadable" or "kept"
end
if lane ~= job.lane then return "kept" end
if job.state == "running" and not lease_over(job) then return "kept" end
if job.state == "running" then return lose(job, tonumber(most_lost), record_ttl, reason) end
local over = overtaken(job, record_ttl)
if over then return over end
if reason == "deadline" then
  set_deadline(job)
  return "kept"
end
local due = tonumber(try("ZSCORE", key("delayed"), id) or nil)
if not due or due > now() then return "kept" end
redis.call("ZREM", key("delayed"), id)
if job.suspect then redis.call("HSET", job_key(id), "suspect", "had") end  -- no worker was ever empty: a last run with others
enter(job)
wake(job.lane)
return "let_in"
