-- What the janitor must look at. A lost message is known by this: its lane's list is empty, or a job submitted later
-- in the same lane was claimed over `patience` ago.
-- ARGV: prefix, patience in ms, most ids to return  -> {id, lane, reason, id, lane, reason ...}
local patience, most = tonumber(ARGV[2]), tonumber(ARGV[3])
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

local function look_at(lane)
  local queued = key("queued", lane)
  if (try("ZCARD", queued) or 0) > 0 and try("LLEN", key("queue", lane)) == 0 then
    return add(queued, redis.call("ZRANGE", queued, 0, most - 1), lane, "message_lost")
  end
  local marks = try("HMGET", key("marks"), lane .. "/high", lane .. "/seen", lane .. "/at") or {}
  local high, seen, looked = tonumber(marks[1]), tonumber(marks[2]), tonumber(marks[3])
  if high and at - (looked or 0) > patience then
    if seen then
      add(queued, try("ZRANGEBYSCORE", queued, "-inf", "(" .. marks[2], "LIMIT", 0, most), lane, "message_lost")
    end
    redis.call("HSET", key("marks"), lane .. "/seen", marks[1], lane .. "/at", at)
  end
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
  for _, mark in ipairs({"/high", "/seen", "/at", "/idle"}) do try("HDEL", key("marks"), lane .. mark) end
end

for _, lane in ipairs(try("SMEMBERS", key("lanes")) or {}) do
  if is_lane(lane) and has_needs(lane) then tidy(lane) end
  if is_lane(lane) then look_at(lane) else redis.call("SREM", key("lanes"), lane) end
end
return found
