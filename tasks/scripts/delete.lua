-- Forgets a job that has ended, or whose record cannot be read. ARGV: prefix, id  -> "deleted" | "active" | "not_found"
local id = ARGV[2]
local job, unreadable = load(id)
if not job and not unreadable then return "not_found" end
if job and (job.state == "queued" or job.state == "running") then return "active" end
if job and job.batch and try("HGET", key("batch_jobs", job.batch), job.custom_id or "") == id then
  redis.call("HDEL", key("batch_jobs", job.batch), job.custom_id)
  try("ZREM", key("batch_order", job.batch), job.custom_id)
  if try("HGET", key("batch", job.batch), "tenant") then redis.call("HINCRBY", key("batch", job.batch), "total", -1) end
  count_in_batch(job.batch, job.state, nil)
end
local places = {"dead", "unreadable"}
if job then
  table.insert(places, "index:" .. job.state)
  table.insert(places, "index:" .. job.state .. ":" .. job.tenant)
else  -- the janitor and the reconciler find the others
  for _, name in ipairs({"leases", "delayed", "deadlines"}) do table.insert(places, name) end
  for state in pairs(STATES) do table.insert(places, "index:" .. state) end
end
for _, name in ipairs(places) do try("ZREM", key(name), id) end
for _, part in ipairs(PARTS) do redis.call("DEL", key(part, id)) end
return "deleted"
