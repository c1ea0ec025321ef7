-- The holder of the claim ends the job. Repeating it is no fault.
-- ARGV: prefix, id, token, state, field of the payload or "", payload, event data, seconds that the record is kept
-- -> "done" | "lost"
local _, id, token, state, field, payload, event_data, record_ttl = unpack(ARGV)
local job = load(id)
if job and job.token == token and job.state == state then return "done" end
if not holds(job, token) then return "lost" end
if state == "succeeded" then redis.call("HDEL", job_key(id), "file/checkpoint") end  -- there is nothing to go on with
finish(job, state, field, payload, event_data, record_ttl)
return "done"
