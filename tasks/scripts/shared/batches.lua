-- Batches: what is counted of their jobs, and how they end. Counts are moved by the script that moves the job.

local BATCH_STATES = {"queued", "running", "succeeded", "failed", "canceled", "expired"}
local BATCH_PARTS = {"batch", "batch_jobs", "batch_order", "batch_events"}
local BATCH_FIELDS = {"tenant", "name", "sealed", "canceled", "expired", "ended", "latest", "last", "total"}
local BATCH_EVENTS, BATCH_TELL_MS = 1000, 1000

-- nil where there is none.
local function load_batch(id)
  local values = try("HMGET", key("batch", id), unpack(BATCH_FIELDS))
  if not values or not values[1] then return nil end
  local batch = {id = id, counts = {}}
  for i, name in ipairs(BATCH_FIELDS) do batch[name] = values[i] or nil end
  for i, number in ipairs(redis.call("HMGET", key("batch", id), "n/queued", "n/running", "n/succeeded", "n/failed",
                                     "n/canceled", "n/expired")) do
    batch.counts[BATCH_STATES[i]] = tonumber(number) or 0
  end
  batch.open = batch.counts.queued + batch.counts.running
  return batch
end

-- As `Batch.decode` has it (tasks/batches/models.py).
local function state_of_batch(batch)
  return batch.canceled and "canceled" or batch.expired and "expired" or batch.ended and "completed"
    or batch.sealed and "sealed" or "open"
end

local function tell_batch(batch, type, in_feed)
  local ms = now()
  local event = next_event_id(ms)
  local data = cjson.encode({batch = batch.id, name = batch.name, state = state_of_batch(batch), counts = batch.counts,
                             total = tonumber(batch.total) or 0, last = batch.last})
  local fields = {"type", type, "time", string.format("%.3f", ms / 1000), "job_id", "", "tenant", batch.tenant, "data", data}
  tell(key("batch_events", batch.id), "MAXLEN", BATCH_EVENTS, event, fields)
  if in_feed and tell(key("feed"), "MINID", string.format("%.0f", ms - FEED_MS), event, fields) then
    redis.call("PEXPIRE", key("feed"), FEED_MS)
  end
end

-- One job of the batch goes from one state to another; nil: it comes, or leaves.
local function count_in_batch(id, from, to)
  local set = key("batch", id)
  if not try("HGET", set, "tenant") then return end
  if from then redis.call("HINCRBY", set, "n/" .. from, -1) end
  if to then redis.call("HINCRBY", set, "n/" .. to, 1) end
  local told = tonumber(redis.call("HGET", set, "told") or nil) or 0
  if now() - told < BATCH_TELL_MS then return end
  redis.call("HSET", set, "told", now())
  tell_batch(load_batch(id), "batch.progress", false)
end

-- How long the record of a job is kept that ends now: of a batch's as long as the batch, which has ended at `latest` at
-- the latest; when it has, the janitor shortens it.
local function seconds_kept(job, record_ttl)
  local ended, latest
  if job.batch then ended, latest = unpack(try("HMGET", key("batch", job.batch), "ended", "latest") or {}) end
  if ended or not latest then return record_ttl end
  return math.max(0, math.ceil((latest - now()) / 1000)) + record_ttl
end

-- The job that was held until its batch has ended goes into its lane.
local function release_last(id)
  local job = load(id)
  if not job or job.state ~= "queued" or try("ZREM", key("delayed"), id) ~= 1 then return end
  enter(job)
  wake(job.lane)
end

-- Ends a batch that takes no more jobs, and of which none is left.
local function end_batch(id, record_ttl)
  local batch = load_batch(id)
  if not batch or batch.ended or not batch.sealed or batch.open > 0 then return end
  batch.ended = now()
  redis.call("HSET", key("batch", id), "ended", batch.ended, "swept", 0)
  try("ZADD", key("batches_due"), batch.ended, id)  -- its jobs' records are kept as long as its own
  tell_batch(batch, "batch.completed", true)
  for _, part in ipairs(BATCH_PARTS) do redis.call("EXPIRE", key(part, id), record_ttl) end
  if batch.last then release_last(batch.last) end
end
