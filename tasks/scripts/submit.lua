-- Record, index, event and message of a new job, all or nothing: what cannot be written to its end is taken back. Safe to
-- repeat under the same id.
-- ARGV: prefix, id, tenant, model, lane (its whole name), kind, request, digest, warnings, idempotency key or "", its
-- seconds, message, start_by and finish_by in ms or "", most jobs that may wait in the lane, seconds within which every job
-- ends, needs (JSON) or "", cost, priority, user or ""
-- -> {"queued" | "repeated" | "conflict", id, request, warnings}, {"full", number that wait}, or {"quota", "tenant" or
-- "user", number that wait, most that may, milliseconds after which to try again}
local _, id, tenant, model, queue, kind, request, digest, warnings, idem, idem_ttl, message, start_by, finish_by, most,
  job_ttl, needs, cost, priority, user = unpack(ARGV)

local function existing(other)
  local r = redis.call("HMGET", job_key(other), "digest", "request", "warnings")
  if not r[1] then return nil end
  return {r[1] == digest and "repeated" or "conflict", other, r[2], r[3]}
end

local found = existing(id)
if not found and idem ~= "" then
  local kept = redis.call("GET", key("idempotency", tenant, idem))
  local other = kept and string.match(kept, "^%S+")
  if other then found = existing(other) end
end
if found then return found end

local created = now()
local job = {id = id, state = "queued", lane = queue, tenant = tenant, user = user, created = created,
             priority = tonumber(priority)}
local function waiting_in(lane) return redis.call("ZCARD", key("queued", lane)) end

-- Jobs with needs wait in lanes of their own: all of a model and a class are one lane to who asked.
local waiting = waiting_in(queue)
local others = redis.pcall("SMEMBERS", key("lanes"))  -- of another type: `darkroom doctor` tells
for _, lane in ipairs(others.err and {} or others) do
  if lane ~= queue and model_of(lane) == model and class_of(lane) == class_of(queue) then
    local told, number = pcall(waiting_in, lane)
    waiting = waiting + (told and number or 0)
  end
end
if waiting >= tonumber(most) then return {"full", waiting} end

-- No tenant fills a lane for all others, and no user what is the tenant's.
local limits, pace = limits_of(tenant), tonumber(try("HGET", key("paces"), model) or nil) or 0
local function refused(whose, index, able)
  local own = able and try("ZCARD", index)
  return own and own >= able and {"quota", whose, own, able, math.ceil(pace * tonumber(cost))} or nil
end
local over = refused("tenant", key("index", "queued", tenant), tonumber(limits.max_queued) or math.ceil(most / 10))
  or user ~= "" and refused("user", key("index", "queued", tenant, user), tonumber(limits.user_max_queued))
if over then return over end

local latest = created + job_ttl * 1000
finish_by = math.min(tonumber(finish_by) or latest, latest)
local told  -- the event's id

local MOST_MESSAGES = 1000

-- `enter` passes over keys of another type: nothing is written where one is in the way.
local function check_place()
  for _, set in ipairs({wait_key(job), key("turn", queue, tenant), key("turn", queue)}) do redis.call("ZCARD", set) end
  for _, set in ipairs({key("waits", tenant), key("lanes")}) do redis.call("SCARD", set) end
  return redis.call("LLEN", key("queue", queue))
end

local function create()
  local lying = check_place()
  redis.call("HSET", job_key(id), "id", id, "tenant", tenant, "model", model, "lane", queue, "kind", kind,
             "request", request, "digest", digest, "warnings", warnings, "state", "queued", "created", created,
             "queued", created, "claims", 0, "failures", 0, "finish_by", finish_by, "cost", cost,
             "priority", priority)
  if user ~= "" then
    redis.call("HSET", job_key(id), "user", user)
    redis.call("ZADD", key("index", "queued", tenant, user), created, id)
  end
  if needs ~= "" then redis.call("HSET", job_key(id), "needs", needs) end
  if start_by ~= "" then redis.call("HSET", job_key(id), "start_by", start_by) end
  redis.call("ZADD", key("index", "queued"), created, id)
  redis.call("ZADD", key("index", "queued", tenant), created, id)
  enter(job)
  if idem ~= "" then redis.call("SET", key("idempotency", tenant, idem), id .. " " .. digest, "EX", idem_ttl) end
  redis.call("ZADD", key("deadlines"), math.min(tonumber(start_by) or finish_by, finish_by), id)
  local event = cjson.encode({model = model, lane = class_of(queue), kind = kind, reason = "submitted"})
  told = emit(id, tenant, "job.queued", event, true)
  if not told then error(redis.error_reply("the event cannot be told: a stream is no stream, or ends in the future")) end
  -- A worker of before takes the job that the message names; no other needs more of them than it has lanes.
  if lying < MOST_MESSAGES then redis.call("LPUSH", key("queue", queue), message) end
end

local function take_back()
  redis.pcall("DEL", job_key(id), key("events", id))
  for _, name in ipairs({"index:queued", "index:queued:" .. tenant, "index:queued:" .. tenant .. ":" .. user,
                         "deadlines"}) do
    redis.pcall("ZREM", key(name), id)
  end
  pcall(leave, job)
  if idem ~= "" then redis.pcall("DEL", key("idempotency", tenant, idem)) end
  if told then redis.pcall("XDEL", key("feed"), told) end
end

local made, failure = pcall(create)
if made then return {"queued", id, request, warnings} end
take_back()
return type(failure) == "table" and failure or redis.error_reply(tostring(failure))
