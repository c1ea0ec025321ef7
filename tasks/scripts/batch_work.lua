-- A piece of what is to be done for a batch: cancel its jobs; keep their records as long as its own, once it has ended;
-- end one that nobody sealed. ARGV: prefix, id or "" for any that is due, most jobs, seconds that a record is kept
-- -> {id, "canceling" | "sweeping" | "expired" | "done"}, or {} where none is due
local _, id, most, record_ttl = unpack(ARGV)
if id == "" then
  id = (try("ZRANGEBYSCORE", key("batches_due"), "-inf", now(), "LIMIT", 0, 1) or {})[1]
  if not id then return {} end
end
local set, batch = key("batch", id), load_batch(id)

local function done(what)
  try("ZREM", key("batches_due"), id)
  return {id, what}
end

-- The next jobs behind where `cursor` says, and whether they are the last.
local function piece(cursor)
  local from = redis.call("HGET", set, cursor)
  local page = try("ZRANGEBYSCORE", key("batch_order", id), "(" .. (from or 0), "+inf", "WITHSCORES", "LIMIT", 0, most) or {}
  local jobs = {}
  for i = 1, #page, 2 do table.insert(jobs, try("HGET", key("batch_jobs", id), page[i]) or nil) end
  if #page > 0 then redis.call("HSET", set, cursor, page[#page]) end
  return jobs, #page < 2 * tonumber(most)
end

local function cancel_piece()
  local jobs, last = piece("cancels")
  for _, one in ipairs(jobs) do
    local job = load(one)
    if job then cancel_job(job, record_ttl) end
  end
  if not last then return {id, "canceling"} end
  redis.call("HDEL", set, "cancels")
  end_batch(id, record_ttl)
  if redis.call("HGET", set, "ended") then return {id, "sweeping"} end
  return done("done")
end

local function sweep_piece()
  local jobs, last = piece("swept")
  for _, one in ipairs(jobs) do
    local job = load(one)
    if job and job.state ~= "queued" and job.state ~= "running" then
      local kept = seconds_kept(job, record_ttl)
      for _, part in ipairs(PARTS) do redis.call("EXPIRE", key(part, one), kept) end
    end
  end
  if not last then return {id, "sweeping"} end
  return done("done")
end

if not batch then return done("done") end
if redis.call("HEXISTS", set, "cancels") == 1 then return cancel_piece() end
if batch.sealed then return sweep_piece() end
local open_ms = tonumber(redis.call("HGET", set, "open_ms") or nil) or 0
redis.call("HSET", set, "sealed", now(), "expired", now(), "reason",
           string.format("not sealed within %g s of its newest job", open_ms / 1000))
done()
end_batch(id, record_ttl)
return {id, "expired"}
