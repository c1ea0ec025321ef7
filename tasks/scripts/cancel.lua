-- ARGV: prefix, id, seconds that the record is kept
-- -> "canceled" | "cancellation_requested" | "already_finished" | "not_found"
local _, id, record_ttl = unpack(ARGV)
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job then return "not_found" end
return cancel_job(job, record_ttl)
