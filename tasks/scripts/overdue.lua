-- What the janitor must look at. A lost message is known by this: its lane's list is empty, or a job submitted later
-- in the same lane was claimed over `patience` ago.
-- ARGV: prefix, patience in ms, most ids to return  -> {id, lane, reason, id, lane, reason ...}
local patience, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local at, found = now(), {}
local function add(set, ids, lane, reason)
  for _, id in ipairs(ids) do
    if string.match(id, "^[%w-]+$") then
      table.insert(found, id)
      table.insert(found, lane or redis.call("HGET", job_key(id), "lane") or "")
      table.insert(found, reason)
    else  -- somebody else's: it would come back in every round, and not all bytes are text
      redis.call("ZREM", set, id)
    end
  end
end

for name, reason in pairs({leases = "lease_expired", delayed = "retry", deadlines = "deadline"}) do
  add(key(name), redis.call("ZRANGEBYSCORE", key(name), "-inf", at, "LIMIT", 0, most), nil, reason)
end
for _, lane in ipairs(redis.call("SMEMBERS", key("lanes"))) do
  local queued = key("queued", lane)
  -- pcall: a key of another type in a lane's place must not keep the other lanes from being looked after
  if redis.call("ZCARD", queued) > 0 and redis.pcall("LLEN", key("queue", lane)) == 0 then
    add(queued, redis.call("ZRANGE", queued, 0, most - 1), lane, "message_lost")
  else
    local marks = redis.call("HMGET", key("marks"), lane .. "/high", lane .. "/seen", lane .. "/at")
    if marks[1] and at - tonumber(marks[3] or "0") > patience then
      if marks[2] then
        add(queued, redis.call("ZRANGEBYSCORE", queued, "-inf", "(" .. marks[2], "LIMIT", 0, most), lane, "message_lost")
      end
      redis.call("HSET", key("marks"), lane .. "/seen", marks[1], lane .. "/at", at)
    end
  end
end
return found
