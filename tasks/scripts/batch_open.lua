-- Makes a batch, or opens the one that there is.
-- ARGV: prefix, id, tenant, name, metadata (JSON), milliseconds after its newest job after which it is ended, seconds
-- within which every job ends, seconds that a record is kept  -> "made" | "opened"
local _, id, tenant, name, metadata, open_ms, job_ttl, record_ttl = unpack(ARGV)
local set, at = key("batch", id), now()
if try("HGET", set, "tenant") then return "opened" end
local created = at
while try("ZCOUNT", key("batches"), created, created) == 1 do created = created + 1 end  -- pages go by it
local latest = at + open_ms + job_ttl * 1000
redis.call("HSET", set, "tenant", tenant, "name", name, "metadata", metadata, "created", created, "open_ms", open_ms,
           "total", 0, "told", at, "latest", string.format("%.0f", latest))
try("ZADD", key("batches_due"), at + open_ms, id)
for _, index in ipairs({key("batches"), key("batches", tenant)}) do
  try("ZADD", index, created, id)
  local kept = job_ttl + record_ttl + math.ceil(open_ms / 1000)
  if redis.call("TTL", index) < kept then redis.call("EXPIRE", index, kept) end
  for _, other in ipairs(try("ZRANGE", index, 0, 1) or {}) do
    if redis.call("EXISTS", key("batch", other)) == 0 then redis.call("ZREM", index, other) end
  end
end
return "made"
