-- What goes before a job, about: with even turns, and none of those that come later. ARGV: prefix, id
-- -> {state or "", jobs or -1, milliseconds or -1 where nobody knows}
local id = ARGV[2]
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job then return {"", -1, -1} end
local rank = try("ZRANK", wait_key(job), id)
if not rank then return {job.state, -1, -1} end

local MOST_LOOKED_AT = 100  -- tenants, users, or jobs that run

local function waiting(lane, tenant, user) return try("ZCARD", key("wait", lane, tenant, user)) or 0 end

-- Those of the tenant's other users that come before the job: as many of each as of its own.
local own = rank
for _, name in ipairs(try("ZRANGE", key("turn", job.lane, job.tenant), 0, MOST_LOOKED_AT - 1) or {}) do
  local user = string.sub(name, 2)
  if user ~= job.user then own = own + math.min(rank + 1, waiting(job.lane, job.tenant, user)) end
end

local function all_of(lane, tenant, most)
  local found = 0
  for _, name in ipairs(try("ZRANGE", key("turn", lane, tenant), 0, MOST_LOOKED_AT - 1) or {}) do
    found = found + waiting(lane, tenant, string.sub(name, 2))
    if found >= most then return most end
  end
  return found
end

-- Those of other tenants, by their weights; the lanes of a class take turns, and interactive ones go before all bulk.
local class, weight, before = class_of(job.lane), weight_of(limits_of(job.tenant)), own
for _, lane in ipairs(try("SMEMBERS", key("lanes")) or {}) do
  local theirs = is_lane(lane) and model_of(lane) == model_of(job.lane) and class_of(lane)
  if theirs == class then
    for _, tenant in ipairs(try("ZRANGE", key("turn", lane), 0, MOST_LOOKED_AT - 1) or {}) do
      local most = tenant ~= job.tenant and math.ceil((own + 1) * weight_of(limits_of(tenant)) / weight)
      if most then before = before + all_of(lane, tenant, most) end
    end
    if lane ~= job.lane then before = before + all_of(lane, job.tenant, own) end
  elseif theirs == "interactive" then
    before = before + (try("ZCARD", key("queued", lane)) or 0)
  end
end

-- As if all cost what the first ones of the lane do, and as many ran at a time as do now.
local cost, looked_at, at_a_time = 0, 0, 0
for _, other in ipairs(try("ZRANGE", key("queued", job.lane), 0, 9) or {}) do
  cost, looked_at = cost + cost_of(other), looked_at + 1
end
for _, other in ipairs(try("ZRANGE", key("leases"), 0, MOST_LOOKED_AT - 1) or {}) do
  local lane = try("HGET", job_key(other), "lane")
  if lane and is_lane(lane) and model_of(lane) == model_of(job.lane) then at_a_time = at_a_time + 1 end
end
local pace = tonumber(try("HGET", key("paces"), model_of(job.lane)) or nil)
local mean = looked_at > 0 and cost / looked_at or job.cost
return {job.state, before, pace and math.ceil(before * mean * pace / math.max(1, at_a_time)) or -1}
