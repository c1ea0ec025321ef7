-- The holder must stop and gives the job to another worker; it costs no attempt.
-- ARGV: prefix, id, token, message  -> "done" | "lost"
local _, id, token, message = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
queue_again(job, message, 0, {reason = "drained"})
return "done"
