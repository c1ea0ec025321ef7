-- A worker says what it serves, and that it lives.
-- ARGV: prefix, worker, what it says of itself (JSON), seconds that its word holds, then model, offer, model, offer ...
local _, worker, about, ttl = unpack(ARGV)
redis.call("ZREM", key("deaths"), worker)  -- its word had only not been heard for a while
redis.call("SET", key("worker", worker), about, "EX", ttl)
for i = 5, #ARGV, 2 do
  local serving = key("serving", ARGV[i])
  redis.call("HSET", key("models"), ARGV[i], ARGV[i + 1])
  for _, lapsed in ipairs(redis.call("ZRANGEBYSCORE", serving, "-inf", now())) do
    if lapsed ~= worker then note_death(lapsed) end  -- with or without a job: it tells of the surroundings
  end
  redis.call("ZREMRANGEBYSCORE", serving, "-inf", now())
  redis.call("ZADD", serving, now() + ttl * 1000, worker)
  redis.call("EXPIRE", serving, ttl)
end
