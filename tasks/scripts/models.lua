-- Every model that was ever served, and by how many workers now. ARGV: prefix  -> {name, offer, workers ...}
local found = {}
local models = redis.call("HGETALL", key("models"))
for i = 1, #models, 2 do
  table.insert(found, models[i])
  table.insert(found, models[i + 1])
  table.insert(found, try("ZCOUNT", key("serving", models[i]), now(), "+inf") or 0)
end
return found
