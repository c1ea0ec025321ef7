-- A batch takes no more jobs; it ends with the last that it has. ARGV: prefix, id, seconds that a record is kept
-- -> "sealed" | "no_batch"
local _, id, record_ttl = unpack(ARGV)
local batch = load_batch(id)
if not batch then return "no_batch" end
if not batch.sealed then
  redis.call("HSET", key("batch", id), "sealed", now())
  try("ZREM", key("batches_due"), id)
  end_batch(id, record_ttl)
end
return "sealed"
