-- A worker takes a job. Asking again with the same token, when the answer was lost, is no fault: it has the job that this
-- token took, and no other.
-- ARGV: prefix, id or "", token, worker, lease in ms, most attempts without a word, seconds that the record is kept if
-- it ends here, what the worker has by model (JSON: {"sdxl": [need, need ...]}; "": any model, and all that is needed),
-- the lanes that it reads (JSON), or "" where it is to have just the job of this id; the share of the service that a
-- class of lanes has beside those before it
-- -> {"claimed", id, model of the lane, request, warnings, claims, failures, queued at, started at} or {reason, id}
local _, wanted, token, worker, lease_ms, most_lost, record_ttl, has, reads, share = unpack(ARGV)
lease_ms, share = tonumber(lease_ms), tonumber(share)
local lanes = reads ~= "" and cjson.decode(reads) or {}

local function taken(job)
  local r = redis.call("HMGET", job_key(job.id), "request", "warnings", "claims", "failures", "queued", "started")
  return {"claimed", job.id, model_of(job.lane), unpack(r)}
end

local before = try("GET", key("token", token))
if before then
  local job = load(before)
  return holds(job, token) and taken(job) or {"lost", before}
end

-- Whether the worker serves the model and has all that the job needs.
local function is_served(job)
  if has == "" then return true end
  local mine, there = cjson.decode(has)[model_of(job.lane)], {}
  if not mine then return false end
  for _, ability in ipairs(mine) do there[ability] = true end
  for _, need in ipairs(job.needs and cjson.decode(job.needs) or {}) do
    if not there[need] then return false end
  end
  return true
end

local function start(job)
  local started = now()
  redis.call("ZADD", key("leases"), started + lease_ms, job.id)  -- first: without a lease nothing is taken
  redis.call("SET", key("token", token), job.id, "PX", math.max(1, lease_ms))
  local claims = redis.call("HINCRBY", job_key(job.id), "claims", 1)
  redis.call("HSET", job_key(job.id), "token", token, "worker", worker, "started", started)
  redis.call("HDEL", job_key(job.id), "progress")
  leave(job)
  move(job, "running")
  set_deadline(job)
  emit(job.id, job.tenant, "job.started", cjson.encode({worker = worker, claim = claims}), true)
  return taken(job)
end

-- Just this one: one that waits, or one that runs on a lease that is over.
local function take(job)
  if not is_served(job) then return {"not_served", job.id} end
  if job.state == "running" then
    if not lease_over(job) then return {"running", job.id} end
  elseif job.state ~= "queued" then
    return {job.state, job.id}
  elseif try("ZSCORE", key("delayed"), job.id) then
    return {"delayed", job.id}
  end
  local over = overtaken(job, record_ttl)
  if over then return {over, job.id} end
  if job.state == "running" and not survives_loss(job, tonumber(most_lost), record_ttl) then return {"failed", job.id} end
  return start(job)
end

if reads == "" then
  local job, unreadable = load(wanted)
  if not job then return {unreadable and "unreadable" or "missing", wanted} end
  return take(job)
end

-- What a producer of before has put into its lane has no turn there yet.
if wanted ~= "" then
  local job = load(wanted)
  if job and job.state == "queued" and not try("ZSCORE", key("delayed"), wanted) and not score(wait_key(job), wanted) then
    enter(job)
  end
end

-- The models of the lanes, each once; and by lane who is first there: {tenant, how far ahead of the model's clock}.
local models, known, heads = {}, {}, {}

local function look(lane)
  local head = not is_paused("model", model_of(lane)) and try("ZRANGE", key("turn", lane), 0, 0, "WITHSCORES") or {}
  heads[lane] = head[2] and head[2] ~= NEVER
    and {tenant = head[1], ahead = tonumber(head[2]) - clock_of(service(model_of(lane)))} or nil
end

for _, lane in ipairs(lanes) do
  if not known[model_of(lane)] then table.insert(models, model_of(lane)) end
  known[model_of(lane)] = true
  look(lane)
end

-- Whether one is before the other: by the first pair of values that differ.
local function precedes(one, other)
  for i, value in ipairs(one) do
    if value ~= other[i] then return value < other[i] end
  end
  return false
end

-- The tenant whose turn it is in a class of lanes, and of its jobs there the one with the highest priority; models take
-- turns. nil where nobody may start one.
local function first_of(class)
  local tenant, least, dropped
  for _, lane in ipairs(lanes) do
    local head = class_of(lane) == class and heads[lane]
    if head and (not least or head.ahead < least) then tenant, least = head.tenant, head.ahead end
  end
  local best
  for _, lane in ipairs(tenant and lanes or {}) do
    local due = class_of(lane) == class and heads[lane] and score(key("turn", lane), tenant)
    local user = due and due ~= NEVER and try("ZRANGE", key("turn", lane, tenant), 0, 0, "WITHSCORES")
    local able = user and user[1] and user[2] ~= NEVER
    local job = able and try("ZRANGE", key("wait", lane, tenant, string.sub(user[1], 2)), 0, 0, "WITHSCORES")
    if job and job[1] then
      local rank, turn = tonumber(job[2]), tonumber(try("HGET", key("paces"), model_of(lane) .. "/turn") or nil) or 0
      local order = {math.floor(rank / 1e13), turn, rank}
      if not best or precedes(order, best.order) then
        best = {id = job[1], lane = lane, starts = {tonumber(due), tonumber(user[2])}, order = order, tenant = tenant,
                user = string.sub(user[1], 2)}
      end
    elseif due and due ~= NEVER then  -- a place that was left half-way, or a key of another type
      if able then try("ZREM", key("turn", lane, tenant), user[1]) end
      seat(lane, tenant, nil, limits_of(tenant))
      look(lane)
      dropped = true
    end
  end
  if not best and dropped then return first_of(class) end
  return best
end

local CLASSES = {"interactive", "bulk", "training"}

local function debt_of(class) return table.concat(models, " ") .. "/" .. class end

-- Interactive before bulk; but who comes behind is owed a share of what those before have, and is served once it covers
-- the job that waits.
local function choose()
  local first, owed = nil, {}
  for _, class in ipairs(CLASSES) do
    local found = first_of(class)
    if found and not first then
      first = found
    elseif found then
      local debt = tonumber(try("HGET", key("paces"), debt_of(class)) or nil) or 0
      local cost = tonumber(try("HGET", job_key(found.id), "cost") or nil) or 1
      if debt >= cost then
        try("HINCRBYFLOAT", key("paces"), debt_of(class), -cost)
        return found, {}
      end
      table.insert(owed, class)
    end
  end
  return first, owed
end

local MOST_STALE = 64  -- jobs that are found where they do not wait any more, until another knock is needed

for _ = 1, MOST_STALE do
  local found, owed = choose()
  if not found then return {"nothing", wanted} end
  local job = load(found.id)
  local belongs = job and job.state == "queued" and job.lane == found.lane and job.tenant == found.tenant
    and job.user == found.user
  if not belongs then
    leave({id = found.id, lane = found.lane, tenant = found.tenant, user = found.user})
  elseif not overtaken(job, record_ttl) then
    local limits = limits_of(job.tenant)
    local reply = start(job)
    charge(job, models, found.starts, limits)
    seat_out(job, limits)
    try("HSET", key("paces"), model_of(job.lane) .. "/turn", now())
    for _, class in ipairs(owed) do
      try("HINCRBYFLOAT", key("paces"), debt_of(class), job.cost * share / (1 - share))
    end
    for _, lane in ipairs(lanes) do wake(lane) end
    return reply
  end
  look(found.lane)
end
for _, lane in ipairs(lanes) do wake(lane) end
return {"nothing", wanted}
