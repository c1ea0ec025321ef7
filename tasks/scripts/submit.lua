-- Record, index, event and message of a new job, all or nothing; safe to repeat under the same id.
-- ARGV: prefix, id, tenant, model, lane, kind, request, digest, warnings, idempotency key or "", its seconds, message,
-- start_by and finish_by in ms or "", most jobs that may wait in the lane, seconds within which every job ends
-- -> {"queued" | "repeated" | "conflict", id, request, warnings} or {"full", number that wait}
local _, id, tenant, model, lane, kind, request, digest, warnings, idem, idem_ttl, message, start_by, finish_by, most,
  job_ttl = unpack(ARGV)

local function existing(other)
  local r = redis.call("HMGET", job_key(other), "digest", "request", "warnings")
  if not r[1] then return nil end
  return {r[1] == digest and "repeated" or "conflict", other, r[2], r[3]}
end

local found = existing(id)
if not found and idem ~= "" then
  local kept = redis.call("GET", key("idempotency", tenant, idem))
  if kept then found = existing(string.match(kept, "^(%S+)")) end
end
if found then return found end

local created = now()
local queue = model .. ":" .. lane
-- messages of jobs that were canceled stay until a worker reads them
local waiting = math.max(redis.call("ZCARD", key("queued", queue)), redis.call("LLEN", key("queue", queue)))
if waiting >= tonumber(most) then return {"full", waiting} end
redis.call("HSET", job_key(id), "id", id, "tenant", tenant, "model", model, "lane", queue, "kind", kind,
           "request", request, "digest", digest, "warnings", warnings, "state", "queued", "created", created,
           "queued", created, "claims", 0, "failures", 0)
redis.call("ZADD", key("index", "queued"), created, id)
redis.call("ZADD", key("index", "queued", tenant), created, id)
redis.call("ZADD", key("queued", queue), created, id)
redis.call("SADD", key("lanes"), queue)
if idem ~= "" then redis.call("SET", key("idempotency", tenant, idem), id .. " " .. digest, "EX", idem_ttl) end
if start_by ~= "" then redis.call("HSET", job_key(id), "start_by", start_by) end
local latest = created + job_ttl * 1000
redis.call("HSET", job_key(id), "finish_by", math.min(tonumber(finish_by) or latest, latest))
set_deadline(load(id))
emit(id, tenant, "job.queued", cjson.encode({model = model, lane = lane, kind = kind, reason = "submitted"}), true)
redis.call("LPUSH", key("queue", queue), message)
return {"queued", id, request, warnings}
