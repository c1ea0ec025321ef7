-- A worker takes a job: one that waits, or one that runs on a lease that is over. Everything else: the knock is dropped.
-- Asking again with the same token, when the answer was lost, is no fault.
-- ARGV: prefix, id, token, worker, lease in ms, most attempts without a word, seconds that the record is kept if it
-- ends here, and what the worker has by model (JSON: {"sdxl": [need, need ...]}; "": any model, and all that is needed)
-- -> {"claimed", model of the lane, request, warnings, claims, failures, queued at, started at} or {reason}
local _, id, token, worker, lease_ms, most_lost, record_ttl, has = unpack(ARGV)
local job, unreadable = load(id)
if not job then return {unreadable and "unreadable" or "missing"} end

-- Whether the worker serves the model and has all that the job needs.
local function is_served()
  local mine, there = cjson.decode(has)[model_of(job.lane)], {}
  if not mine then return false end
  for _, ability in ipairs(mine) do there[ability] = true end
  for _, need in ipairs(job.needs and cjson.decode(job.needs) or {}) do
    if not there[need] then return false end
  end
  return true
end

if has ~= "" and not is_served() then return {"not_served"} end

local function taken()
  local r = redis.call("HMGET", job_key(id), "request", "warnings", "claims", "failures", "queued", "started")
  return {"claimed", model_of(job.lane), unpack(r)}
end

if holds(job, token) then return taken() end
if job.state == "running" then
  if not lease_over(job) then return {"running"} end
elseif job.state ~= "queued" then
  return {job.state}
elseif try("ZSCORE", key("delayed"), id) then
  return {"delayed"}
end
local over = overtaken(job, record_ttl)
if over then return {over} end
if job.state == "running" and not survives_loss(job, tonumber(most_lost), record_ttl) then return {"failed"} end

local started = now()
redis.call("ZADD", key("leases"), started + lease_ms, id)  -- first: without a lease nothing is taken
local claims = redis.call("HINCRBY", job_key(id), "claims", 1)
redis.call("HSET", job_key(id), "token", token, "worker", worker, "started", started)
redis.call("HDEL", job_key(id), "progress")
try("ZREM", key("queued", job.lane), id)
move(job, "running")
set_deadline(job)
local high = tonumber(try("HGET", key("marks"), job.lane .. "/high") or "0") or 0
if tonumber(job.created) > high then try("HSET", key("marks"), job.lane .. "/high", job.created) end
emit(id, job.tenant, "job.started", cjson.encode({worker = worker, claim = claims}), true)
return taken()
