-- A batch takes no more jobs, and those that it has are canceled piece by piece (`batch_work`).
-- ARGV: prefix, id, seconds that a record is kept  -> "canceled" | "already_finished" | "no_batch"
local _, id, record_ttl = unpack(ARGV)
local batch = load_batch(id)
if not batch then return "no_batch" end
if batch.ended then return "already_finished" end
if batch.canceled then return "canceled" end
redis.call("HSET", key("batch", id), "canceled", now(), "sealed", batch.sealed or now(), "reason", "canceled", "cancels", 0)
try("ZADD", key("batches_due"), now(), id)
local last = batch.last and load(batch.last)
if last then cancel_job(last, record_ttl) end
return "canceled"
