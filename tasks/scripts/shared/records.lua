-- The record of a job: what of it the scripts read, and its places in the indexes.

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
                "canceled_at", "failures", "lost", "needs", "wish/save", "wish/sample", "cost", "priority", "user",
                "started", "charged", "suspect", "batch", "custom_id"}

-- The record's fields that most scripts need; nil where there is no record, nil and true where it cannot be read.
local function load(id)
  local values = try("HMGET", job_key(id), unpack(FIELDS))
  if not values then return nil, true end
  local job = {id = id}
  for i, name in ipairs(FIELDS) do job[name] = values[i] or nil end
  if not is_whole(job) then return nil, redis.call("EXISTS", job_key(id)) == 1 end
  job.cancel, job.worker, job.user = job.cancel == "1", job.worker or "", job.user or ""
  -- Producers of before say nothing of these.
  job.cost, job.priority = math.max(tonumber(job.cost) or 1, 1e-9), tonumber(job.priority) or 3
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
