-- One step of progress. ARGV: prefix, id, token, data (JSON), preview (JPEG) or ""  -> "held" | "wish" | "cancel" | "lost"
local _, id, token, data, preview = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
redis.call("HSET", job_key(id), "progress", data)
if preview ~= "" then redis.call("SET", key("preview", id), preview) end
emit(id, job.tenant, "job.progress", data, false)
return word_for(job)
