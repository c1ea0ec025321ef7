-- The holder must stop and gives the job to another worker; it costs no attempt.
-- ARGV: prefix, id, token, message, seconds that the record is kept if it ends here  -> "done" | "lost"
local _, id, token, message, record_ttl = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
if overtaken(job, record_ttl) then return "done" end
queue_again(job, message, 0, {reason = "drained"})
return "done"
