-- The holder's attempt failed for a reason that may pass: again after a while, or given up.
-- ARGV: prefix, id, token, error (JSON), delay in ms, most failures, seconds that the record is kept if it ends here
-- -> "retried" | "dead" | "canceled" | "expired" | "lost"
local _, id, token, error, delay_ms, most, record_ttl = unpack(ARGV)
local job = load(id)
if job and job.token == token and job.state == "failed" then return "dead" end
if not holds(job, token) then return "lost" end
local failures = redis.call("HINCRBY", job_key(id), "failures", 1)
note_attempt(job, error)
local over = overtaken(job, record_ttl)  -- the owner's wish and the deadline come first
if over then return over end
if failures >= tonumber(most) then
  give_up(job, error, record_ttl)
  return "dead"
end
local found = cjson.decode(error)
queue_again(job, tonumber(delay_ms), {reason = "retry", code = found.code, failures = failures,
                                      delay_s = tonumber(delay_ms) / 1000})
return "retried"
