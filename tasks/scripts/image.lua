-- One image is stored. ARGV: prefix, id, token, index, image (JSON)  -> "held" | "cancel" | "lost"
local _, id, token, index, image = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
if redis.call("HGET", job_key(id), "image/" .. index) ~= image then
  redis.call("HSET", job_key(id), "image/" .. index, image)
  emit(id, job.tenant, "job.image", image, false)
end
return job.cancel and "cancel" or "held"
