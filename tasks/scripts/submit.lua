-- Record, index, event and message of a new job, all or nothing: what cannot be written to its end is taken back. Safe to
-- repeat under the same id.
-- ARGV: prefix, id, tenant, model, lane (its whole name), kind, request, digest, warnings, idempotency key or "", its
-- seconds, message, start_by and finish_by in ms or "", most jobs that may wait in the lane, seconds within which every job
-- ends, needs (JSON) or "", cost, priority, user or ""; of a batch its id, custom_id, and what the job is in it: "" one of
-- its jobs, "retry" one in place of one that failed, "last" the one that is held until all others have ended
-- -> {"queued" | "repeated" | "conflict", id, request, warnings}, {"full", number that wait}, or {"quota", "tenant" or
-- "user", number that wait, most that may, milliseconds after which to try again}, or {"no_batch" | "batch_sealed" |
-- "batch_canceled"}
local _, id, tenant, model, queue, kind, request, digest, warnings, idem, idem_ttl, message, start_by, finish_by, most,
  job_ttl, needs, cost, priority, user, batch, custom_id, part = unpack(ARGV)
if batch == "" then batch = nil end

local function existing(other)
  local r = redis.call("HMGET", job_key(other), "digest", "request", "warnings")
  if not r[1] then return nil end
  return {r[1] == digest and "repeated" or "conflict", other, r[2], r[3]}
end

local group = batch and load_batch(batch)
if batch and not group then return {"no_batch"} end
local kept = batch and (part == "last" and group.last or try("HGET", key("batch_jobs", batch), custom_id) or nil)
local failed  -- the job in whose place this one comes
if part == "retry" and kept ~= id then
  failed = kept and load(kept)
  if not failed or failed.state ~= "failed" then return existing(kept or "") or {"no_batch"} end
end
local found = existing(kept and not failed and kept or id)
if not found and idem ~= "" then
  local kept = redis.call("GET", key("idempotency", tenant, idem))
  local other = kept and string.match(kept, "^%S+")
  if other then found = existing(other) end
end
if found then return found end
if group and group.canceled then return {"batch_canceled"} end
if group and group.sealed and not failed then return {"batch_sealed"} end

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
  if batch then
    redis.call("HLEN", key("batch_jobs", batch))
    for _, name in ipairs({key("batch_order", batch), key("batches_due"), key("delayed")}) do redis.call("ZCARD", name) end
  end
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
  if part == "last" then
    redis.call("ZADD", key("delayed"), "+inf", id)
    redis.call("SADD", key("lanes"), queue)
  else
    enter(job)
  end
  if idem ~= "" then redis.call("SET", key("idempotency", tenant, idem), id .. " " .. digest, "EX", idem_ttl) end
  redis.call("ZADD", key("deadlines"), math.min(tonumber(start_by) or finish_by, finish_by), id)
  local event = cjson.encode({model = model, lane = class_of(queue), kind = kind, reason = "submitted"})
  told = emit(id, tenant, "job.queued", event, true)
  if not told then error(redis.error_reply("the event cannot be told: a stream is no stream, or ends in the future")) end
  -- A worker of before takes the job that the message names; no other needs more of them than it has lanes.
  if lying < MOST_MESSAGES and part ~= "last" then redis.call("LPUSH", key("queue", queue), message) end
end

-- Its place in its batch.
local function join()
  local set, latest = key("batch", batch), created + job_ttl * 1000
  if part == "last" then return redis.call("HSET", set, "last", id) end
  redis.call("HSET", job_key(id), "batch", batch, "custom_id", custom_id)
  redis.call("HSET", key("batch_jobs", batch), custom_id, id)
  if failed then
    redis.call("HDEL", job_key(kept), "batch", "custom_id")
    try("ZREM", key("dead"), kept)
    redis.call("HDEL", set, "ended")
    redis.call("HSET", set, "swept", 0)
    redis.call("ZADD", key("batches_due"), created, batch)
    for _, name in ipairs(BATCH_PARTS) do redis.call("PERSIST", key(name, batch)) end
  else
    redis.call("HINCRBY", set, "total", 1)
    redis.call("ZADD", key("batch_order", batch), "NX", redis.call("HINCRBY", set, "number", 1), custom_id)
    local open_ms = tonumber(redis.call("HGET", set, "open_ms") or nil) or 0
    latest = latest + open_ms
    redis.call("ZADD", key("batches_due"), created + open_ms, batch)
  end
  redis.call("HSET", set, "latest", string.format("%.0f", math.max(tonumber(group.latest) or 0, latest)))
  count_in_batch(batch, failed and "failed", "queued")
end

local function take_back()
  redis.pcall("DEL", job_key(id), key("events", id))
  for _, name in ipairs({"index:queued", "index:queued:" .. tenant, "index:queued:" .. tenant .. ":" .. user,
                         "deadlines", "delayed"}) do
    redis.pcall("ZREM", key(name), id)
  end
  pcall(leave, job)
  if idem ~= "" then redis.pcall("DEL", key("idempotency", tenant, idem)) end
  if told then redis.pcall("XDEL", key("feed"), told) end
end

local made, failure = pcall(create)
if made and batch then join() end
if made then return {"queued", id, request, warnings} end
take_back()
return type(failure) == "table" and failure or redis.error_reply(tostring(failure))
