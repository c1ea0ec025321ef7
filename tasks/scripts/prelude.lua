-- What every script shares, put before each of them. All keys are named here and nowhere else.
-- ARGV[1] is the prefix of all keys ("darkroom:"); job ids are UUIDs; times are milliseconds of the server's clock.
--
--   job:{id}                 hash    the record: identity, request, state, claim token, progress, result; wish/{what}: the
--                                    number of a wish that its worker is to meet, wishes: of the newest one
--   events:{id}              stream  everything that happened to the job, of its steps the newest; as long as the record
--   steps:{id}               list    ids of the steps in that stream; lives as long as the record
--   preview:{id}             string  the newest preview, a small JPEG; lives as long as the record
--   feed                     stream  state changes of all jobs, kept by age; expires
--   clock                    string  the last event id that was given out
--   index:{state}            zset    ids of all tenants in the state, by time of submission
--   index:{state}:{tenant}   zset    the same of one tenant
--   queued:{lane}            zset    ids that wait, by time of submission: the rank is the place in the queue
--   queue:{lane}             list    the messages that Celery reads: knocks on the door
--   lanes                    set     every {lane} that was ever used: {model}:interactive or {model}:bulk. Jobs that need
--                                    something have lanes of their own, {model}.NEEDS.{need}.NEEDS.{need}:bulk
--                                    (tasks/places.py); such a one goes when it was empty for an hour
--   marks                    hash    {lane}/high: newest submission claimed; {lane}/seen and /at: what the janitor saw;
--                                    {lane}/idle: since when one with needs is empty
--   leases                   zset    ids that run, by the end of their lease
--   delayed                  zset    ids that wait for their next try, by when it is due; they have no message
--   deadlines                zset    ids that have a deadline ahead, by when it is: start_by while queued, finish_by
--   attempts:{id}            list    what became of each attempt that went wrong (JSON); lives as long as the record
--   dead                     zset    ids that were given up, by when; the record has the reason; expires
--   deaths                   zset    workers that ended without a word, by when; those of the last ten minutes
--   idempotency:{tenant}:{k} string  "id digest", expires
--   loras:{tenant}           hash    name -> what there is of its newest version (JSON) of a LoRA of the tenant's own
--   models                   hash    name -> offer (JSON) of every model that was served, as the first release reads it
--   offers                   hash    the same in full
--   serving:{model}          zset    workers that serve it, by the end of their word; expires
--   serving_derived:{model}  zset    the same of a model with a base: the first release would count it as one of those that
--                                    a request means which names none
--   wake:{client}            stream  ends the blocking read of a client that is to follow more streams; expires
--   worker:{name}            string  what a worker says of itself (JSON), expires
--   store                    hash    id of the mark that the store of all objects has; made: once it lies there
--   janitor                  string  who holds the duty, expires
--   garbage                  list    messages that were no knocks, with the reason; the newest thousand; expires
--   walk                     string  how far the walk of `reconcile` has come (JSON); empty while it rests; expires
--   unreadable               zset    ids whose records lack what the scripts need, by when that was found; expires
--   _kombu*                  Celery's own

local P = ARGV[1]
local function key(...) return P .. table.concat({...}, ":") end
local function job_key(id) return P .. "job:" .. id end

local function now()
  local t = redis.call("TIME")
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The command's reply, or nil where a key is of another type. Somebody else put it there: what else there is to write is
-- written all the same, and the reconciler mends the rest once that key is gone.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= "table" or not reply.err then return reply end
  if string.find(reply.err, "WRONGTYPE", 1, true) then return nil end
  error(reply)
end

-- Ids rise even when the clock steps back, and one id serves both streams.
local function next_event_id(ms)
  local last_ms, last_seq = string.match(try("GET", key("clock")) or "", "^(%d+)-(%d+)$")
  local seq = 0
  if last_ms and tonumber(last_ms) >= ms then ms, seq = tonumber(last_ms), tonumber(last_seq) + 1 end
  local id = string.format("%.0f-%.0f", ms, seq)
  redis.call("SET", key("clock"), id)
  return id
end

local JOB_EVENTS = 20000           -- entries that a job's own stream has at most, whatever they are
local JOB_STEPS = 1000             -- of these steps
local FEED_MS = 24 * 3600 * 1000   -- how long the feed keeps a state change

-- A knock; where the lane's key is of another type the job waits without one, for the janitor.
local function push(lane, message) redis.pcall("RPUSH", key("queue", lane), message) end

local function tell(stream, trim, threshold, event, fields)
  return not redis.pcall("XADD", stream, trim, "~", threshold, event, unpack(fields)).err
end

-- Its id, or nil where it could not be told to all: that must not keep the job from being recorded.
local function emit(id, tenant, type, data, in_feed)
  local ms = now()
  local event = next_event_id(ms)
  local fields = {"type", type, "time", string.format("%.3f", ms / 1000), "job_id", id, "tenant", tenant, "data", data}
  local told = tell(key("events", id), "MAXLEN", JOB_EVENTS, event, fields)
  if type == "job.progress" then
    if (try("RPUSH", key("steps", id), event) or 0) > JOB_STEPS then
      try("XDEL", key("events", id), redis.call("LPOP", key("steps", id)))
    end
  end
  if told and in_feed then
    told = tell(key("feed"), "MINID", string.format("%.0f", ms - FEED_MS), event, fields)
    redis.call("PEXPIRE", key("feed"), FEED_MS)
  end
  return told and event or nil
end

local STATES = {queued = true, running = true, succeeded = true, failed = true, canceled = true, expired = true}
local COUNTS = {created = true, claims = true, failures = false, lost = false}  -- true: every record has it

local function is_lane(text) return string.match(text, "^[%w._-]+:%a+$") ~= nil end
local function class_of(lane) return string.match(lane, ":(%a+)$") end
local function has_needs(lane) return string.find(lane, ".NEEDS.", 1, true) ~= nil end
local function model_of(lane) return string.match(lane, "^(.-)%.NEEDS%.") or string.match(lane, "^(.*):%a+$") end

-- Whether it is a JSON list of texts; without one the lane must not say that something is needed.
local function are_needs(text, lane)
  if not text then return not has_needs(lane) end
  local read, list = pcall(cjson.decode, text)
  if not read or not string.match(text, "^%s*%[") then return false end
  for _, need in ipairs(list) do
    if type(need) ~= "string" then return false end
  end
  return true
end

-- Whether the scripts can work with these fields: else an attempt at it would end half-way. Clients read records as
-- strictly (`tasks/job.py`).
local function is_whole(fields)
  for name, needed in pairs(COUNTS) do
    if (needed and not fields[name]) or (fields[name] and not string.match(fields[name], "^%d+$")) then return false end
  end
  return STATES[fields.state] and fields.tenant and string.match(fields.tenant, "^[%w._-]+$")
    and fields.lane and is_lane(fields.lane) and are_needs(fields.needs, fields.lane)
end

local FIELDS = {"state", "tenant", "lane", "created", "token", "cancel", "claims", "start_by", "finish_by", "worker",
                "canceled_at", "failures", "lost", "needs", "wish/save", "wish/sample"}

-- The record's fields that most scripts need; nil where there is no record, nil and true where it cannot be read.
local function load(id)
  local values = try("HMGET", job_key(id), unpack(FIELDS))
  if not values then return nil, true end
  local job = {id = id}
  for i, name in ipairs(FIELDS) do job[name] = values[i] or nil end
  if not is_whole(job) then return nil, redis.call("EXISTS", job_key(id)) == 1 end
  job.cancel, job.worker = job.cancel == "1", job.worker or ""
  for _, name in ipairs({"start_by", "finish_by", "canceled_at"}) do job[name] = tonumber(job[name]) end
  return job
end

local UNREADABLE = redis.error_reply("the record of this job cannot be read")

-- Tells of a record that cannot be read, for `darkroom doctor`; true the first time.
local function note_unreadable(id, record_ttl)
  local added = try("ZADD", key("unreadable"), "NX", now(), id)
  redis.call("EXPIRE", key("unreadable"), record_ttl)
  return added == 1
end

local function move(job, state)
  try("ZREM", key("index", job.state), job.id)
  try("ZREM", key("index", job.state, job.tenant), job.id)
  try("ZADD", key("index", state), job.created, job.id)
  try("ZADD", key("index", state, job.tenant), job.created, job.id)
  redis.call("HSET", job_key(job.id), "state", state)
  job.state = state
end

-- Records expire by themselves; their places in the index are swept here, two old ones for each new one, and the index
-- of a tenant who never comes back goes with the last of them.
local function sweep_index(index, record_ttl)
  if redis.call("TTL", index) < tonumber(record_ttl) then redis.call("EXPIRE", index, record_ttl) end
  for _, id in ipairs(try("ZRANGE", index, 0, 1) or {}) do
    if redis.call("EXISTS", job_key(id)) == 0 then redis.call("ZREM", index, id) end
  end
end

-- What a job's owner may wish of it while it runs.
local WISHES = {"save", "sample"}

-- A wish was met; where it was wished once more the newer one stays.
local function meet(job, what, number)
  if job["wish/" .. what] == number then
    redis.call("HDEL", job_key(job.id), "wish/" .. what)
    job["wish/" .. what] = nil
  end
end

-- What the holder of the claim is told whenever it writes.
local function word_for(job)
  return job.cancel and "cancel" or (job["wish/save"] or job["wish/sample"]) and "wish" or "held"
end

-- Keys of one job that end with its record.
local PARTS = {"job", "events", "steps", "preview", "attempts"}

-- The one way into a terminal state. `field` and `payload`: what the record keeps of it ("result", "error" or "").
local function finish(job, state, field, payload, event_data, record_ttl)
  for _, name in ipairs({"leases", "delayed", "deadlines"}) do try("ZREM", key(name), job.id) end
  try("ZREM", key("queued", job.lane), job.id)
  move(job, state)
  redis.call("HSET", job_key(job.id), "ended", now())
  if field ~= "" then redis.call("HSET", job_key(job.id), field, payload) end
  emit(job.id, job.tenant, "job." .. state, event_data, true)
  for _, what in ipairs(WISHES) do redis.call("HDEL", job_key(job.id), "wish/" .. what) end
  for _, name in ipairs(PARTS) do redis.call("EXPIRE", key(name, job.id), record_ttl) end
  sweep_index(key("index", state), record_ttl)
  sweep_index(key("index", state, job.tenant), record_ttl)
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

-- Back into its lane, with the place of its submission. A job with `delay_ms` has no message yet: the janitor knocks.
local function queue_again(job, message, delay_ms, event)
  redis.call("HDEL", job_key(job.id), "token", "worker", "progress")
  redis.call("HSET", job_key(job.id), "queued", now())
  try("ZREM", key("leases"), job.id)
  move(job, "queued")
  set_deadline(job)
  if delay_ms > 0 then
    try("ZADD", key("delayed"), now() + delay_ms, job.id)
  else
    try("ZADD", key("queued", job.lane), job.created, job.id)
    push(job.lane, message)
  end
  try("SADD", key("lanes"), job.lane)
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
  local error = cjson.encode({code = "worker_lost", message = "worker " .. job.worker .. " ended in mid-job, or froze",
                              retryable = true, hint = "the worker's log may tell; `darkroom dead retry` tries again"})
  note_attempt(job, error)
  if lost < most or (lost < MOST_LOSSES and not to_blame(job)) then return true end
  give_up(job, error, record_ttl)
  return false
end
