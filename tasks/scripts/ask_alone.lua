-- A worker offers to drain for a job that has one last run, alone; it is that worker's for a while.
-- ARGV: prefix, worker, for how many ms, the lanes that it reads (JSON)  -> id, or "" where no job needs it
local _, worker, ms, reads = unpack(ARGV)
local MOST, lanes = 64, {}
for _, lane in ipairs(cjson.decode(reads)) do lanes[lane] = true end
for _, id in ipairs(try("ZRANGE", key("suspects"), 0, MOST - 1) or {}) do
  local job = load(id)
  if not job or not is_aside(job) then
    redis.call("ZREM", key("suspects"), id)
  elseif lanes[job.lane] and not is_paused("model", model_of(job.lane)) and tenant_may_start(job.tenant, limits_of(job.tenant))
      and redis.call("SET", key("alone", job.tenant), worker, "NX", "PX", ms) then
    return id
  end
end
return ""
