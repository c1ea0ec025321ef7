-- Tenants of which something is set, and those that have jobs that wait or run, with how many.
-- ARGV: prefix, most of them  -> {name, limits (JSON) or "", "1" where paused or "", number that wait, that run} each
local most, names, found = tonumber(ARGV[2]), {}, {}

local function add(name)
  if not names[name] and #found < most then
    names[name] = true
    table.insert(found, {name, try("HGET", key("tenants"), name) or "", is_paused("tenant", name) and "1" or "",
                         try("ZCARD", key("index", "queued", name)) or 0, try("ZCARD", key("index", "running", name)) or 0})
  end
end

for _, name in ipairs(try("HKEYS", key("tenants")) or {}) do add(name) end
for _, name in ipairs(try("SMEMBERS", key("paused")) or {}) do
  local tenant = string.match(name, "^tenant:(.+)$")
  if tenant then add(tenant) end
end
for _, id in ipairs(try("ZRANGE", key("leases"), 0, most - 1) or {}) do
  local tenant = try("HGET", job_key(id), "tenant")
  if tenant then add(tenant) end
end
for _, lane in ipairs(try("SMEMBERS", key("lanes")) or {}) do
  for _, name in ipairs(try("ZRANGE", key("turn", lane), 0, most - 1) or {}) do add(name) end
end
return found
