-- The holder must stop and gives the job to another worker; it costs no attempt.
-- ARGV: prefix, id, token, seconds that the record is kept if it ends here, reason  -> "done" | "lost"
local _, id, token, record_ttl, reason = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
if overtaken(job, record_ttl) then return "done" end
queue_again(job, 0, {reason = reason})
return "done"
