-- A slice of the walk over all keys: finds what records, indexes, leases and events disagree on, and mends it. A job is
-- looked at and mended in one go, so that nothing under way is taken for a fault.
-- ARGV: prefix, seconds that a record is kept, a set to walk over or "" for the keys, cursor, how many to look at
-- -> {next cursor, {sets that were met}, {id or key, repair, id or key, repair ...}}
local _, record_ttl, set, cursor, count = unpack(ARGV)
local GRACE_MS = 30 * 1000  -- in which a worker that lives renews the lease that was lost
local repairs, sets = {}, {}

local function mended(what, repair)
  table.insert(repairs, what)
  table.insert(repairs, repair)
end

-- What cannot be looked at keeps nobody from the others.
local function each_alone(what, check, ...)
  if not pcall(check, ...) then mended(what, "refused") end
end

-- Records

local function is_final(job) return job.state ~= "queued" and job.state ~= "running" end

-- Not there; where the key is of another type that is not known (nil).
local function lacks(name, id) return try("ZSCORE", key(name), id) == false end

local function check_indexes(job)
  local names = {"index:" .. job.state, "index:" .. job.state .. ":" .. job.tenant}
  if job.user ~= "" and not is_final(job) then table.insert(names, names[2] .. ":" .. job.user) end
  for _, name in ipairs(names) do
    if lacks(name, job.id) then
      redis.call("ZADD", key(name), job.created, job.id)
      mended(job.id, "index_missing")
    end
    if is_final(job) and redis.call("TTL", key(name)) < 0 then redis.call("EXPIRE", key(name), record_ttl) end
  end
end

local function check_queued(job)
  local delayed, placed = not lacks("delayed", job.id), not lacks("queued:" .. job.lane, job.id)
  local turn = "turn:" .. job.lane
  local waits = not lacks(table.concat({"wait", job.lane, job.tenant, job.user}, ":"), job.id)
    and not lacks(turn .. ":" .. job.tenant, member(job.user)) and not lacks(turn, job.tenant)
    and try("SISMEMBER", key("waits", job.tenant), job.lane) ~= 0
  if not delayed and not (placed and waits) then  -- the janitor knocks
    enter(job)
    mended(job.id, "place_missing")
  elseif delayed and placed then
    leave(job)
    mended(job.id, "place_stale")
  end
  if try("SADD", key("lanes"), job.lane) == 1 then mended(job.id, "lane_missing") end
end

local function check_running(job)
  if lacks("leases", job.id) then
    redis.call("ZADD", key("leases"), now() + GRACE_MS, job.id)
    mended(job.id, "lease_missing")
  end
end

-- A job that nobody heard of.
local function check_beginning(job)
  if redis.call("EXISTS", key("events", job.id)) == 1 then return end
  local v = redis.call("HMGET", job_key(job.id), "model", "kind")
  emit(job.id, job.tenant, "job.queued", cjson.encode({model = v[1] or "", kind = v[2] or "",
       lane = class_of(job.lane), reason = "submitted"}), true)
  if job.state == "running" then
    local data = cjson.encode({worker = job.worker, claim = tonumber(job.claims)})
    emit(job.id, job.tenant, "job.started", data, true)
  end
  mended(job.id, "event_missing")
end

local function check_unended(job)
  if redis.call("PERSIST", job_key(job.id)) == 1 then mended(job.id, "expiry_stale") end
  if (job.finish_by or waits_for_start(job)) and lacks("deadlines", job.id) then
    set_deadline(job)
    mended(job.id, "deadline_missing")
  end
  if job.state == "queued" then check_queued(job) else check_running(job) end
  check_beginning(job)
end

local function field_of(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
end

-- Whether its end is among these entries of a stream.
local function tells_end(entries, job)
  for _, entry in ipairs(entries or {}) do
    if field_of(entry, "type") == "job." .. job.state and field_of(entry, "job_id") == job.id then return true end
  end
  return false
end

-- The values of the fields of this pattern (role, index) as one JSON list: by index, those without one last; by role.
local function made(fields, pattern)
  local list = {}
  for i = 1, #fields, 2 do
    local role, index = string.match(fields[i], pattern)
    if role then table.insert(list, {tonumber(index) or math.huge, role, fields[i + 1]}) end
  end
  table.sort(list, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  for i, one in ipairs(list) do list[i] = one[3] end
  return "[" .. table.concat(list, ",") .. "]"
end

-- What the event of its end says (JSON), from the record.
local function ending_of(job)
  local error, result = unpack(redis.call("HMGET", job_key(job.id), "error", "result"))
  if job.state == "failed" then return error and '{"error":' .. error .. "}" or "{}" end
  if job.state == "expired" then
    return cjson.encode({deadline = job.claims == "0" and job.start_by and "start_by" or "finish_by"})
  end
  if job.state == "canceled" then return "{}" end
  local found, others = redis.call("HGETALL", job_key(job.id)), result and string.match(result, "^{(.+)}$")
  return "{" .. (others and others .. "," or "") .. '"images":' .. made(found, "^image/()(%d+)$")
    .. ',"files":' .. made(found, "^file/([%w_]+)/?(%d*)$") .. "}"
end

local function check_end(job)
  local stream = key("events", job.id)
  local newest = try("XREVRANGE", stream, "+", "-", "COUNT", 1)
  if not newest or tells_end(newest, job) then return end
  if tells_end(redis.call("XREVRANGE", stream, "+", "-", "COUNT", 32), job) then return end
  local ended = tonumber(redis.call("HGET", job_key(job.id), "ended") or nil)
  local at = string.format("%.0f", ended or 0)
  local told = ended and tells_end(try("XRANGE", key("feed"), at, string.format("%.0f", ended + 1000), "COUNT", 1000), job)
  if not ended then redis.call("HSET", job_key(job.id), "ended", now()) end
  emit(job.id, job.tenant, "job." .. job.state, ending_of(job), not told)
  mended(job.id, "ending_missing")
end

local function check_ended(job)
  check_end(job)
  local left = redis.call("TTL", job_key(job.id))
  if left < 0 then mended(job.id, "expiry_missing") end
  for _, part in ipairs(PARTS) do
    if redis.call("TTL", key(part, job.id)) == -1 then
      redis.call("EXPIRE", key(part, job.id), left < 0 and record_ttl or left)
    end
  end
end

local function check_record(id, job, unreadable)
  if unreadable and note_unreadable(id, record_ttl) then mended(id, "unreadable") end
  if not job then return end
  try("ZREM", key("unreadable"), id)
  check_indexes(job)
  if is_final(job) then check_ended(job) else check_unended(job) end
end

-- Sets: what their members must be, and what it is called where they are not.

-- Lane, tenant and user of whom these are the jobs that wait.
local function wait_of(name) return string.match(name, "^wait:([^:]+:[^:]+):([^:]*):(.*)$") end

local function demands_of(name)
  local state, tenant, user = string.match(name, "^index:(%a+):?([^:]*):?(.*)$")
  if state then
    return "index_stale", function(job)
      return job.state == state and (tenant == "" or job.tenant == tenant) and (user == "" or job.user == user)
    end
  end
  local place, whose, of = wait_of(name)
  if place then
    return "place_stale", function(job)
      return job.state == "queued" and job.lane == place and job.tenant == whose and job.user == of
    end
  end
  local lane = string.match(name, "^queued:(.+)$")
  if lane then return "place_stale", function(job) return job.state == "queued" and job.lane == lane end end
  local demands = {
    leases = {"lease_stale", function(job) return job.state == "running" end},
    delayed = {"retry_stale", function(job) return job.state == "queued" end},
    deadlines = {"deadline_stale", function(job) return not is_final(job) end},
    dead = {"dead_letter_stale", function(job) return job.state == "failed" end},
    unreadable = {"swept", function() return true end},
  }
  return unpack(demands[name] or {})
end

-- Records of ended jobs expire by themselves: their places are swept, and that is no fault.
local function is_swept(name)
  return name == "dead" or (string.match(name, "^index:") and not string.match(name, "^index:[qr]u"))
end

local function check_member(name, id, repair, belongs)
  local job, unreadable = load(id)
  if unreadable or (job and belongs(job)) then
    if name == "index:running" then check_record(id, job, unreadable) end  -- before the walk comes to its key
    return
  end
  redis.call("ZREM", key(name), id)
  local lane, tenant, user = wait_of(name)
  if lane then unseat(lane, tenant, user) end
  mended(id, not job and is_swept(name) and "swept" or repair)
end

local function turn_of(name) return string.match(name, "^turn:([^:]+:[^:]+):?(.*)$") end

-- The turn of a tenant, or of its user, who waits no more.
local function check_turn(name, who)
  local lane, tenant = turn_of(name)
  local waits = tenant == "" and key("turn", lane, who) or key("wait", lane, tenant, string.sub(who, 2))
  if redis.call("EXISTS", waits) == 1 then return end
  redis.call("ZREM", key(name), who)
  if tenant == "" then try("SREM", key("waits", who), lane) else seat(lane, tenant, nil, limits_of(tenant)) end
  mended(name, "turn_stale")
end

local function walk_set(name)
  local repair, belongs = demands_of(name)
  local page = try("ZSCAN", key(name), cursor, "COUNT", count)
  if not page then return "0" end
  for i = 1, #page[2], 2 do
    local one = page[2][i]
    if repair then
      each_alone(one, check_member, name, one, repair, belongs)
    elseif turn_of(name) then
      each_alone(name, check_turn, name, one)
    end
  end
  return page[1]
end

-- Keys

local function check_part(name, part, id)
  if redis.call("EXISTS", job_key(id)) == 1 or redis.call("TTL", P .. name) ~= -1 then return end
  redis.call("EXPIRE", P .. name, record_ttl)
  mended(id, part .. "_stale")
end

local function check_idempotency(name)
  local id = string.match(try("GET", P .. name) or "", "^%S+")
  if id and redis.call("EXISTS", job_key(id)) == 0 then
    redis.call("DEL", P .. name)
    mended(name, "swept")
  end
end

-- Lanes in which the tenant has no turn.
local function check_waits(name)
  local tenant = string.sub(name, #"waits:" + 1)
  for _, lane in ipairs(try("SMEMBERS", P .. name) or {}) do
    if redis.call("EXISTS", key("turn", lane, tenant)) == 0 then
      redis.call("SREM", P .. name, lane)
      mended(name, "turn_stale")
    end
  end
end

local MOST_COUNTED = 2000  -- jobs of a batch that are counted in one go; larger ones are left as they are

-- A batch that has not ended, whose counts are not those of its jobs.
local function check_batch(id)
  local batch, order = load_batch(id), try("ZCARD", key("batch_order", id)) or 0
  if not batch or batch.ended or order > MOST_COUNTED then return end
  local found, total, wrong = {}, 0, false
  for _, job in ipairs(try("HVALS", key("batch_jobs", id)) or {}) do
    local state = try("HGET", job_key(job), "state") or ""
    if STATES[state] then found[state], total = (found[state] or 0) + 1, total + 1 end
  end
  for _, state in ipairs(BATCH_STATES) do
    if batch.counts[state] ~= (found[state] or 0) then
      redis.call("HSET", key("batch", id), "n/" .. state, found[state] or 0)
      wrong = true
    end
  end
  if tonumber(batch.total) ~= total then
    redis.call("HSET", key("batch", id), "total", total)
    wrong = true
  end
  if wrong then mended("batch:" .. id, "count_wrong") end
  end_batch(id, record_ttl)
end

local function check_key(name)
  local kind, id = string.match(name, "^(%a+):([%w-]+)$")
  if kind == "job" then
    check_record(id, load(id))
  elseif kind == "batch" then
    check_batch(id)
  elseif kind == "events" or kind == "steps" or kind == "preview" or kind == "attempts"
    or kind == "watched" then
    check_part(name, kind, id)
  elseif string.match(name, "^idempotency:") then
    check_idempotency(name)
  elseif string.match(name, "^waits:") then
    check_waits(name)
  elseif demands_of(name) or turn_of(name) then
    table.insert(sets, name)
  end
end

local function walk_keys()
  local pattern = string.gsub(P, "[%*%?%[%]%^\\]", "\\%0") .. "*"
  local page = redis.call("SCAN", cursor, "MATCH", pattern, "COUNT", count)
  for _, found in ipairs(page[2]) do
    local name = string.sub(found, #P + 1)
    each_alone(name, check_key, name)
  end
  return page[1]
end

local following = set == "" and walk_keys() or walk_set(set)
return {following, sets, repairs}
