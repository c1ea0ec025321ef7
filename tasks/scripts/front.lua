-- Lets a job that waits go before all others of its tenant. ARGV: prefix, id, tenant or ""
-- -> "moved" | "not_waiting" | "not_found"
local _, id, tenant = unpack(ARGV)
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job or (tenant ~= "" and job.tenant ~= tenant) then return "not_found" end
if not score(wait_key(job), id) then return "not_waiting" end

-- Before who is first, whatever its score.
local function put_first(set, who)
  local head = try("ZRANGE", set, 0, 0, "WITHSCORES") or {}
  local kept = score(set, who)
  if head[1] ~= who and kept ~= NEVER and head[2] ~= NEVER then try("ZADD", set, tonumber(head[2]) - 1, who) end
end

put_first(wait_key(job), id)
put_first(key("turn", job.lane, job.tenant), member(job.user))
return "moved"
