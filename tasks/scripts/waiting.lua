-- The holder waits for something. ARGV: prefix, id, token, data (JSON)  -> "held" | "wish" | "cancel" | "lost"
local _, id, token, data = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
emit(id, job.tenant, "job.waiting", data, false)
return word_for(job)
