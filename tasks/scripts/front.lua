-- Lets a job that waits go before all others of its tenant, in all lanes of its class. ARGV: prefix, id, tenant or ""
-- -> "moved" | "not_waiting" | "not_found"
local _, id, tenant = unpack(ARGV)
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job or (tenant ~= "" and job.tenant ~= tenant) then return "not_found" end
if not score(wait_key(job), id) then return "not_waiting" end

-- Before all priorities, and before those that were moved earlier.
local head = try("ZRANGE", wait_key(job), 0, 0, "WITHSCORES") or {}
try("ZADD", wait_key(job), math.min(-1e13 - now(), (tonumber(head[2]) or 0) - 1), id)

-- Its user before the tenant's others; what the job costs is charged to its user all the same.
local users, who, pool = key("turn", job.lane, job.tenant), member(job.user), pool_of(job.lane)
local least = 0
for _, lane in ipairs(try("SMEMBERS", key("waits", job.tenant)) or {}) do
  local first = class_of(lane) == class_of(job.lane)
    and try("ZRANGE", key("turn", lane, job.tenant), 0, 0, "WITHSCORES") or {}
  if first[2] and first[2] ~= NEVER then
    least = math.min(least, tonumber(first[2]) - clock_of(service(pool_of(lane), job.tenant)))
  end
end
if score(users, who) ~= NEVER then
  try("ZADD", users, "XX", clock_of(service(pool, job.tenant)) + least - 1, who)
end
return "moved"
