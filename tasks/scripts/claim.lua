-- A worker takes a job. Asking again with the same token, when the answer was lost, is no fault: it has the job that this
-- token took, and no other.
-- ARGV: prefix, id or "", token, worker, lease in ms, most attempts without a word, seconds that the record is kept if
-- it ends here, what the worker has by model (JSON: {"sdxl": [need, need ...]}; "": any model, and all that is needed),
-- the lanes that it reads (JSON), or "" where it is to have just the job of this id; the share of the service that a
-- class of lanes has beside those before it
-- -> {"claimed", id, model of the lane, request, warnings, claims, failures, queued at, started at, 1 where somebody
-- watches it} or {reason, id}
local _, wanted, token, worker, lease_ms, most_lost, record_ttl, has, reads, share = unpack(ARGV)
lease_ms, share = tonumber(lease_ms), tonumber(share)
local lanes = reads ~= "" and cjson.decode(reads) or {}

local function taken(job)
  local r = redis.call("HMGET", job_key(job.id), "request", "warnings", "claims", "failures", "queued", "started")
  local watched = redis.call("EXISTS", key("watched", job.id))
  return {"claimed", job.id, model_of(job.lane), r[1], r[2], r[3], r[4], r[5], r[6], watched}
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
  elseif try("ZSCORE", key("delayed"), job.id) and not (is_aside(job) and try("GET", key("alone", job.tenant)) == worker) then
    return {"delayed", job.id}
  end
  local over = overtaken(job, record_ttl)
  if over then return {over, job.id} end
  if job.state == "running" and not survives_loss(job, tonumber(most_lost), record_ttl) then return {"failed", job.id} end
  if job.suspect == "waits" then
    if job.state == "running" then
      queue_again(job, 0, {reason = "lease_expired"})
      return {"delayed", job.id}
    end
    for _, set in ipairs({"delayed", "suspects"}) do try("ZREM", key(set), job.id) end
    redis.call("HSET", job_key(job.id), "suspect", "had")
  end
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

local CLASSES = {"interactive", "bulk", "training"}

-- By class the lanes in which something may start, and the pools whose clocks go on with it.
local open, pools, models, known = {}, {}, {}, {}
for _, class in ipairs(CLASSES) do open[class], pools[class] = {}, {} end
for _, lane in ipairs(lanes) do
  local class, model, pool = class_of(lane), model_of(lane), pool_of(lane)
  if not is_paused("model", model) then table.insert(open[class], lane) end
  if not known[pool] then table.insert(pools[class], pool) end
  if not known[model] then table.insert(models, model) end
  known[pool], known[model] = true, true
end
table.sort(models)  -- lanes come in any order

local function noted(pool) return table.concat(models, " ") .. "/=" .. pool end

-- When the first who waits in a pool is due.
local function least_due(class, pool)
  local least
  for _, lane in ipairs(open[class]) do
    local range = {key("turn", lane), "-inf", "(" .. NEVER, "WITHSCORES", "LIMIT", 0, 1}
    local head = pool_of(lane) == pool and try("ZRANGEBYSCORE", unpack(range)) or {}
    local due = tonumber(head[2])
    if due and (not least or due < least) then least = due end
  end
  return least
end

-- Other workers, of fewer models, move the clocks of these alone: who waits for another model would not come nearer, and
-- hardly be served here. So all clocks go on by as much as the furthest did since the last start of a worker of these
-- models; but hardly past who waits, or who comes anew would wait until those who fell behind have caught up.
local function catch_up(class)
  local gone, most = {}, 0
  for i, pool in ipairs(pools[class]) do
    local clock = clock_of(service(pool))
    gone[i] = clock - (tonumber(try("HGET", key("paces"), noted(pool)) or nil) or clock)
    most = math.max(most, gone[i])
  end
  for i, pool in ipairs(pools[class]) do
    if gone[i] < most then
      local set, least = service(pool), least_due(class, pool) or math.huge
      local clock = clock_of(set)
      try("ZADD", set, math.max(clock, math.min(clock + most - gone[i], least + NEWCOMER / 2)), CLOCK)
      try("EXPIRE", set, SERVICE_SECONDS)
    end
  end
end

local function note_clocks(class)
  for _, pool in ipairs(#pools[class] > 1 and pools[class] or {}) do
    try("HSET", key("paces"), noted(pool), string.format("%.17g", clock_of(service(pool))))
  end
end

for _, class in ipairs(CLASSES) do
  if #pools[class] > 1 then catch_up(class) end
end

-- Who is due first in these lanes, and how far ahead of its pool's clock: a tenant, or of one tenant a user. `beyond`: of
-- those who are due later than a newcomer.
local function first_in(class, tenant, beyond)
  local first, least
  for _, lane in ipairs(open[class]) do
    local turns, clock = tenant and key("turn", lane, tenant) or key("turn", lane), clock_of(service(pool_of(lane), tenant))
    local from = beyond and "(" .. string.format("%.17g", clock) or "-inf"
    local head = try("ZRANGEBYSCORE", turns, from, "(" .. NEVER, "WITHSCORES", "LIMIT", 0, 1) or {}
    local ahead = head[2] and tonumber(head[2]) - clock
    if ahead and (not least or ahead < least) then first, least = head[1], ahead end
  end
  return first, least
end

-- Whether one is before the other: by the first pair of values that differ.
local function precedes(one, other)
  for i, value in ipairs(one) do
    if value ~= other[i] then return value < other[i] end
  end
  return false
end

-- The job of a user that goes before its others: by priority; its models take turns; then by submission.
local function best_of(class, tenant, who)
  local best
  for _, lane in ipairs(open[class]) do
    local due = score(key("turn", lane, tenant), who)
    local waiting = key("wait", lane, tenant, string.sub(who, 2))
    local head = due and due ~= NEVER and (try("ZRANGE", waiting, 0, 0, "WITHSCORES") or {})
    if head and head[1] then
      local rank = tonumber(head[2])
      local turn = tonumber(score(service(pool_of(lane), tenant), newest_of(who))) or 0
      local order = {math.floor(rank / 1e13), turn, rank}
      if not best or precedes(order, best.order) then
        best = {id = head[1], lane = lane, order = order, user = string.sub(who, 2), turns = {}}
      end
    elseif head then  -- a place that was left half-way
      try("ZREM", key("turn", lane, tenant), who)
      seat(lane, tenant, nil, limits_of(tenant))
    end
  end
  return best
end

local MOST_NEW = 4  -- times what its job costs, that newcomers have before who has been served before

-- The job of who is due, as `job_of` finds it. Newcomers go before all others: were there no end to them these would never
-- be served, so now and then one of them is, out of turn.
local function in_turn(class, tenant, level, job_of)
  local who, ahead = first_in(class, tenant)
  if not who then return nil end
  local other, beyond
  if ahead <= 0 then other, beyond = first_in(class, tenant, true) end
  if other then
    local found = job_of(other)
    local new = found and tonumber(score(service(pool_of(found.lane), tenant), NEW))
    if new and new >= MOST_NEW * cost_of(found.id) then
      found.turns[level] = {ahead = beyond, out = true}
      return found
    end
  end
  local found = job_of(who)
  if found then found.turns[level] = {ahead = ahead, others = other ~= nil} end
  return found
end

local function job_of_tenant(class, tenant)
  local found = in_turn(class, tenant, 2, function(who) return best_of(class, tenant, who) end)
  if found then found.tenant = tenant end
  return found
end

local MOST_LEFT = 64  -- places, left half-way, at a time

-- The job whose turn it is in a class of lanes: of the tenant that is due, and of its user. nil where none may start.
local function first_of(class)
  for _ = 1, MOST_LEFT do
    local found = in_turn(class, nil, 1, function(tenant) return job_of_tenant(class, tenant) end)
    if found then return found end
    local tenant = first_in(class)
    if not tenant then return nil end
    for _, lane in ipairs(open[class]) do
      if score(key("turn", lane), tenant) then seat(lane, tenant, nil, limits_of(tenant)) end
    end
  end
end

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
      local cost = cost_of(found.id)
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
    charge(job, pools[class_of(job.lane)], found.turns, limits)
    note_clocks(class_of(job.lane))
    seat_out(job, limits)
    for _, class in ipairs(owed) do
      try("HINCRBYFLOAT", key("paces"), debt_of(class), job.cost * share / (1 - share))
    end
    for _, lane in ipairs(lanes) do wake(lane) end
    return reply
  end
end
for _, lane in ipairs(lanes) do wake(lane) end
return {"nothing", wanted}
