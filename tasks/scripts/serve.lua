-- A worker says what it serves, and that it lives.
-- ARGV: prefix, worker, what it says of itself (JSON), seconds that its word holds, then model, whether it has a base ("1"
-- or ""), offer as the first release reads it, whole offer, model, ...
local _, worker, about, ttl = unpack(ARGV)
try("ZREM", key("deaths"), worker)  -- its word had only not been heard for a while
redis.call("SET", key("worker", worker), about, "EX", ttl)
local refused
for i = 5, #ARGV, 4 do
  local serving = key(ARGV[i + 1] == "" and "serving" or "serving_derived", ARGV[i])
  redis.call("HSET", key("models"), ARGV[i], ARGV[i + 2])
  try("HSET", key("offers"), ARGV[i], ARGV[i + 3])
  for _, lapsed in ipairs(try("ZRANGEBYSCORE", serving, "-inf", now()) or {}) do
    if lapsed ~= worker then note_death(lapsed) end  -- with or without a job: it tells of the surroundings
  end
  try("ZREMRANGEBYSCORE", serving, "-inf", now())
  if not try("ZADD", serving, now() + ttl * 1000, worker) then refused = serving end
  redis.call("EXPIRE", serving, ttl)
end
return refused and redis.error_reply("WRONGTYPE " .. refused .. " is no sorted set")
