-- What the janitor must look at. Lanes in which a job may start and no knock lies are knocked at here.
-- ARGV: prefix, most ids to return  -> {id, lane, reason, id, lane, reason ...}
local most = tonumber(ARGV[2])
local at, found = now(), {}

local function lane_of(id)
  local lane = try("HGET", job_key(id), "lane")
  return lane and is_lane(lane) and lane or ""
end

local function add(set, ids, lane, reason)
  for _, id in ipairs(ids or {}) do
    if string.match(id, "^[%w-]+$") then
      table.insert(found, id)
      table.insert(found, lane or lane_of(id))
      table.insert(found, reason)
    else  -- somebody else's: it would come back in every round, and not all bytes are text
      redis.call("ZREM", set, id)
    end
  end
end

for name, reason in pairs({leases = "lease_expired", delayed = "retry", deadlines = "deadline"}) do
  add(key(name), try("ZRANGEBYSCORE", key(name), "-inf", at, "LIMIT", 0, most), nil, reason)
end

local MOST_SEATED, ROUND_MS = 20, 2000

-- Some of those that have no turn; others in the next round.
local function seatless(set)
  local count = try("ZCOUNT", set, NEVER, NEVER) or 0
  if count == 0 then return {} end
  local from = math.floor(at / ROUND_MS) * MOST_SEATED % count
  return try("ZRANGEBYSCORE", set, NEVER, NEVER, "LIMIT", from, MOST_SEATED) or {}
end

-- A limit that nobody is at any more: its job ended with a worker of before, or by hand.
local function look_at(lane)
  for _, tenant in ipairs(seatless(key("turn", lane))) do
    local limits = limits_of(tenant)
    for _, user in ipairs(seatless(key("turn", lane, tenant))) do seat(lane, tenant, string.sub(user, 2), limits) end
    seat(lane, tenant, nil, limits)
  end
  if try("LLEN", key("queue", lane)) == 0 then wake(lane) end
end

-- Whether a job of the lane runs, or waits for its next try: it may come back into it.
local function in_use(lane)
  for _, set in ipairs({"leases", "delayed"}) do
    for _, id in ipairs(try("ZRANGE", key(set), 0, -1) or {}) do
      if lane_of(id) == lane then return true end
    end
  end
end

local IDLE_MS = 3600 * 1000

-- Lanes with needs are as many as there are sets of needs: those that nobody uses any more are forgotten.
local function tidy(lane)
  if (try("ZCARD", key("queued", lane)) or 1) > 0 or (try("LLEN", key("queue", lane)) or 1) > 0 then
    return try("HDEL", key("marks"), lane .. "/idle")
  end
  try("HSETNX", key("marks"), lane .. "/idle", at)
  local since = tonumber(try("HGET", key("marks"), lane .. "/idle")) or at
  if at - since < IDLE_MS or in_use(lane) then return end
  redis.call("SREM", key("lanes"), lane)
  try("HDEL", key("marks"), lane .. "/idle")
end

for _, lane in ipairs(try("SMEMBERS", key("lanes")) or {}) do
  if is_lane(lane) and has_needs(lane) then tidy(lane) end
  if is_lane(lane) then look_at(lane) else redis.call("SREM", key("lanes"), lane) end
end
return found
