-- The keys, and how all scripts write and tell. Files of this folder are put before each script, in the order that
-- `redis_io.py` says; all keys are named here and nowhere else.
-- ARGV[1] is the prefix of all keys ("darkroom:"); job ids are UUIDs; times are milliseconds of the server's clock.
--
--   job:{id}                 hash    the record: identity, request, state, claim token, progress, result; wish/{what}: the
--                                    number of a wish that its worker is to meet, wishes: of the newest one
--   events:{id}              stream  everything that happened to the job, of its steps the newest; as long as the record
--   steps:{id}               list    ids of the steps in that stream; lives as long as the record
--   preview:{id}             string  the newest preview, a small JPEG; lives as long as the record
--   watched:{id}             string  word that somebody watches the job, whose steps are then published; expires
--   feed                     stream  state changes of all jobs, kept by age; expires
--   clock                    string  the last event id that was given out
--   index:{state}            zset    ids of all tenants in the state, by time of submission
--   index:{state}:{tenant}   zset    the same of one tenant
--   index:{state}:{tenant}:{user}  zset  the same of one user who is named, of those that wait or run
--   queued:{lane}            zset    ids that wait, by time of submission
--   queue:{lane}             list    the messages that Celery reads: knocks on the door, "one more job waits"
--   wait:{lane}:{tenant}:{user}  zset  ids of one user that wait, by priority and time of submission
--   turn:{lane}:{tenant}     zset    users that wait ("u" before their names), by when they are due; +inf: not now
--   turn:{lane}              zset    tenants that wait, likewise
--   service:{pool}           zset    when the next job of a tenant is due, in cost by weight; "=clock": the time itself. A
--                                    pool is a model with a class of lanes, as sdxl:bulk
--   service:{pool}:{tenant}  zset    the same of its users; "=" and a user: when its newest job was started, in ms
--   waits:{tenant}           set     lanes in which it waits
--   tenants                  hash    name -> what was set of a tenant (JSON): weight, limits
--   paused                   set     model:{model} and tenant:{tenant} of which nothing is started
--   paces                    hash    {model}: milliseconds that a cost of one takes; {models}/{class}: cost
--                                    that is owed to a class behind others
--                                    {models}/={pool}: its clock at the last start of a worker of these models
--   token:{token}            string  id of the job that a claim under this token took; as long as its first lease
--   lanes                    set     every {lane} that was ever used: {model}:interactive or {model}:bulk. Jobs that need
--                                    something have lanes of their own, {model}.NEEDS.{need}.NEEDS.{need}:bulk
--                                    (tasks/places.py); such a one goes when it was empty for an hour
--   marks                    hash    {lane}/idle: since when one with needs is empty
--   leases                   zset    ids that run, by the end of their lease
--   delayed                  zset    ids that wait for their next try, by when it is due; they have no message
--   suspects                 zset    ids of those in `delayed` that have one last run, alone, by when they were lost
--   alone:{tenant}           string  the worker that drains for one of them; expires
--   deadlines                zset    ids that have a deadline ahead, by when it is: start_by while queued, finish_by
--   attempts:{id}            list    what became of each attempt that went wrong (JSON); lives as long as the record
--   dead                     zset    ids that were given up, by when; the record has the reason; expires
--   deaths                   zset    workers that ended without a word, by when; those of the last ten minutes
--   idempotency:{tenant}:{k} string  "id digest", expires
--   loras:{tenant}           hash    name -> what there is of its newest version (JSON) of a LoRA of the tenant's own
--   batch:{id}               hash    tenant, name, metadata, created, sealed, canceled, expired, ended, n/{state}: jobs in it
--   batch_jobs:{id}          hash    custom_id -> id of its job
--   batch_order:{id}         zset    custom_ids, in the order in which they came
--   batch_events:{id}        stream  events of the batch; these four live as long as its record
--   batches                  zset    ids of batches, by when they were made; expires
--   batches:{tenant}         zset    the same of one tenant
--   batches_due              zset    ids of batches that the janitor has to do with, by when
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

-- A knock, before all others; where the lane's key is of another type its jobs wait without one, for the janitor.
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
