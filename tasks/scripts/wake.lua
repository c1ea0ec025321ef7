-- Ends a client's blocking read, or lets the next one end at once.
-- ARGV: prefix, client
redis.call("XADD", key("wake", ARGV[2]), "MAXLEN", 1, "*", "wake", "")
redis.call("EXPIRE", key("wake", ARGV[2]), 60)
