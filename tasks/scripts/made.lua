-- One thing that the job made is stored. ARGV: prefix, id, token, "image" or "file", its place among those of this kind
-- ("2"; "latents/2", "sheet"), what is to be known of it (JSON), "1" where the job goes on from it if it is lost: then
-- losses and failures of before say nothing of what is left; the wish that it meets, and its number, or ""  -> "held" | "wish" | "cancel" | "lost"
local _, id, token, what, place, made, goes_on, wish, number = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
local field = what .. "/" .. place
if redis.call("HGET", job_key(id), field) ~= made then
  redis.call("HSET", job_key(id), field, made)
  if goes_on == "1" then
    redis.call("HSET", job_key(id), "lost", 0, "failures", 0)
    redis.call("HDEL", job_key(id), "suspect")
  end
  emit(id, job.tenant, "job." .. what, made, false)
end
if wish ~= "" then meet(job, wish, number) end
return word_for(job)
