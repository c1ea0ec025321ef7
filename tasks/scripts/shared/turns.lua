-- Whose job starts next: weighted fair queueing on cost between the tenants that wait in a lane, likewise between the
-- users of a tenant, and of one user's jobs by priority, then by submission.
--
-- Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996): who starts a job of cost c may start the next one c / weight
-- of virtual time later. The clock is the time of the newest start, and who comes, or comes again, begins there at the
-- earliest: idling earns nothing. Who may start nothing at the moment has no turn (a time of +inf).

local CLOCK = "=clock"       -- a member that is nobody's name
local NEWCOMER = 1e-3        -- of virtual time, by which who begins at the clock goes before who has begun there already
local TICK = 1e-6            -- by which the clock goes on with each of them
local NEW = "=new"           -- a member: what newcomers have had while others who have been served before waited
local NEVER = "inf"          -- as Redis writes it
local SERVICE_SECONDS = 30 * 24 * 3600
local NEWEST_MS = 3600 * 1000
local KNOCKS = 16            -- that lie in a lane's list where many may start

-- Who shares a worker's time: the lanes of a model, by class. What waits behind other classes for a while would else be
-- far behind the time of the rest, and who comes anew would wait until it had caught up.
local function pool_of(lane) return model_of(lane) .. ":" .. class_of(lane) end

local function service(pool, tenant) return tenant and key("service", pool, tenant) or key("service", pool) end
local function wait_key(job) return key("wait", job.lane, job.tenant, job.user) end
local function member(user) return "u" .. user end
local function newest_of(who) return "=" .. who end  -- beside a user: when its newest job of the pool was started, in ms

local function score(set, one) return try("ZSCORE", set, one) or nil end

local function clock_of(set) return tonumber(score(set, CLOCK)) or 0 end

-- Of a job that waits; producers of before say nothing of it.
local function cost_of(id) return tonumber(try("HGET", job_key(id), "cost") or nil) or 1 end

-- When somebody who comes now may start. Newcomers go in the order in which they came.
local function start_of(set, who)
  local clock, own = clock_of(set), tonumber(score(set, who))
  if own and own > clock then return own end
  try("ZADD", set, "XX", "INCR", TICK, CLOCK)
  return clock - NEWCOMER
end

-- What an operator has set of a tenant: weight, max_running, max_queued, user_max_running, user_max_queued.
local function limits_of(tenant)
  local kept = try("HGET", key("tenants"), tenant)
  local read, found = pcall(cjson.decode, kept or "{}")
  return read and type(found) == "table" and found or {}
end

local function is_paused(what, name) return try("SISMEMBER", key("paused"), what .. ":" .. name) == 1 end

local function tenant_may_start(tenant, limits)
  local most = tonumber(limits.max_running)
  return not is_paused("tenant", tenant) and not (most and (try("ZCARD", key("index", "running", tenant)) or 0) >= most)
end

local function user_may_start(tenant, user, limits)
  local most = user ~= "" and tonumber(limits.user_max_running)
  return not (most and (try("ZCARD", key("index", "running", tenant, user)) or 0) >= most)
end

-- Gives a tenant that waits in a lane its turn, or takes it away; of `user` too, where one is named.
local function seat(lane, tenant, user, limits)
  local pool, users, tenants = pool_of(lane), key("turn", lane, tenant), key("turn", lane)
  if user then
    local kept = score(users, member(user))
    local able = user_may_start(tenant, user, limits)
    if not able then
      try("ZADD", users, NEVER, member(user))
    elseif not kept or kept == NEVER then
      try("ZADD", users, start_of(service(pool, tenant), member(user)), member(user))
    end
  end
  local head = try("ZRANGE", users, 0, 0, "WITHSCORES") or {}
  if not head[1] then
    try("ZREM", tenants, tenant)
    try("SREM", key("waits", tenant), lane)
    return
  end
  local kept = score(tenants, tenant)
  if head[2] == NEVER or not tenant_may_start(tenant, limits) then
    try("ZADD", tenants, NEVER, tenant)
  elseif not kept or kept == NEVER then
    try("ZADD", tenants, start_of(service(pool), tenant), tenant)
  end
end

-- Whether somebody may start a job of the lane now.
local function is_open(lane)
  local head = try("ZRANGE", key("turn", lane), 0, 0, "WITHSCORES") or {}
  return head[2] and head[2] ~= NEVER and not is_paused("model", model_of(lane))
end

local function knock(lane) push(lane, (string.gsub(KNOCK, "<(%a+)>", {lane = lane, tag = next_event_id(now())}))) end

-- Knocks where a job may start and few knocks lie: whoever takes one does so again while there are more.
local function wake(lane)
  if not is_open(lane) then return end
  local lying = try("LLEN", key("queue", lane))
  if not lying or lying >= KNOCKS then return end
  knock(lane)
  if lying == 0 and (try("ZCARD", key("queued", lane)) or 0) > 1 then knock(lane) end
end

-- Lowest first: priority 5 before 4, then by submission; milliseconds of a date have 13 digits.
local function rank_of(job) return (5 - job.priority) * 1e13 + tonumber(job.created) end

-- Into its lane.
local function enter(job)
  try("ZADD", key("queued", job.lane), job.created, job.id)
  try("ZADD", wait_key(job), rank_of(job), job.id)
  try("SADD", key("waits", job.tenant), job.lane)
  try("SADD", key("lanes"), job.lane)
  seat(job.lane, job.tenant, job.user, limits_of(job.tenant))
end

-- Takes the turn of a user of whom no job waits in the lane.
local function unseat(lane, tenant, user)
  if redis.call("EXISTS", key("wait", lane, tenant, user)) == 1 then return end
  if try("ZREM", key("turn", lane, tenant), member(user)) == 1 then seat(lane, tenant, nil, limits_of(tenant)) end
end

-- Out of its lane.
local function leave(job)
  try("ZREM", key("queued", job.lane), job.id)
  try("ZREM", wait_key(job), job.id)
  unseat(job.lane, job.tenant, job.user)
end

-- A job of the tenant ended, or its limits were changed: what may start by that gets its turn, and a knock.
local function seat_again(tenant, user)
  local limits
  for _, lane in ipairs(try("SMEMBERS", key("waits", tenant)) or {}) do
    local own = user and score(key("turn", lane, tenant), member(user))
    if own == NEVER or score(key("turn", lane), tenant) == NEVER then
      limits = limits or limits_of(tenant)
      seat(lane, tenant, own and user, limits)
      wake(lane)
    end
  end
end

-- After a start: those who have reached a limit have no turn until one of their jobs ends.
local function seat_out(job, limits)
  local full = not tenant_may_start(job.tenant, limits)
  local user_full = not user_may_start(job.tenant, job.user, limits)
  if not full and not user_full then return end
  for _, lane in ipairs(try("SMEMBERS", key("waits", job.tenant)) or {}) do
    if user_full then try("ZADD", key("turn", lane, job.tenant), "XX", NEVER, member(job.user)) end
    seat(lane, job.tenant, nil, limits)
  end
end

-- Moves the next start of who is served, for all pools that share a worker: so one who has jobs for two models gets no
-- more than one who has jobs for one. The clocks of all go on alike, else who waits in one of them would not come nearer.
-- `turn.ahead` of the clock of the pool that serves its start was due; `out` of turn, it leaves the clocks as they are;
-- `others`, who have been served before, wait.
local function advance(who, tenant, pools, own, turn, due, cost)
  for _, pool in ipairs(pools) do
    local set = service(pool, tenant)
    local clock = clock_of(set)
    local time = turn.out and clock or clock + math.max(turn.ahead, 0)
    local from = math.max(pool == own and clock + turn.ahead or time, tonumber(score(set, who)) or -math.huge)
    try("ZADD", set, from + due, who, time, CLOCK)
    if time > clock then try("ZREMRANGEBYSCORE", set, "-inf", "(" .. string.format("%.17g", time)) end
    if turn.ahead > 0 then try("ZREM", set, NEW) elseif turn.others then try("ZINCRBY", set, cost, NEW) end
    try("EXPIRE", set, SERVICE_SECONDS)
  end
end

-- The time of who waits with a turn becomes that of the served set.
local function retime(turns, set, who)
  local kept = score(turns, who)
  local time = kept and kept ~= NEVER and score(set, who)
  if time then try("ZADD", turns, time, who) end
end

local function reseat(job)
  for _, lane in ipairs(try("SMEMBERS", key("waits", job.tenant)) or {}) do
    local pool = pool_of(lane)
    retime(key("turn", lane), service(pool), job.tenant)
    retime(key("turn", lane, job.tenant), service(pool, job.tenant), member(job.user))
  end
end

local function weight_of(limits)
  local weight = tonumber(limits.weight)
  return weight and weight > 0 and weight or 1
end

-- The job starts: its cost is charged. `turns`: that of its tenant, and that of its user.
local function charge(job, pools, turns, limits)
  local own = pool_of(job.lane)
  advance(job.tenant, nil, pools, own, turns[1], job.cost / weight_of(limits), job.cost)
  advance(member(job.user), job.tenant, pools, own, turns[2], job.cost, job.cost)
  local set, at = service(own, job.tenant), now()
  try("ZADD", set, at, newest_of(member(job.user)))
  try("ZREMRANGEBYSCORE", set, at / 2, at - NEWEST_MS)
  redis.call("HSET", job_key(job.id), "charged", table.concat(pools, " "))
  reseat(job)
end

local MOST_TAKEN = 4  -- times its cost, at which what a job really took is cut off

-- The attempt is over: what was charged becomes what it took, by the time that a cost of one takes with this model.
local function settle(job, well)
  local took, model = now() - (tonumber(job.started) or now()), model_of(job.lane)
  local pace = tonumber(try("HGET", key("paces"), model) or nil)
  if well then try("HSET", key("paces"), model, pace and 0.9 * pace + 0.1 * took / job.cost or took / job.cost) end
  if not job.charged or not pace or pace <= 0 then return end
  local apart = math.min(took / pace, MOST_TAKEN * job.cost) - job.cost
  local weight = weight_of(limits_of(job.tenant))
  for charged in string.gmatch(job.charged, "%S+") do
    try("ZADD", service(charged), "XX", "INCR", apart / weight, job.tenant)
    try("ZADD", service(charged, job.tenant), "XX", "INCR", apart, member(job.user))
  end
  redis.call("HDEL", job_key(job.id), "charged")
  reseat(job)
end

-- The attempt of a job that has left its worker is over.
local function let_others(job, well)
  settle(job, well)
  seat_again(job.tenant, job.user)
end
