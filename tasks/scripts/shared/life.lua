-- How a job's state changes: into its lane, away from its worker, to its end.

local function move(job, state)
  try("ZREM", key("index", job.state), job.id)
  try("ZREM", key("index", job.state, job.tenant), job.id)
  try("ZADD", key("index", state), job.created, job.id)
  try("ZADD", key("index", state, job.tenant), job.created, job.id)
  if job.user ~= "" then
    try("ZREM", key("index", job.state, job.tenant, job.user), job.id)
    if state == "queued" or state == "running" then
      try("ZADD", key("index", state, job.tenant, job.user), job.created, job.id)
    end
  end
  redis.call("HSET", job_key(job.id), "state", state)
  if job.batch then count_in_batch(job.batch, job.state, state) end
  job.state = state
end

-- The one way into a terminal state. `field` and `payload`: what the record keeps of it ("result", "error" or "").
local function finish(job, state, field, payload, event_data, record_ttl)
  for _, name in ipairs({"leases", "delayed", "deadlines"}) do try("ZREM", key(name), job.id) end
  local ran = job.state == "running"
  leave(job)
  move(job, state)
  if ran then let_others(job, state == "succeeded") end
  redis.call("HSET", job_key(job.id), "ended", now())
  if field ~= "" then redis.call("HSET", job_key(job.id), field, payload) end
  emit(job.id, job.tenant, "job." .. state, event_data, true)
  for _, what in ipairs(WISHES) do redis.call("HDEL", job_key(job.id), "wish/" .. what) end
  local kept = seconds_kept(job, record_ttl)
  for _, name in ipairs(PARTS) do redis.call("EXPIRE", key(name, job.id), kept) end
  redis.call("DEL", key("watched", job.id))
  sweep_index(key("index", state), kept)
  sweep_index(key("index", state, job.tenant), kept)
  if job.batch then end_batch(job.batch, record_ttl) end
end

local function lease_over(job)
  local ends = try("ZSCORE", key("leases"), job.id)
  return not ends or tonumber(ends) <= now()
end

local WORD_MS = 60 * 1000  -- how long a worker may take to stop what is canceled or too late

-- Whether the job should have ended long ago: a thread of its worker hangs. Its lease is not renewed any more.
local function overstays(job)
  local at = now() - WORD_MS
  return (job.canceled_at and job.canceled_at <= at) or (job.finish_by and job.finish_by <= at)
end

-- The fence: only the holder of the newest claim may write.
local function holds(job, token) return job and job.state == "running" and job.token == token end

-- What was started keeps its start_by, whatever became of the attempt.
local function waits_for_start(job) return job.state == "queued" and job.claims == "0" and job.start_by end

-- Which deadline is over: "start_by" for a job that was never started, "finish_by" for any; nil where none is.
local function missed(job)
  local at = now()
  if job.finish_by and job.finish_by <= at then return "finish_by" end
  if waits_for_start(job) and job.start_by <= at then return "start_by" end
  return nil
end

local function expire(job, record_ttl)
  finish(job, "expired", "", "", cjson.encode({deadline = missed(job)}), record_ttl)
end

-- What ends a job that nobody works on: its owner's wish, or a deadline. The new state, or nil.
local function overtaken(job, record_ttl)
  if job.cancel then
    finish(job, "canceled", "", "", "{}", record_ttl)
  elseif missed(job) then
    expire(job, record_ttl)
  else
    return nil
  end
  return job.state
end

local function set_deadline(job)
  local next = job.finish_by
  if waits_for_start(job) and (not next or job.start_by < next) then next = job.start_by end
  if next then try("ZADD", key("deadlines"), next, job.id) else try("ZREM", key("deadlines"), job.id) end
end

local ASIDE_MS = 600 * 1000  -- how long a suspect waits for a worker of its own

-- Whether it waits for one last run alone (`suspect` in the record: "waits", then "had").
local function is_aside(job)
  return job.state == "queued" and job.suspect == "waits" and try("ZSCORE", key("delayed"), job.id)
end

-- Back into its lane, with the place of its submission. A job with `delay_ms` waits aside: the janitor lets it in.
local function queue_again(job, delay_ms, event)
  redis.call("HDEL", job_key(job.id), "token", "worker", "progress")
  redis.call("HSET", job_key(job.id), "queued", now())
  try("ZREM", key("leases"), job.id)
  move(job, "queued")
  set_deadline(job)
  if job.suspect == "waits" then
    delay_ms = ASIDE_MS
    try("ZADD", key("suspects"), now(), job.id)
  end
  if delay_ms > 0 then
    try("ZADD", key("delayed"), now() + delay_ms, job.id)
    try("SADD", key("lanes"), job.lane)
  else
    enter(job)
  end
  let_others(job)
  wake(job.lane)
  emit(job.id, job.tenant, "job.queued", cjson.encode(event), true)
end

-- One line of the job's story. `error` is JSON.
local function note_attempt(job, error)
  local line = cjson.encode({claim = tonumber(job.claims), worker = job.worker, time = now() / 1000})
  try("RPUSH", key("attempts", job.id), string.sub(line, 1, -2) .. ',"error":' .. error .. "}")
end

local function give_up(job, error, record_ttl)
  local at = now()
  try("ZADD", key("dead"), at, job.id)
  try("ZREMRANGEBYSCORE", key("dead"), "-inf", at - record_ttl * 1000)
  redis.call("EXPIRE", key("dead"), record_ttl)
  finish(job, "failed", "error", error, '{"error":' .. error .. "}", record_ttl)
end

local DEATHS_MS = 600 * 1000  -- how long a worker's death tells something about the jobs of other workers
local MOST_LOSSES = 10        -- of a job, whatever is to blame

local function note_death(worker)
  local at = now()
  try("ZADD", key("deaths"), at, worker)
  try("ZREMRANGEBYSCORE", key("deaths"), "-inf", at - DEATHS_MS)
  redis.call("PEXPIRE", key("deaths"), DEATHS_MS)
end

-- Whether it is the job that ends its workers: fewer of them died lately without it than with it. Where many die without
-- it, the surroundings are to blame.
local function to_blame(job)
  local with, seen = 0, {}
  for _, line in ipairs(try("LRANGE", key("attempts", job.id), 0, -1) or {}) do
    local read, note = pcall(cjson.decode, line)
    local worker = read and type(note) == "table" and type(note.error) == "table" and note.error.code == "worker_lost"
                   and note.worker
    if type(worker) == "string" and not seen[worker] then
      seen[worker] = true
      if try("ZSCORE", key("deaths"), worker) then with = with + 1 end
    end
  end
  return (try("ZCARD", key("deaths")) or 0) - with < with
end

-- An attempt ended without a word: its worker died, or was frozen. True where the job may be tried again.
local function survives_loss(job, most, record_ttl)
  note_death(job.worker)
  local lost = redis.call("HINCRBY", job_key(job.id), "lost", 1)
  local last = job.suspect and ", as others before: this was its last run" or ""
  local error = cjson.encode({code = "worker_lost", message = "worker " .. job.worker .. " ended in mid-job, or froze" .. last,
                              retryable = true, hint = "the worker's log may tell; `darkroom dead retry` tries again"})
  note_attempt(job, error)
  if lost < most or (lost < MOST_LOSSES and not to_blame(job)) then return true end
  if not job.suspect then
    job.suspect = "waits"
    redis.call("HSET", job_key(job.id), "suspect", job.suspect)
    return true
  end
  redis.call("DEL", key("alone", job.tenant))
  give_up(job, error, record_ttl)
  return false
end

-- What becomes of a job that runs nowhere any more: its new state.
local function lose(job, most, record_ttl, reason)
  local over = overtaken(job, record_ttl)
  if over then return over end
  if not survives_loss(job, most, record_ttl) then return "failed" end
  queue_again(job, 0, {reason = reason})
  return "queued"
end

-- What its owner's wish to cancel it comes to.
local function cancel_job(job, record_ttl)
  if job.state == "queued" or (job.state == "running" and lease_over(job)) then
    finish(job, "canceled", "", "", "{}", record_ttl)
    return "canceled"
  end
  if job.state ~= "running" then return "already_finished" end
  if not job.cancel then redis.call("HSET", job_key(job.id), "cancel", "1", "canceled_at", now()) end
  return "cancellation_requested"
end
