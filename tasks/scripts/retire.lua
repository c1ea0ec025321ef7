-- A worker takes its word back. ARGV: prefix, worker, model, model ...
redis.call("DEL", key("worker", ARGV[2]))
for i = 3, #ARGV do
  redis.call("ZREM", key("serving", ARGV[i]), ARGV[2])
  redis.call("ZREM", key("serving_derived", ARGV[i]), ARGV[2])
end
