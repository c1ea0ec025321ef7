-- The worker drains no more for a job of the tenant. ARGV: prefix, worker, id  -> nothing
local _, worker, id = unpack(ARGV)
local tenant = try("HGET", job_key(id), "tenant")
if tenant and try("GET", key("alone", tenant)) == worker then redis.call("DEL", key("alone", tenant)) end
