-- Sets what a tenant may, or pauses or resumes a tenant or a model; who may start a job by that gets a knock.
-- ARGV: prefix, "tenant" or "model", its name, what is set of the tenant (JSON; "" takes it back), "pause", "resume" or ""
local _, what, name, limits, wish = unpack(ARGV)

if wish == "pause" then redis.call("SADD", key("paused"), what .. ":" .. name) end
if wish == "resume" then redis.call("SREM", key("paused"), what .. ":" .. name) end
if wish == "" and limits == "" then redis.call("HDEL", key("tenants"), name) end
if wish == "" and limits ~= "" then redis.call("HSET", key("tenants"), name, limits) end

local MOST_USERS = 1000

if what == "model" then
  for _, lane in ipairs(try("SMEMBERS", key("lanes")) or {}) do
    if is_lane(lane) and model_of(lane) == name then wake(lane) end
  end
  return
end
local found = limits_of(name)
for _, lane in ipairs(try("SMEMBERS", key("waits", name)) or {}) do
  for _, user in ipairs(try("ZRANGE", key("turn", lane, name), 0, MOST_USERS - 1) or {}) do
    seat(lane, name, string.sub(user, 2), found)
  end
  wake(lane)
end
