-- The heartbeat of a worker: renews all its leases, reads all cancel marks and wishes, and who is watched.
-- It is run for each running job each second, so it reads no more of a record than it needs: a record that cannot be
-- read otherwise is found by whoever writes.
-- ARGV: prefix, lease in ms, then id, token and how far it is (JSON; "" where that is published), id, token ...
-- -> per job "held" | "watched" (held, and somebody watches it) | "wish" | "cancel" | "expired" | "lost"
local at = now()
local replies, words, leases = {}, {}, {}
for i = 3, #ARGV, 3 do words[i / 3] = key("watched", ARGV[i]) end
words = words[1] and redis.call("MGET", unpack(words))

local function renewed(id, token, step, watched)
  local job, state, held = {}
  state, held, job.cancel, job.finish_by, job["wish/save"], job["wish/sample"] =
    unpack(try("HMGET", job_key(id), "state", "token", "cancel", "finish_by", "wish/save", "wish/sample") or {})
  if state ~= "running" or held ~= token then return "lost" end
  job.cancel, job.finish_by = job.cancel == "1", job.finish_by and tonumber(job.finish_by)
  if job.cancel then job.canceled_at = tonumber(redis.call("HGET", job_key(id), "canceled_at") or nil) end
  if not ((job.cancel or job.finish_by) and overstays(job)) then
    leases[#leases + 1], leases[#leases + 2] = at + ARGV[2], id
  end
  if step ~= "" then
    redis.call("HSET", job_key(id), "progress", step)
    if watched then  -- who has just come sees where it is
      emit(id, redis.call("HGET", job_key(id), "tenant") or "", "job.progress", step, false)
    end
  end
  if not job.cancel and job.finish_by and job.finish_by <= at then return "expired" end
  local word = word_for(job)
  return word == "held" and watched and "watched" or word
end

for i = 3, #ARGV, 3 do replies[i / 3] = renewed(ARGV[i], ARGV[i + 1], ARGV[i + 2], words[i / 3]) end
if leases[1] then redis.call("ZADD", key("leases"), unpack(leases)) end
return replies
